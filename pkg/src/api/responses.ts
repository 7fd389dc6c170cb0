/**
 * OpenAI's `responses`, computed by `chat.completions`: how a request becomes a chat's, and how a chat's
 * answer becomes a response or its events. Stateless: nothing is kept between two responses.
 */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatContent,
  ChatMessage,
  ChatTool,
  ChatToolCall,
  ChatToolChoice,
  CompletionUsage,
  FinishReason,
  ResponseFormat,
} from "../chat.js";
import type { ChatCompletions, CompletionOptions } from "../engine.js";
import { AbortedError, InvalidRequestError } from "../errors.js";
import { randomId } from "../id.js";
import { record } from "../request.js";
import { toApiError } from "./errors.js";
import type {
  EventBody,
  ModelResponse,
  Place,
  ResponseCreateParams,
  ResponseFunctionCall,
  ResponseOutputMessage,
  ResponseOutputText,
  ResponseStreamEvent,
  Responses,
} from "./response-types.js";

/** `responses` that are computed by these `completions`. */
export function responsesOf(model: string, completions: ChatCompletions): Responses {
  const create = async (params: ResponseCreateParams, options?: CompletionOptions) => {
    const chat = chatParams(params);
    const builder = new ResponseBuilder(model, params);
    if (!params.stream) return builder.whole(await completions.create({ ...chat, stream: false }, options));
    const stream_options = { include_usage: true };
    return builder.events(await completions.create({ ...chat, stream: true, stream_options }, options));
  };
  return { create: create as Responses["create"] };
}

/** Parameters that mean the same in a chat, with their names there. */
const SAME = new Map([
  ["max_output_tokens", "max_completion_tokens"],
  ["temperature", "temperature"],
  ["top_p", "top_p"],
  ["parallel_tool_calls", "parallel_tool_calls"],
  ["user", "user"],
]);

/** Parameters that are used here, or do not affect the answer. */
const OTHERS = new Set([
  "input",
  "instructions",
  "model",
  "stream",
  "stream_options",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "include",
  "truncation",
  "text",
  "tools",
  "tool_choice",
]);

/** The chat of a response; throws InvalidRequestError with the field that is wrong. */
function chatParams(params: ResponseCreateParams): ChatCompletionCreateParams {
  const given = record(params, "the parameters");
  const chat: ChatCompletionCreateParams & Record<string, unknown> = { messages: messages(given) };
  for (const [name, value] of Object.entries(given)) {
    if (value == null || OTHERS.has(name)) continue;
    const same = SAME.get(name);
    if (!same) throw new InvalidRequestError(`\`${name}\` is not supported.`, name);
    chat[same] = value;
  }
  const most: unknown = given["max_output_tokens"];
  if (most != null && !(Number.isSafeInteger(most) && (most as number) > 0))
    throw new InvalidRequestError("`max_output_tokens` must be an integer above 0.", "max_output_tokens");
  oneOf(given, "truncation", ["disabled"]);
  const tools = toolsOf(given["tools"]);
  if (tools) chat["tools"] = tools;
  const choice = choiceOf(given["tool_choice"]);
  if (choice) chat["tool_choice"] = choice;
  const format = textFormat(given["text"]);
  if (format) chat["response_format"] = format;
  return chat;
}

