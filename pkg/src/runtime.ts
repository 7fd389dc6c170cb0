/**
 * The wasm runtime's interface, as this package uses it. Names and JSON shapes are those of
 * `runtime/src/web.rs`.
 */
import type { PromptLogprob, TokenLogprob } from "./api/logprobs.js";
import type {
  ChatTool,
  ChatToolCall,
  ChatToolChoice,
  ContextOverflow,
  Grammar,
  RecommendedSampling,
  ResponseFormat,
} from "./chat.js";
import type { TrainingPoint } from "./training.js";

/** Bytes whose buffer belongs to one thread, as `fetch` and Cache Storage give them. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** `code` of every `Error` the runtime throws. */
export type RuntimeErrorCode =
  | "no_webgpu"
  | "device_wrong"
  | "corrupt_file"
  | "unsupported_architecture"
  | "unsupported_tensor_type"
  | "unsupported_feature"
  | "out_of_memory"
  | "device_lost"
  | "context_length_exceeded"
  | "invalid_request"
  | "template"
  | "parser_not_loaded"
  | "internal";

/** One loaded runtime: one device and at most one model. Its calls may not overlap, its answers may. */
export interface Runtime {
  /** `RuntimeDeviceInfo` as JSON. */
  device_info(): string;
  /** `RuntimeSpeed` as JSON, in half a second. No model is needed. */
  measure_speed(): Promise<string>;
  /**
   * Starts loading a model of these files (sizes in bytes, in order); a load that did not finish is dropped.
   */
  begin(file_sizes: Float64Array, options_json: string): void;
  /** The same for a draft model of the loaded model, which stays. It ends with `finish_draft`. */
  begin_draft(file_sizes: Float64Array): void;
  /**
   * Consecutive bytes from the file's start; 0 when the header is complete, else how many more are wanted.
   */
  push_header(file: number, bytes: Uint8Array): number;
  /** After all headers: checks the model, and takes no memory for it on the device. */
  check(): void;
  /** After that: allocates buffers. `RuntimeModelInfo` as JSON. */
  prepare(): Promise<string>;
  /** Every byte of each file in order, from offset 0. */
  push_data(file: number, bytes: Uint8Array): Promise<void>;
  /** After the last byte: `{"sha256": [hex per file]}`. */
  finish(): Promise<string>;
  /** The same for a draft model; `model` is the loaded model's `RuntimeModelInfo` with it. */
  finish_draft(): Promise<string>;
  /** Token ids of a text; `parse_special` parses control tokens such as `<|im_end|>` in it. */
  tokenize(text: string, parse_special: boolean): Uint32Array;
  /** The text of token ids. */
  detokenize(ids: Uint32Array): string;
  /** Gives the parser for constraints, before the first request that has one. */
  use_parser(make: (...vocabulary: Vocabulary) => Parser): void;
  /**
   * Starts a generation from a `RuntimeRequest` as JSON, which runs beside the others; returns `RuntimeStart`
   * as JSON.
   */
  start(request_json: string): string;
  /** One prefill chunk or one token of any generation: its `sequence` and a `RuntimeEvent` as JSON. */
  next(): Promise<string>;
  /** Whether a generation has not ended. */
  is_running(sequence: number): boolean;
  /** Drops a generation. */
  cancel(sequence: number): void;
  /** The names of the cached pages, in the order in which they should be kept. */
  cached_pages(): string[];
  /** A cached page as bytes; null if it is no longer cached. */
  read_page(name: string): Promise<Bytes | null>;
  /** `RuntimePromptPages` as JSON, of a `RuntimeRequest` as JSON. */
  prompt_pages(request_json: string): string;
  /**
   * Caches the page of the last tokens, from the bytes of `read_page`; false if that cannot be. `set` is that
   * of `prompt_pages`.
   */
  restore_page(set: number | null, ids: Uint32Array, bytes: Uint8Array): boolean;
  /** Forgets all cached pages. */
  forget(): void;
  /** `{"logprobs": [n-1], "top": [n-1]}` for n ids, with `RuntimeAdapterUse[]` as JSON. */
  score(ids: Uint32Array, one_by_one: boolean, adapters_json: string): Promise<string>;
  /** Loads an adapter from a GGUF file, or from PEFT's weights and settings. `RuntimeAdapterInfo` as JSON. */
  load_adapter(name: string, weights: Uint8Array, config?: Uint8Array | null): string;
  /** Frees an adapter. */
  unload_adapter(name: string): void;
  /** Begins to teach, with `RuntimeTraining` as JSON and JSONL. `TrainingPlan` as JSON. */
  begin_training(settings_json: string, data: string): string;
  /** The same from a checkpoint. */
  resume_training(checkpoint: Uint8Array): string;
  /** Computes the next part. `RuntimeAdvance` as JSON. */
  advance_training(): Promise<string>;
  /** All that is needed to go on later. */
  training_checkpoint(): Promise<Bytes>;
  /** What has been learnt, as GGUF. */
  trained_gguf(): Promise<Bytes>;
  /** What has been learnt, as PEFT saves it: weights and settings. Nothing if PEFT's names are not known. */
  trained_peft(base: string): Promise<[Bytes, Bytes] | undefined>;
  /** Frees what training takes. */
  end_training(): void;
  /** Frees the runtime's memory. */
  free(): void;
}

