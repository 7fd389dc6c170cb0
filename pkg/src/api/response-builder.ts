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
    // In the order in which they begin; each ends when the next one begins.
    const output: ResponseOutputItem[] = [];
    let finish: FinishReason = "stop";
    let usage: CompletionUsage | null = null;
    try {
      for await (const chunk of chunks) {
        const [choice] = chunk.choices;
        const { reasoning_content: thinks, content: says, tool_calls: calls = [] } = choice?.delta ?? {};
        if (thinks) {
          if (output.at(-1)?.type !== "reasoning") yield* this.#begun(output, reasoningItem(""));
          const place = added(output, "reasoning", (item) => (item.content[0].text += thinks));
          yield this.#event({ type: "response.reasoning_text.delta", ...place, delta: thinks });
        }
        if (says) {
          if (output.at(-1)?.type !== "message") yield* this.#begun(output, messageItem(""));
          const place = added(output, "message", (item) => (item.content[0].text += says));
          yield this.#event({ type: "response.output_text.delta", ...place, delta: says, logprobs: [] });
        }
        for (const { id, function: piece } of calls) {
          if (id !== undefined) yield* this.#begun(output, callItem(id, piece.name ?? "", ""));
          if (output.at(-1)?.type !== "function_call" || piece.arguments === "") continue;
          const place = added(output, "function_call", (item) => (item.arguments += piece.arguments));
          const { item_id, output_index } = place;
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
    if (output.every(({ type }) => type === "reasoning")) yield* this.#begun(output, messageItem(""));
    const response = this.#ended(output, finish, usage);
    yield* this.#done(response.output);
    const isComplete = response.status === "completed";
    yield this.#event({ type: isComplete ? "response.completed" : "response.incomplete", response });
  }

  #event(body: EventBody): ResponseStreamEvent {
    return { ...body, sequence_number: this.#number++ };
  }

  /** Adds an item that begins, still empty. The one before it has ended. */
  *#begun(output: ResponseOutputItem[], item: ResponseOutputItem): Generator<ResponseStreamEvent> {
    const last = output.at(-1);
    if (last) {
      last.status = "completed";
      yield* this.#done(output);
    }
    output.push(item);
    const place = placeOfLast(output);
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

  /** The events at the end of the last item. */
  *#done(output: ResponseOutputItem[]): Generator<ResponseStreamEvent> {
    const item = output.at(-1);
    if (!item) return;
    const place = placeOfLast(output);
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
      // What was cut off is the last one.
      output: items.map((item, i) => ({ ...item, status: i < items.length - 1 ? "completed" : status })),
      usage: usage && usageOf(usage),
    };
    this.#onEnd(response);
    return response;
  }
}

/** `usage` of a chat; servers may leave the details out. */
function usageOf({ prompt_tokens, completion_tokens, total_tokens, ...details }: CompletionUsage) {
  const { prompt_tokens_details: input, completion_tokens_details: output }: Partial<CompletionUsage> =
    details;
  return {
    input_tokens: prompt_tokens,
    input_tokens_details: { cached_tokens: input?.cached_tokens ?? 0 },
    output_tokens: completion_tokens,
    output_tokens_details: { reasoning_tokens: output?.reasoning_tokens ?? 0 },
    total_tokens,
  };
}

/** Where the content of the last item belongs. */
function placeOfLast(output: ResponseOutputItem[]) {
  const item_id = output.at(-1)?.id ?? "";
  return { item_id, output_index: output.length - 1, content_index: 0 as const };
}

/** Adds to the last item, if it is of this type, and says where. */
function added<T extends ResponseOutputItem["type"]>(
  output: ResponseOutputItem[],
  type: T,
  add: (item: Extract<ResponseOutputItem, { type: T }>) => void,
) {
  const item = output.at(-1);
  if (item?.type === type) add(item as Extract<ResponseOutputItem, { type: T }>);
  return placeOfLast(output);
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