function messages({ instructions, input }: Record<string, unknown>): ChatMessage[] {
  const list: ChatMessage[] = [];
  if (instructions != null) {
    if (typeof instructions !== "string")
      throw new InvalidRequestError("`instructions` must be a text.", "instructions");
    list.push({ role: "system", content: instructions });
  }
  if (typeof input === "string") return [...list, { role: "user", content: input }];
  if (!Array.isArray(input) || input.length === 0)
    throw new InvalidRequestError("`input` must be a text or a list with at least one item.", "input");
  for (const [index, item] of input.entries()) {
    const at = `input[${index}]`;
    const { type, role, content, ...call } = record(item, at);
    // What a model thought in earlier turns is not shown to it again.
    if (type === "reasoning") continue;
    if (type === "function_call") {
      const { call_id: id, name, arguments: json } = call;
      const made = { id, type: "function", function: { name, arguments: json } } as ChatToolCall;
      const last = list.at(-1);
      // Calls of one answer belong to one message.
      if (last?.role === "assistant") last.tool_calls = [...(last.tool_calls ?? []), made];
      else list.push({ role: "assistant", content: null, tool_calls: [made] });
      continue;
    }
    if (type === "function_call_output") {
      const { call_id, output } = call;
      list.push({
        role: "tool",
        tool_call_id: call_id as string,
        content: contentOf(output, `${at}.output`),
      });
      continue;
    }
    if (type != null && type !== "message")
      throw new InvalidRequestError(`Items of the type \`${String(type)}\` are not supported.`, `${at}.type`);
    list.push({ role: role as "user", content: contentOf(content, `${at}.content`) });
  }
  return list;
}

/** A response's tools as a chat's, where they lie one level deeper. */
function toolsOf(tools: unknown): ChatTool[] | undefined {
  if (tools == null) return undefined;
  if (!Array.isArray(tools)) throw new InvalidRequestError("`tools` must be a list.", "tools");
  return tools.map((tool: unknown, index) => {
    const { type, ...described } = record(tool, `tools[${index}]`);
    // What it holds is checked with the rest of the chat.
    return { type, function: described } as unknown as ChatTool;
  });
}

function choiceOf(choice: unknown): ChatToolChoice | undefined {
  if (choice == null) return undefined;
  if (typeof choice === "string") return choice as ChatToolChoice;
  const { type, name } = record(choice, "tool_choice");
  if (type !== "function" || typeof name !== "string")
    throw new InvalidRequestError(
      '`tool_choice` must be "auto", "none", "required" or { type: "function", name }.',
      "tool_choice",
    );
  return { type, function: { name } };
}

function contentOf(content: unknown, at: string): ChatContent {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    throw new InvalidRequestError(`\`${at}\` must be a text or a list of text parts.`, at);
  return content.map((item: unknown, index) => {
    const { type, text } = record(item, `${at}[${index}]`);
    if ((type !== "input_text" && type !== "output_text") || typeof text !== "string")
      throw new InvalidRequestError(
        `\`${at}[${index}]\` must be { type: "input_text" or "output_text", text }.`,
        `${at}[${index}]`,
      );
    return { type: "text", text };
  });
}

/** `text.format` as `response_format` of a chat, where the schema lies one level deeper. */
function textFormat(text: unknown): ResponseFormat | undefined {
  if (text == null) return undefined;
  const { format } = record(text, "text");
  if (format == null) return undefined;
  const { type, ...rest } = record(format, "text.format");
  // What it holds is checked with the rest of the chat.
  return (type === "json_schema" ? { type, json_schema: rest } : { type }) as ResponseFormat;
}

function oneOf(given: Record<string, unknown>, name: string, values: string[]): void {
  const value = given[name];
  if (value != null && !values.includes(value as string))
    throw new InvalidRequestError(`\`${name}\` must be ${values.map((it) => `"${it}"`).join(" or ")}.`, name);
}

/** Builds the objects of one response. */
class ResponseBuilder {
  readonly #head: ModelResponse;
  readonly #itemId: string;
  #number = 0;

  constructor(model: string, params: ResponseCreateParams) {
    const random = randomId();
    this.#itemId = `msg_${random}`;
    this.#head = {
      id: `resp_${random}`,
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
    const calls = (choice?.message.tool_calls ?? []).map(functionCall);
    return this.#ended(choice?.message.content ?? "", calls, choice?.finish_reason ?? "stop", usage);
  }

