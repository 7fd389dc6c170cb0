/** The types of chat completions, in the shapes of OpenAI's API. */
import type { AdapterUse } from "./adapters.js";
import type { ChatLogprobs } from "./api/logprobs.js";
import type { ChatStream } from "./stream.js";

/** A text, or its parts. */
export type ChatContent = string | { type: "text"; text: string }[];

/** One message of a conversation. Content parts may be text only. */
export type ChatMessage =
  | { role: "system" | "developer" | "user"; content: ChatContent; name?: string }
  | {
      role: "assistant";
      /** Who speaks, where there are several; some chat templates tell the model. */
      name?: string;
      content?: ChatContent | null;
      tool_calls?: ChatToolCall[] | null;
      /**
       * Extension: what the model thought before this answer. The chat template decides whether it is shown
       * to the model again.
       */
      reasoning_content?: string | null;
    }
  /** What a tool returned. */
  | { role: "tool"; content: ChatContent; tool_call_id: string; name?: string };

/** A tool that the model may call. */
export interface ChatTool {
  type: "function";
  function: {
    /** Up to 64 letters, digits, `_`, `-` and `.`. */
    name: string;
    description?: string;
    /** The JSON Schema of the arguments. Default: none. */
    parameters?: Record<string, unknown> | null;
    /** Calls fit the schema, also where the model decides whether to call. Default false. */
    strict?: boolean | null;
  };
}

/** A call of a tool. */
export interface ChatToolCall {
  id: string;
  type: "function";
  /** `arguments` is JSON. */
  function: { name: string; arguments: string };
}

/** Whether the model must call a tool, or may not. */
export type ChatToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/**
 * What becomes of a conversation or an answer that is longer than the context. `stop`: such a prompt is an
 * error, and the answer ends. `truncate`: the oldest turns of a conversation are left out. `shift`: the first
 * tokens and the last ones stay, and the answer goes on for ever.
 */
export type ContextOverflow = "stop" | "truncate" | "shift";

/**
 * Parameters of `chat.completions.create`: OpenAI's, `grammar`, `adapters`, `context_overflow`,
 * `chat_template_kwargs`, and llama.cpp's samplers by its names. They are applied in llama.cpp's order:
 * penalties, bias, constraint, DRY, top-n-sigma, top-k, typical-p, top-p, min-p, XTC, temperature.
 */
