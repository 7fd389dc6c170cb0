/** How a chat's answer becomes a response or its events. */
import type { ChatCompletion, ChatCompletionChunk, CompletionUsage, FinishReason } from "../chat.js";
import { AbortedError } from "../errors.js";
import { randomId } from "../id.js";
import { toApiError } from "./errors.js";
import type {
  EventBody,
  ModelResponse,
  ResponseCreateParams,
  ResponseFunctionCall,
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseReasoning,
  ResponseStreamEvent,
} from "./response-types.js";

/** Builds the objects of one response. */
export class ResponseBuilder {
  readonly #head: ModelResponse;
  readonly #onEnd: (response: ModelResponse) => void;
  #number = 0;

  /** `onEnd` gets the response when it is complete. */
  constructor(model: string, params: ResponseCreateParams, onEnd: (response: ModelResponse) => void) {
    this.#onEnd = onEnd;
    this.#head = {
      id: `resp_${randomId()}`,
      object: "response",
      created_at: Math.floor(Date.now() / 1000),
      model,
      status: "in_progress",
      error: null,
      incomplete_details: null,
      instructions: params.instructions ?? null,
      max_output_tokens: params.max_output_tokens ?? null,
      metadata: params.metadata ?? {},
      output: [],
      parallel_tool_calls: params.parallel_tool_calls ?? true,
      previous_response_id: null,
      temperature: params.temperature ?? 1,
      text: { format: params.text?.format ?? { type: "text" } },
      tool_choice: params.tool_choice ?? "auto",
      tools: params.tools ?? [],
      top_p: params.top_p ?? 1,
      usage: null,
    };
  }

  /** The response in one piece. */
  whole({ choices: [choice], usage }: ChatCompletion): ModelResponse {
    const { content, reasoning_content: thought, tool_calls: calls = [] } = choice?.message ?? {};
    const output: ResponseOutputItem[] = [];
    if (thought) output.push(reasoningItem(thought));
    if (content || calls.length === 0) output.push(messageItem(content ?? ""));
    for (const { id, function: called } of calls) output.push(callItem(id, called.name, called.arguments));
    return this.#ended(output, choice?.finish_reason ?? "stop", usage);
  }

  /** The events of a streamed response. */
  async *events(chunks: AsyncIterable<ChatCompletionChunk>): AsyncGenerator<ResponseStreamEvent, void> {
    yield this.#event({ type: "response.created", response: this.#head });
    yield this.#event({ type: "response.in_progress", response: this.#head });
    // In the order in which they begin.
    const output: ResponseOutputItem[] = [];
    let thought: ResponseReasoning | undefined;
    let message: ResponseOutputMessage | undefined;
    let call: ReturnType<typeof callItem> | undefined;
    let finish: FinishReason = "stop";
    let usage: CompletionUsage | null = null;
    try {
      for await (const chunk of chunks) {
        const [choice] = chunk.choices;
        const { reasoning_content: thinks, content: says, tool_calls: calls = [] } = choice?.delta ?? {};
        if (thinks) {
          if (!thought) yield* this.#begun(output, (thought = reasoningItem("")));
          thought.content[0].text += thinks;
          const place = placeOf(output, thought);
          yield this.#event({ type: "response.reasoning_text.delta", ...place, delta: thinks });
        }
        if (says) {
          if (!message) yield* this.#begun(output, (message = messageItem("")));
          message.content[0].text += says;
          const place = placeOf(output, message);
          yield this.#event({ type: "response.output_text.delta", ...place, delta: says, logprobs: [] });
        }
        for (const { id, function: piece } of calls) {
          if (id !== undefined) yield* this.#begun(output, (call = callItem(id, piece.name ?? "", "")));
          if (!call || piece.arguments === "") continue;
          call.arguments += piece.arguments;
          const { item_id, output_index } = placeOf(output, call);
          const delta = { item_id, output_index, delta: piece.arguments };
          yield this.#event({ type: "response.function_call_arguments.delta", ...delta });
        }
        finish = choice?.finish_reason ?? finish;
        usage = chunk.usage ?? usage;
      }
    } catch (error) {
      if (error instanceof AbortedError) throw error;
      const { message: text, code } = toApiError(error).body.error;
      const failed = { code: code ?? "internal", message: text };
      yield this.#event({
        type: "response.failed",
        response: { ...this.#head, status: "failed", error: failed },
      });
      return;
    }
    if (!message && !call) yield* this.#begun(output, messageItem(""));
    const response = this.#ended(output, finish, usage);
    for (const item of response.output) yield* this.#done(response.output, item);
    const isComplete = response.status === "completed";
    yield this.#event({ type: isComplete ? "response.completed" : "response.incomplete", response });
  }

  #event(body: EventBody): ResponseStreamEvent {
    return { ...body, sequence_number: this.#number++ };
  }

  /** Adds an item that begins, still empty. */
  *#begun(output: ResponseOutputItem[], item: ResponseOutputItem): Generator<ResponseStreamEvent> {
    output.push(item);
    const place = placeOf(output, item);
    const { output_index } = place;
    const added = { ...item, status: "in_progress" as const };
    const empty = added.type === "function_call" ? added : { ...added, content: [] };
    yield this.#event({
      type: "response.output_item.added",
      output_index,
      // Its content follows.
      item: empty as unknown as ResponseOutputItem,
    });
    if (item.type !== "function_call")
      yield this.#event({ type: "response.content_part.added", ...place, part: { ...item.content[0] } });
  }

  /** The events at the end of an item. */
  *#done(output: ResponseOutputItem[], item: ResponseOutputItem): Generator<ResponseStreamEvent> {
    const place = placeOf(output, item);
    const { item_id, output_index } = place;
    if (item.type === "function_call") {
      const { name, arguments: json } = item;
      const whole = { item_id, output_index, name, arguments: json };
      yield this.#event({ type: "response.function_call_arguments.done", ...whole });
    } else {
      const [part] = item.content;
      const { text } = part;
      yield this.#event(
        part.type === "output_text"
          ? { type: "response.output_text.done", ...place, text, logprobs: [] }
          : { type: "response.reasoning_text.done", ...place, text },
      );
      yield this.#event({ type: "response.content_part.done", ...place, part });
    }
    yield this.#event({ type: "response.output_item.done", output_index, item });
  }

  #ended(items: ResponseOutputItem[], finish: FinishReason, usage: CompletionUsage | null): ModelResponse {
    const status = finish === "length" ? ("incomplete" as const) : ("completed" as const);
    const response: ModelResponse = {
      ...this.#head,
      status,
      incomplete_details: finish === "length" ? { reason: "max_output_tokens" } : null,
      output: items.map((item) => ({ ...item, status })),
      usage: usage && {
        input_tokens: usage.prompt_tokens,
        input_tokens_details: usage.prompt_tokens_details,
        output_tokens: usage.completion_tokens,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: usage.total_tokens,
      },
    };
    this.#onEnd(response);
    return response;
  }
}

/** Where the content of an item belongs. */
function placeOf(output: ResponseOutputItem[], { id }: ResponseOutputItem) {
  const output_index = output.findIndex((item) => item.id === id);
  return { item_id: id, output_index, content_index: 0 as const };
}

function messageItem(text: string): ResponseOutputMessage {
  const part = { type: "output_text" as const, text, annotations: [], logprobs: [] };
  return {
    type: "message",
    id: `msg_${randomId()}`,
    role: "assistant",
    status: "in_progress",
    content: [part],
  };
}

function reasoningItem(text: string): ResponseReasoning {
  const part = { type: "reasoning_text" as const, text };
  return { type: "reasoning", id: `rs_${randomId()}`, summary: [], status: "in_progress", content: [part] };
}

function callItem(call_id: string, name: string, json: string): ResponseFunctionCall & { id: string } {
  return { type: "function_call", id: `fc_${randomId()}`, call_id, name, arguments: json };
}
