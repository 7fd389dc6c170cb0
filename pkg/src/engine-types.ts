/** What `createEngine` takes and gives. */
import type { Adapters, AdapterUse } from "./adapters.js";
import type { TextCompletions } from "./api/completions.js";
import type { Embeddings } from "./api/embeddings.js";
import type { Models } from "./api/models.js";
import type { Responses } from "./api/response-types.js";
import type { ChatCompletions, ContextOverflow } from "./chat.js";
import type { DeviceChoice } from "./devices.js";
import type { DeviceInfo, ModelInfo } from "./loaded.js";
import type { LoadProgress, MemoryUse } from "./protocol.js";
import type { KvFormat } from "./runtime.js";
import type { ModelSource, SourceOptions } from "./source.js";
import type { Trainings, TrainOptions, TrainResult } from "./training.js";

/** Options of `createEngine`. */
export interface EngineOptions extends SourceOptions {
  /** Catalogue id, address, File(s), or addresses with their SHA-256. */
  model: ModelSource;
  /**
   * A smaller model with the same vocabulary, which guesses what the model will say. Its guesses change no
   * text; they are used where they make answers faster. It takes memory beside the model.
   */
  draft?: ModelSource;
  /** Tokens the context holds. Default: the runtime's choice, at most what the model was trained for. */
  contextLength?: number;
  /**
   * A built-in chat template in place of the file's, for models from before templates: `chatml`, `alpaca`,
   * `vicuna`, `koala`, `open-assistant`, `gpt4all-j` or `plain`. Catalogue models bring what they need.
   */
  template?: string;
  /**
   * The same for files without a template, which are base models as a rule. With `plain`, a chat continues
   * the text of its messages; without this, it is an error.
   */
  fallbackTemplate?: string;
  /**
   * How the model marks reasoning, content and tool calls, as `response_template` of Hugging Face's
   * tokenizers says it. By default, the chat template shows it. A key that is not supported is an error that
   * names it.
   */
  responseTemplate?: object;
  /**
   * Whole contexts that memory is taken for, from 1 to 8. Default: as many as fit into a 32nd of the device's
   * memory, at least one. Answers share it: up to 8 run at once, as far as it has room for their prompts and
   * the most tokens that they may get. Others wait their turn.
   */
  parallel?: number;
  /**
   * How keys and values are stored. Default `f16`. `q8_0` takes about half of its memory and changes answers
   * little; `q4_0` takes a good quarter and costs quality. Both need heads of a multiple of 32 numbers.
   */
  kvFormat?: KvFormat;
  /**
   * Bytes of the browser's storage that may hold the keys and values of recent prompts and answers, so that a
   * conversation goes on at once after a reload. Texts can be recovered from them: see `forget` and
   * `deletePromptCache`. Default 0: nothing is stored.
   */
  promptCacheBytes?: number;
  /**
   * What becomes of conversations and answers that are longer than the context, where a request does not say
   * it by `context_overflow`. Default `stop`.
   */
  contextOverflow?: ContextOverflow;
  /** Where to compute. Default `auto`: WebGPU on a hardware adapter, otherwise the CPU. */
  device?: DeviceChoice;
  /**
   * Threads on the CPU, if the page is cross-origin isolated. Default: one per core up to 4 cores, then half
   * as many as cores, at most 8.
   */
  threads?: number;
  /**
   * `int8` computes with activations in 8 bits: faster on most devices, less exact. The default is `exact`.
   * Other words select GPU kernels, for tests and benchmarks.
   */
  kernels?: string;
  /** Called about ten times a second while the model loads. */
  onProgress?: (progress: LoadProgress) => void;
  /**
   * Called once the files' headers say that the model runs, before memory for it is taken; loading waits for
   * it. A page that replaces a model frees the old one here, and so keeps it if the new file turns out to be
   * damaged or not supported.
   */
  onHeader?: () => void | Promise<void>;
  /** Stops loading; what has been downloaded is kept. */
  signal?: AbortSignal;
  /**
   * Ask the server whether a stored file changed. Default false: a stored model loads without the network.
   */
  refresh?: boolean;
}

/**
 * A loaded model. Answers run together, as far as the memory for contexts suffices; more wait their turn.
 * Scores, adapters and training wait for the calls before them, and those after them wait.
 */
export interface Engine {
  readonly model: ModelInfo;
  readonly device: DeviceInfo;
  readonly chat: { readonly completions: ChatCompletions };
  /** OpenAI's `completions`: texts that continue a prompt, without a chat template. */
  readonly completions: TextCompletions;
  /** OpenAI's `responses`. No conversation is kept, so `previous_response_id` is refused. */
  readonly responses: Responses;
  /** OpenAI's `embeddings`: vectors of texts. */
  readonly embeddings: Embeddings;
  /** OpenAI's `models`: the one that is loaded. */
  readonly models: Models;
  /**
   * A `fetch` for OpenAI's addresses under `/v1/`, of any origin: `new OpenAI({ baseURL: "http://nomoat/v1",
   * fetch: engine.fetch, apiKey: "-", dangerouslyAllowBrowser: true })` uses this engine.
   */
  readonly fetch: typeof fetch;
  /** LoRA adapters, which can be loaded and used at any time. */
  readonly adapters: Adapters;
  /**
   * Teaches the model, on the engine's device: learns a LoRA adapter from examples or preferences over the
   * weights that are loaded, and loads it under its name. Requests are answered in between.
   */
  train(options: TrainOptions): Promise<TrainResult>;
  /** Estimates, and trainings that can go on. */
  readonly trainings: Trainings;
  /** For n ids: n-1 natural log-probabilities of each next id, and n-1 likeliest ids. */
  score(
    ids: ArrayLike<number>,
    options?: { oneByOne?: boolean; adapters?: AdapterUse[]; signal?: AbortSignal },
  ): Promise<{ logprobs: number[]; top: number[] }>;
  /** Token ids of a text. `special` parses control tokens such as `<|im_end|>` in it. */
  tokenize(text: string, options?: { special?: boolean }): Promise<number[]>;
  /** The text of token ids. */
  detokenize(ids: ArrayLike<number>): Promise<string>;
  /** Forgets the keys and values of earlier prompts and answers, and deletes what is stored of them. */
  forget(): Promise<void>;
  /** Bytes in use; does not wait for running calls. */
  memory(): Promise<MemoryUse>;
  /** Frees GPU and worker; what runs or waits fails with AbortedError. */
  dispose(): Promise<void>;
}