export interface ChatCompletionCreateParams {
  messages: ChatMessage[];
  /** Any name, as an engine has one model. `base:name` uses the adapter of this name. */
  model?: string;
  /** The adapters to use, each with its strength. */
  adapters?: AdapterUse[] | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  /** Most tokens to generate. Default: until the context is full. */
  max_tokens?: number | null;
  /** OpenAI's newer name of `max_tokens`. */
  max_completion_tokens?: number | null;
  /** Default: the engine's `contextOverflow`. */
  context_overflow?: ContextOverflow | null;
  /**
   * Most tokens that the model may think; then its thinking is ended, and it answers. 0 means no thinking.
   * Default: no limit. For chat templates that know reasoning, as vLLM's parameter of this name.
   */
  thinking_token_budget?: number | null;
  /** 0 (always the likeliest token) to 2. Default 1. */
  temperature?: number | null;
  /** Above 0, to 1. Default 1. */
  top_p?: number | null;
  /** Only the k likeliest tokens; 0 means all. */
  top_k?: number | null;
  /** Only tokens whose probability is at least this fraction of the likeliest token's; 0 to 1. */
  min_p?: number | null;
  /** Only the most typical tokens that together have this probability; above 0, to 1. */
  typical_p?: number | null;
  /** Only tokens whose logit is at most so many standard deviations below the highest; 0 or -1 means all. */
  top_n_sigma?: number | null;
  /** How often XTC leaves out all but the least likely of the tokens that reach its threshold; 0 to 1. */
  xtc_probability?: number | null;
  /** XTC's threshold, 0 to 1; above 0.5 it is off. Default 0.1. */
  xtc_threshold?: number | null;
  /** DRY: the strength of its penalty for tokens that make a repetition longer. Default 0: off. */
  dry_multiplier?: number | null;
  /** DRY: how much the penalty grows with each token of the repetition; from 1. Default 1.75. */
  dry_base?: number | null;
  /** DRY: repetitions of fewer tokens are free; from 1. Default 2. */
  dry_allowed_length?: number | null;
  /** DRY: how many of the last tokens count; -1 means all. Default 64. */
  dry_penalty_last_n?: number | null;
  /** DRY: texts of up to 40 bytes at which repetitions end. Default: newline, colon, quote and star. */
  dry_sequence_breakers?: string[] | null;
  /** The temperature varies by this, up and down, with the entropy of the tokens. Default 0. */
  dynatemp_range?: number | null;
  /** The power to which the normalised entropy is raised for that. Default 1. */
  dynatemp_exponent?: number | null;
  /** 2: mirostat 2 instead of the samplers from top-n-sigma to XTC. Default 0: off. */
  mirostat?: 0 | 2 | null;
  /** The surprise that mirostat aims at, in bits. Default 5. */
  mirostat_tau?: number | null;
  /** How fast mirostat learns, 0 to 1. Default 0.1. */
  mirostat_eta?: number | null;
  /** Above 0; 1 changes nothing. */
  repetition_penalty?: number | null;
  /** -2 to 2. */
  frequency_penalty?: number | null;
  /** -2 to 2. */
  presence_penalty?: number | null;
  /** From token id to a number that is added to its logit, -100 to 100. */
  logit_bias?: Record<string, number> | null;
  /** A text that the answer is likely to repeat. Where it does, it comes faster. */
  prediction?: { type: "content"; content: ChatContent } | null;
  /** Makes sampling repeatable; an integer from 0. */
  seed?: number | null;
  /** Up to 16 texts that end the answer; they are not part of it. */
  stop?: string | string[] | null;
  /** How many answers to give, up to 128, together. With a seed, each has the next one. Default 1. */
  n?: number | null;
  /** The tools that the model may call. */
  tools?: ChatTool[] | null;
  /** `required`, or a tool's name: the answer is a call, which fits the tool's schema. Default `auto`. */
  tool_choice?: ChatToolChoice | null;
  /** Whether the model may call several tools in one answer. Default true. */
  parallel_tool_calls?: boolean | null;
  /** The answer is JSON. It always fits, with or without `strict`. */
  response_format?: ResponseFormat | null;
  /** The answer matches this. */
  grammar?: Grammar | null;
  /** How much the model thinks, such as "low"; for chat templates that know it. */
  reasoning_effort?: string | null;
  /** Say of each token how likely it was. */
  logprobs?: boolean | null;
  /** How many of the likeliest tokens are named in each token's place; up to 20, with `logprobs`. */
  top_logprobs?: number | null;
  /** Say which tokens the answer has, as `token_ids` of its choices. vLLM has a parameter of this name. */
  return_token_ids?: boolean | null;
  /**
   * Tokens that this answer already has: all `token_ids` that an earlier request with the same parameters
   * gave, before it was interrupted. The answer continues after them as if it had not been. Their text is not
   * given again; they count for `max_tokens` and in `usage`.
   */
  continue_ids?: number[] | null;
  /** Other variables of the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
}

/** Parameters of a request that a model's makers recommend. */
export type RecommendedSampling = {
  [name in "temperature" | "top_k" | "top_p" | "min_p" | "repetition_penalty"]?: number;
};

/** What kind of text an answer is. */
export type ResponseFormat =
  | { type: "text" }
  /** A JSON object. */
  | { type: "json_object" }
  /** JSON that fits a schema. An InvalidRequestError names keywords that are not supported. */
  | {
      type: "json_schema";
      json_schema: {
        name: string;
        description?: string;
        schema: Record<string, unknown>;
        strict?: boolean | null;
      };
    };

/** What an answer matches from beginning to end. An extension to OpenAI's parameters. */
export type Grammar =
  /** A regular expression in the syntax of Rust's `regex`. */
  | { regex: string }
  /** A grammar in llguidance's dialect of Lark. */
  | { lark: string }
  /** A grammar in llama.cpp's format GBNF. */
  | { gbnf: string };

/** Parameters of a streamed completion. */
export type ChatCompletionStreamParams = ChatCompletionCreateParams & { stream: true };
/** Parameters of a completion in one piece. */
export type ChatCompletionWholeParams = ChatCompletionCreateParams & { stream?: false | null };

/** Token counts. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Prompt tokens that were still in the KV cache. */
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details: {
    /** Tokens of the model's thoughts. */
    reasoning_tokens: number;
    /** Tokens that were guessed from the text itself, from `prediction` or by `draft`, and were right. */
    accepted_prediction_tokens: number;
    /** Those that were wrong; they are not part of `completion_tokens`. */
    rejected_prediction_tokens: number;
  };
}