  /** The events of a streamed response. */
  async *events(chunks: AsyncIterable<ChatCompletionChunk>): AsyncGenerator<ResponseStreamEvent, void> {
    const place: Place = { item_id: this.#itemId, output_index: 0, content_index: 0 };
    yield this.#event({ type: "response.created", response: this.#head });
    yield this.#event({ type: "response.in_progress", response: this.#head });
    const begin = () => [
      this.#event({
        type: "response.output_item.added",
        output_index: 0,
        item: { ...this.#item("", "in_progress"), content: [] },
      }),
      this.#event({ type: "response.content_part.added", ...place, part: part("") }),
    ];
    let text = "";
    const calls: (ResponseFunctionCall & { id: string })[] = [];
    let finish: FinishReason = "stop";
    let usage: CompletionUsage | null = null;
    try {
      for await (const chunk of chunks) {
        const [choice] = chunk.choices;
        const delta = choice?.delta.content ?? "";
        if (delta && text === "") yield* begin();
        text += delta;
        if (delta) yield this.#event({ type: "response.output_text.delta", ...place, delta, logprobs: [] });
        for (const piece of choice?.delta.tool_calls ?? []) {
          const output_index = piece.index + (text === "" ? 0 : 1);
          const { id: call_id, function: called } = piece;
          if (call_id !== undefined) {
            const item = functionCall({ id: call_id, function: { name: called.name ?? "", arguments: "" } });
            calls.push(item);
            const added = { ...item, status: "in_progress" as const };
            yield this.#event({ type: "response.output_item.added", output_index, item: added });
          }
          const call = calls.at(-1);
          if (!call || called.arguments === "") continue;
          call.arguments += called.arguments;
          yield this.#event({
            type: "response.function_call_arguments.delta",
            item_id: call.id,
            output_index,
            delta: called.arguments,
          });
        }
        finish = choice?.finish_reason ?? finish;
        usage = chunk.usage ?? usage;
      }
    } catch (error) {
      if (error instanceof AbortedError) throw error;
      const { message, code } = toApiError(error).body.error;
      const failed = { code: code ?? "internal", message };
      yield this.#event({
        type: "response.failed",
        response: { ...this.#head, status: "failed", error: failed },
      });
      return;
    }
    const response = this.#ended(text, calls, finish, usage);
    if (text === "" && calls.length === 0) yield* begin();
    for (const [output_index, item] of response.output.entries()) {
      if (item.type === "message") {
        yield this.#event({ type: "response.output_text.done", ...place, text, logprobs: [] });
        yield this.#event({ type: "response.content_part.done", ...place, part: part(text) });
      } else {
        const { id: item_id = "", name, arguments: json } = item;
        const done = { item_id, output_index, name, arguments: json };
        yield this.#event({ type: "response.function_call_arguments.done", ...done });
      }
      yield this.#event({ type: "response.output_item.done", output_index, item });
    }
    const incomplete = response.status === "incomplete";
    yield this.#event({ type: incomplete ? "response.incomplete" : "response.completed", response });
  }

  #event(body: EventBody): ResponseStreamEvent {
    return { ...body, sequence_number: this.#number++ };
  }

  #item(text: string, status: ResponseOutputMessage["status"]): ResponseOutputMessage {
    return { type: "message", id: this.#itemId, role: "assistant", status, content: [part(text)] };
  }

  #ended(
    text: string,
    calls: ResponseFunctionCall[],
    finish: FinishReason,
    usage: CompletionUsage | null,
  ): ModelResponse {
    const incomplete = finish === "length";
    const status = incomplete ? ("incomplete" as const) : ("completed" as const);
    return {
      ...this.#head,
      status,
      incomplete_details: incomplete ? { reason: "max_output_tokens" } : null,
      output: [
        ...(text !== "" || calls.length === 0 ? [this.#item(text, status)] : []),
        ...calls.map((call) => ({ ...call, status })),
      ],
      usage: usage && {
        input_tokens: usage.prompt_tokens,
        input_tokens_details: usage.prompt_tokens_details,
        output_tokens: usage.completion_tokens,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: usage.total_tokens,
      },
    };
  }
}

/** A call as an item of the output. */
function functionCall(call: Pick<ChatToolCall, "id" | "function">): ResponseFunctionCall & { id: string } {
  return {
    type: "function_call",
    id: `fc_${randomId()}`,
    call_id: call.id,
    name: call.function.name,
    arguments: call.function.arguments,
  };
}

function part(text: string): ResponseOutputText {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}
