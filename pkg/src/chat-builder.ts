/** How the answers of chat completions are built. */
import type { ChatLogprobs, PromptLogprob, TokenLogprob } from "./api/logprobs.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatToolCall,
  ChatToolCallDelta,
  CompletionUsage,
  FinishReason,
  Timings,
} from "./chat.js";
import { randomId } from "./id.js";
import type { RuntimeCallDelta, RuntimeEnd, RuntimeStart, RuntimeUsage } from "./runtime.js";

/** What an answer tells besides its text. */
export interface Told {
  /** In a stream, the token counts. */
  usage: boolean;
  /** Its tokens. */
  ids: boolean;
}

/** Builds the objects of one answer. */
export class CompletionBuilder {
  readonly #head: { id: string; created: number; model: string };
  readonly #told: Told;
  /** Tokens that the answer had before. */
  readonly #before: number;

  constructor(model: string, told: Told, before = 0) {
    this.#head = { id: `chatcmpl-${randomId()}`, created: Math.floor(Date.now() / 1000), model };
    this.#told = told;
    this.#before = before;
  }

  /** The first chunk. */
  first({ omitted_messages }: RuntimeStart): ChatCompletionChunk {
    const chunk = this.#chunk({ role: "assistant", content: "" }, null);
    return omitted_messages > 0 ? { ...chunk, omitted_messages } : chunk;
  }

  /** A chunk of text. */
  text(content: string): ChatCompletionChunk {
    return this.#chunk({ content }, null);
  }