/** The part of a runtime that a model is fed to. */
export type LoadTarget = Pick<
  Runtime,
  "begin" | "push_header" | "check" | "prepare" | "push_data" | "finish"
>;

/** The class the wasm glue exports. */
export interface RuntimeClass {
  /** Opens the device that the options name and runs the self-test. */
  open(options_json: string): Promise<Runtime>;
}

/**
 * The bytes of all tokens, how many of them each token has, the tokens that end an answer, and a function
 * that divides a text into tokens.
 */
export type Vocabulary = [
  bytes: Uint8Array,
  lengths: Uint32Array,
  ends: Uint32Array,
  encode?: ((text: string) => Uint32Array | null) | null,
];

/** The parser for constraints on a model's answers; only the runtime calls it. */
export interface Parser {
  /** Frees its memory. */
  free(): void;
}

/** The class that the glue of the parser's module exports. */
export type ParserClass = new (...vocabulary: Vocabulary) => Parser;

/** JSON of `device_info()` of a GPU. */
export interface RuntimeGpuInfo {
  name: string;
  backend: string;
  driver: string;
  is_fallback: boolean;
  f16: boolean;
  subgroup_size: number;
  packed_dot: boolean;
  kernels: string;
  max_buffer_size: number;
}

/** JSON of `device_info()` of the CPU. */
export interface RuntimeCpuInfo {
  name: string;
  backend: "cpu";
  simd: string;
  threads: number;
  kernels: string;
}

/** JSON of `device_info()`. */
export type RuntimeDeviceInfo = RuntimeGpuInfo | RuntimeCpuInfo;

/** JSON of `measure_speed()`. */
export interface RuntimeSpeed {
  bytes_per_second: number;
  seconds_per_token: number;
}

/** How keys and values are stored: in half precision, or as ggml's blocks of 8 or 4 bits a number. */
export type KvFormat = "f16" | "q8_0" | "q4_0";

/** JSON of `prepare()`. Sizes in bytes. */
export interface RuntimeModelInfo {
  name: string;
  architecture: string;
  parameters: number;
  quantization: string;
  context_length: number;
  trained_context_length: number;
  vocab_size: number;
  tensor_bytes: number;
  /** Of weights that are read for each token of an answer. */
  bytes_per_token: number;
  gpu_bytes: number;
  kv_bytes: number;
  has_chat_template: boolean;
  /** The name of the draft model, whose memory is counted. */
  draft: string | null;
  /** Who tells the model about tools; null without a chat template. */
  tools: "template" | "built-in" | null;
  /** How its makers recommend to choose tokens. */
  sampling: RecommendedSampling;
  license: string | null;
  warnings: string[];
}

/** Reads headers without a device. */
export interface Inspector {
  /**
   * Consecutive bytes from the file's start; 0 when the header is complete, else how many more are wanted.
   */
  push_header(file: number, bytes: Uint8Array): number;
  /** After all headers: `RuntimeInspection` as JSON. */
  finish(options_json: string): string;
  /** Frees its memory. */
  free(): void;
}

/** The class the wasm glue exports. */
export type InspectorClass = new (file_sizes: Float64Array) => Inspector;

/** JSON of an inspector's `finish()`. Sizes in bytes; 0 where the model does not run. */
export interface RuntimeInspection {
  name: string;
  architecture: string;
  parameters: number;
  quantization: string;
  context_length: number;
  trained_context_length: number;
  tensor_bytes: number;
  weight_bytes: number;
  /** Of weights that are read for each token of an answer. */
  bytes_per_token: number;
  kv_bytes: number;
  has_chat_template: boolean;
  license: string | null;
  warnings: string[];
  problem: { code: RuntimeErrorCode; message: string } | null;
}

/** JSON of `load_adapter()`. */
export interface RuntimeAdapterInfo {
  name: string;
  rank: number;
  parameters: number;
  tensors: number;
}

/** An adapter in a request. */
export interface RuntimeAdapterUse {
  name: string;
  scale: number;
}

/** A message of a conversation. */
export interface RuntimeMessage {
  role: string;
  content: string | null;
  reasoning_content?: string;
  tool_calls?: ChatToolCall[];
  tool_call_id?: string;
  name?: string;
}