/** How long an answer took. An extension to OpenAI's shapes. */
export interface Timings {
  prefill_ms: number;
  decode_ms: number;
  /** Prompt tokens that were computed, per second. */
  prefill_tokens_per_second: number;
  /** Tokens after the first, per second. */
  decode_tokens_per_second: number;
  /** GPU dispatches for one decoded token. */
  dispatches_per_token: number;
}

/** Why an answer ended. */
export type FinishReason = "stop" | "length" | "tool_calls";

/** A piece of a tool call. The first piece of a call has its id and the tool's name. */
export interface ChatToolCallDelta {
  /** The call's number in the answer. */
  index: number;
  id?: string;
  type?: "function";
  /** `arguments` is a piece of the JSON. */
  function: { name?: string; arguments: string };
}

/** One piece of a streamed answer. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970. */
  created: number;
  model: string;
  /** One choice; none in the usage chunk. */
  choices: {
    index: number;
    delta: {
      role?: "assistant";
      content?: string;
      /** Extension: what the model thinks before it answers. */
      reasoning_content?: string;
      tool_calls?: ChatToolCallDelta[];
    };
    finish_reason: FinishReason | null;
    logprobs: ChatLogprobs | null;
    /** Extension, with `return_token_ids`: all that was given so far belongs to the tokens up to these. */
    token_ids?: number[];
    /** Extension: the answer ended because the context is full. */
    context_full?: true;
  }[];
  /** With `include_usage`: null, and the counts in the last chunk. */
  usage?: CompletionUsage | null;
  /** Extension: in the chunk with the finish reason, and in the usage chunk. */
  timings?: Timings;
  /** Extension: in the first chunk, how many messages `truncate` left out, if it did. */
  omitted_messages?: number;
}

/** A whole answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: "assistant";
      /** Null if the answer has only calls. */
      content: string | null;
      refusal: null;
      tool_calls?: ChatToolCall[];
      /** Extension: what the model thought, if it did. */
      reasoning_content?: string;
    };
    finish_reason: FinishReason;
    logprobs: ChatLogprobs | null;
    /** Extension, with `return_token_ids`: the answer's new tokens, without the one that ended it. */
    token_ids?: number[];
    /** Extension: the answer ended because the context is full. */
    context_full?: true;
  }[];
  usage: CompletionUsage;
  /** Extension. */
  timings: Timings;
  /** Extension: how many messages `truncate` left out, if it did. */
  omitted_messages?: number;
}

/** Options of a completion that are not OpenAI parameters. */
export interface CompletionOptions {
  signal?: AbortSignal;
  /** Called as the prompt is read, in tokens. */
  onPrefill?: (done: number, total: number) => void;
}

/** OpenAI's `chat.completions`. */
export interface ChatCompletions {
  /** A streamed answer; resolves when its generation starts. */
  create(params: ChatCompletionStreamParams, options?: CompletionOptions): Promise<ChatStream>;
  /** An answer in one piece. */
  create(params: ChatCompletionWholeParams, options?: CompletionOptions): Promise<ChatCompletion>;
  create(
    params: ChatCompletionCreateParams,
    options?: CompletionOptions,
  ): Promise<ChatStream | ChatCompletion>;
}