  /** The chunks of an event's text and calls. The last one has what is told of the token. */
  pieces({ id, text, reasoning, calls = [], logprob }: RuntimePiece): ChatCompletionChunk[] {
    const chunks = [
      ...(reasoning ? [this.reasoning(reasoning)] : []),
      ...(text ? [this.text(text)] : []),
      ...calls.map((call) => this.#chunk({ tool_calls: [toolCallDelta(call)] }, null)),
    ];
    const ids = this.#told.ids && id !== undefined ? [id] : null;
    // A token may have no text of its own yet.
    if ((logprob || ids) && chunks.length === 0) chunks.push(this.text(""));
    const choice = chunks.at(-1)?.choices[0];
    if (logprob && choice) choice.logprobs = chatLogprobs([logprob]);
    if (ids && choice) choice.token_ids = ids;
    return chunks;
  }

  /** The chunk that says how likely the prompt is. */
  prompt(logprobs: PromptLogprob[]): ChatCompletionChunk {
    const chunk = this.text("");
    const [choice] = chunk.choices;
    if (choice) choice.logprobs = chatLogprobs(logprobs);
    return chunk;
  }

  /** A chunk of reasoning. */
  reasoning(reasoning_content: string): ChatCompletionChunk {
    return this.#chunk({ reasoning_content }, null);
  }

  /** The last chunks: held-back text, the finish reason, the usage if it was asked for. */
  last(end: RuntimeEnd): ChatCompletionChunk[] {
    const timings = timingsOf(end, this.#before);
    const finish = this.#chunk({}, end.finish_reason);
    const [choice] = finish.choices;
    if (choice && end.context_full) choice.context_full = true;
    const chunks = [...this.pieces(end), { ...finish, timings }];
    if (this.#told.usage)
      chunks.push({ ...this.#chunk({}, null), choices: [], usage: usageOf(end.usage), timings });
    return chunks;
  }

  /** The answer in one piece. */
  whole(
    content: string,
    reasoning: string,
    calls: RuntimeCallDelta[],
    end: RuntimeEnd,
    omitted_messages = 0,
    logprobs: PromptLogprob[] | null = null,
    ids: number[] = [],
  ): ChatCompletion {
    const tool_calls = toolCalls(calls);
    return {
      ...this.#head,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: content === "" && tool_calls.length > 0 ? null : content,
            refusal: null,
            ...(reasoning && { reasoning_content: reasoning }),
            ...(tool_calls.length > 0 && { tool_calls }),
          },
          finish_reason: end.finish_reason,
          logprobs: logprobs && chatLogprobs(logprobs),
          ...(this.#told.ids && { token_ids: ids }),
          ...(end.context_full && { context_full: true as const }),
        },
      ],
      usage: usageOf(end.usage),
      timings: timingsOf(end, this.#before),
      ...(omitted_messages > 0 && { omitted_messages }),
    };
  }

  #chunk(
    delta: ChatCompletionChunk["choices"][number]["delta"],
    finish: FinishReason | null,
  ): ChatCompletionChunk {
    return {
      ...this.#head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, finish_reason: finish, logprobs: null }],
      ...(this.#told.usage && { usage: null }),
    };
  }
}

/** What an event adds to an answer. */
interface RuntimePiece {
  id?: number;
  text: string;
  reasoning?: string;
  calls?: RuntimeCallDelta[];
  logprob?: PromptLogprob;
}

/** Prompts are scored for `completions` only, which takes them out of this. */
function chatLogprobs(list: PromptLogprob[]): ChatLogprobs {
  return { content: list as TokenLogprob[], refusal: null };
}

function toolCallDelta({ index, name, arguments: json }: RuntimeCallDelta): ChatToolCallDelta {
  if (name === undefined) return { index, function: { arguments: json } };
  return { index, id: callId(), type: "function", function: { name, arguments: json } };
}

/** Whole calls from their pieces. */
function toolCalls(pieces: RuntimeCallDelta[]): ChatToolCall[] {
  const calls: ChatToolCall[] = [];
  for (const { index, name, arguments: json } of pieces) {
    const call = (calls[index] ??= {
      id: callId(),
      type: "function",
      function: { name: name ?? "", arguments: "" },
    });
    call.function.arguments += json;
  }
  return calls;
}

/** Nine letters and digits: templates of Mistral's models take nothing else. */
function callId(): string {
  return randomId().slice(0, 9);
}

/** The sum of token counts. */
export function addUsages(usages: CompletionUsage[]): CompletionUsage {
  const sum = (of: (usage: CompletionUsage) => number) => usages.reduce((n, usage) => n + of(usage), 0);
  return {
    prompt_tokens: sum((usage) => usage.prompt_tokens),
    completion_tokens: sum((usage) => usage.completion_tokens),
    total_tokens: sum((usage) => usage.total_tokens),
    prompt_tokens_details: { cached_tokens: sum((usage) => usage.prompt_tokens_details.cached_tokens) },
    completion_tokens_details: {
      reasoning_tokens: sum((usage) => usage.completion_tokens_details.reasoning_tokens),
      accepted_prediction_tokens: sum((usage) => usage.completion_tokens_details.accepted_prediction_tokens),
      rejected_prediction_tokens: sum((usage) => usage.completion_tokens_details.rejected_prediction_tokens),
    },
  };
}

function usageOf(usage: RuntimeUsage): CompletionUsage {
  const { prompt_tokens, completion_tokens, total_tokens, cached_tokens } = usage;
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens,
    prompt_tokens_details: { cached_tokens },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoning_tokens,
      accepted_prediction_tokens: usage.accepted_tokens,
      rejected_prediction_tokens: usage.drafted_tokens - usage.accepted_tokens,
    },
  };
}

/** `before`: tokens that the answer had before it was continued. */
function timingsOf({ timings, usage }: RuntimeEnd, before: number): Timings {
  const rate = (tokens: number, ms: number) => (ms > 0 && tokens > 0 ? (tokens / ms) * 1000 : 0);
  return {
    prefill_ms: timings.prefill_ms,
    decode_ms: timings.decode_ms,
    prefill_tokens_per_second: rate(usage.prompt_tokens - usage.cached_tokens, timings.prefill_ms),
    // The first token comes out of the prefill.
    decode_tokens_per_second: rate(usage.completion_tokens - before - 1, timings.decode_ms),
    dispatches_per_token: timings.dispatches_per_token,
  };
}