/** Settings of training; what is missing has the runtime's default. */
export interface RuntimeTraining {
  dpo: boolean;
  rank?: number;
  alpha?: number;
  targets?: string[];
  learning_rate?: number;
  warm_up?: number;
  schedule?: "constant" | "cosine";
  weight_decay?: number;
  clip?: number;
  epochs?: number;
  batch?: number;
  max_tokens?: number;
  validation?: number;
  patience?: number;
  seed?: number;
  beta?: number;
}

/** JSON of `advance_training()`. */
export interface RuntimeAdvance {
  step: number;
  steps: number;
  rows: number;
  point: TrainingPoint | null;
  is_done: boolean;
}

/** JSON given to `start()`. */
export interface RuntimeRequest {
  messages?: RuntimeMessage[];
  tools?: ChatTool[];
  tool_choice?: ChatToolChoice;
  parallel_tool_calls?: boolean;
  /** A text, or its tokens. */
  prompt?: string | number[];
  /** The text after it: the answer goes between the two. */
  suffix?: string;
  /** No answer, but the prompt's embedding of so many numbers; 0: all. */
  embedding?: number;
  max_tokens: number | null;
  context_overflow?: ContextOverflow;
  thinking_token_budget?: number;
  temperature: number;
  top_p: number;
  top_k?: number;
  min_p?: number;
  typical_p?: number;
  top_n_sigma?: number;
  xtc_probability?: number;
  xtc_threshold?: number;
  dry_multiplier?: number;
  dry_base?: number;
  dry_allowed_length?: number;
  dry_penalty_last_n?: number;
  dry_sequence_breakers?: string[];
  dynatemp_range?: number;
  dynatemp_exponent?: number;
  mirostat?: number;
  mirostat_tau?: number;
  mirostat_eta?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  logit_bias?: Record<string, number>;
  seed: number | null;
  stop: string[];
  response_format?: ResponseFormat;
  grammar?: Grammar;
  adapters?: RuntimeAdapterUse[];
  /** A text that the answer is likely to repeat. */
  prediction?: string;
  /** Say of each token how likely it was, with so many alternatives. */
  top_logprobs?: number;
  /** The same of the prompt's tokens. */
  prompt_logprobs?: boolean;
  /** What the chat template gets besides the messages. */
  chat_template_kwargs?: Record<string, unknown>;
  /** Tokens that this answer already has. Their text is not sent again. */
  continue_ids?: number[];
}

/** JSON of `start()`. */
export interface RuntimeStart {
  /** Names the generation. */
  sequence: number;
  prompt_tokens: number;
  /** Messages that are left out of the prompt, because the context has no room for them. */
  omitted_messages: number;
}

/** JSON of `prompt_pages()`. */
export interface RuntimePromptPages {
  /** The set of adapters that they are computed with; null: none. */
  set: number | null;
  /** The tokens of the prompt's full pages. */
  ids: number[];
  /** The names of these pages. */
  names: string[];
  /** How many of them the runtime has. */
  cached: number;
}

/** Token counts of one answer. */
export interface RuntimeUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  cached_tokens: number;
  /** Of the model's thoughts. */
  reasoning_tokens: number;
  /** Guessed, and those of them that were right. */
  drafted_tokens: number;
  accepted_tokens: number;
}

/** JSON of `next()`. */
export type RuntimeEvent =
  | { type: "prefill"; done: number; total: number }
  /** How likely the prompt's tokens are, if that was asked for. */
  | { type: "prompt"; logprobs: PromptLogprob[] }
  | {
      type: "token";
      id: number;
      text: string;
      reasoning?: string;
      calls?: RuntimeCallDelta[];
      logprob?: TokenLogprob;
    }
  | RuntimeEmbedding
  | RuntimeEnd;

/** The only and last event of a request for an embedding, besides those of the prefill. */
export interface RuntimeEmbedding {
  type: "embedding";
  embedding: number[];
  prompt_tokens: number;
}

/** A piece of a tool call. The first piece of a call has its name. */
export interface RuntimeCallDelta {
  index: number;
  name?: string;
  arguments: string;
}

/** The last event of a generation. */
export interface RuntimeEnd {
  type: "end";
  /** Text that was held back until now. */
  text: string;
  /** Reasoning that was held back. */
  reasoning?: string;
  /** Of the last token, if that was asked for. */
  logprob?: TokenLogprob;
  /** Pieces of calls that were held back. */
  calls?: RuntimeCallDelta[];
  finish_reason: "stop" | "length" | "tool_calls";
  context_full: boolean;
  usage: RuntimeUsage;
  timings: { prefill_ms: number; decode_ms: number; dispatches_per_token: number };
}
