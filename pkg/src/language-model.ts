/**
 * The Prompt API (https://webmachinelearning.github.io/prompt-api/) over an engine: code that was written for
 * a browser's own `LanguageModel` runs on any model. Text only.
 */
import { listStoredModels } from "./browser.js";
import type { ChatCompletionStreamParams, ChatMessage } from "./chat.js";
import { createEngine, type Engine, type EngineOptions } from "./engine.js";
import { ContextLengthError, NomoatError } from "./errors.js";
import { modelUrls } from "./source.js";

/** Whether a session can be created at once. */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";

/** A message of a prompt. Its content is text. */
export interface LanguageModelMessage {
  role: "system" | "user" | "assistant";
  content: string | { type: string; value: unknown }[];
  prefix?: boolean;
}

/** A text by the user, or messages. */
export type LanguageModelPrompt = string | LanguageModelMessage[];

/** From the likeliest answers to the least likely ones. */
export type SamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

/** What a session must be able to do, and how it chooses its words. */
export interface LanguageModelCoreOptions {
  topK?: number;
  temperature?: number;
  samplingMode?: SamplingMode | "default";
  expectedInputs?: { type: string; languages?: string[] }[];
  expectedOutputs?: { type: string; languages?: string[] }[];
  tools?: unknown[];
}

/** Options of `LanguageModel.create`. */
export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  signal?: AbortSignal;
  /** Gets a target of `downloadprogress` events, whose `loaded` goes from 0 to 1. */
  monitor?: (monitor: EventTarget) => void;
  initialPrompts?: LanguageModelMessage[];
}

/** Options of a prompt. */
export interface LanguageModelPromptOptions {
  /** A JSON Schema or a regular expression that the answer fits. */
  responseConstraint?: object;
  /** Whether the model is not told about the constraint. Nothing changes here: it never is. */
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

/** A conversation with the model. */
export interface LanguageModelSession extends EventTarget {
  readonly contextUsage: number;
  readonly contextWindow: number;
  readonly inputUsage: number;
  readonly inputQuota: number;
  readonly topK: number;
  readonly temperature: number;
  readonly samplingMode: SamplingMode | "default";
  oncontextoverflow: ((event: Event) => void) | null;
  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<void>;
  measureContextUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModelSession>;
  destroy(): void;
}

/** A browser's global `LanguageModel`. */
export interface LanguageModelStatic {
  create(options?: LanguageModelCreateOptions): Promise<LanguageModelSession>;
  availability(options?: LanguageModelCoreOptions): Promise<Availability>;
  params(): Promise<{
    defaultTopK: number;
    maxTopK: number;
    defaultTemperature: number;
    maxTemperature: number;
  }>;
}

/** Temperatures of the sampling modes. */
const TEMPERATURES = {
  "most-predictable": 0,
  predictable: 0.4,
  default: 0.8,
  balanced: 0.8,
  creative: 1,
  "most-creative": 1.3,
};
const DEFAULT_TOP_K = 40;
const MAX_TOP_K = 1000;
const MAX_TEMPERATURE = 2;

/**
 * A `LanguageModel` whose sessions share one engine: this one, or one that is created with these options for
 * the first session and kept.
 */
export function languageModel(source: Engine | EngineOptions): LanguageModelStatic {
  const given = "chat" in source ? null : source;
  let loading: Promise<Engine> | undefined;
  let isLoaded = given === null;
  const listeners = new Set<(part: number) => void>();
  const load = (options: EngineOptions): Promise<Engine> => {
    const onProgress: EngineOptions["onProgress"] = (progress) => {
      options.onProgress?.(progress);
      if (progress.total > 0) for (const tell of listeners) tell(progress.loaded / progress.total);
    };
    const promise = createEngine({ ...options, onProgress });
    promise.then(
      () => (isLoaded = true),
      // The next session tries again.
      () => (loading = undefined),
    );
    return promise;
  };
  return {
    async create(options = {}) {
      const { signal } = options;
      signal?.throwIfAborted();
      const problem = unsupported(options);
      if (problem) throw new DOMException(problem, "NotSupportedError");
      const { topK = DEFAULT_TOP_K, samplingMode = "default" } = options;
      const { temperature = TEMPERATURES[samplingMode] } = options;
      const initial = options.initialPrompts ? messagesOf(options.initialPrompts, false) : [];
      const target = new EventTarget();
      options.monitor?.(target);
      const tell = (loaded: number) =>
        target.dispatchEvent(
          new ProgressEvent("downloadprogress", { loaded, total: 1, lengthComputable: true }),
        );
      listeners.add(tell);
      try {
        if (!isLoaded && options.monitor) tell(0);
        const engine = "chat" in source ? source : await abortable((loading ??= load(source)), signal);
        if (options.monitor) tell(1);
        const sampling = {
          topK: Math.min(Math.max(1, Math.floor(topK)), MAX_TOP_K),
          temperature: Math.min(Math.max(0, temperature), MAX_TEMPERATURE),
          samplingMode,
        };
        const session = new Session(engine, sampling, initial.length, initial);
        await session.measure();
        return session;
      } catch (error) {
        throw inDom(error);
      } finally {
        listeners.delete(tell);
      }
    },
    async availability(options = {}) {
      if (unsupported(options)) return "unavailable";
      if (isLoaded || given === null) return "available";
      if (loading) return "downloading";
      const urls = modelUrls(given.model, given);
      const isStored = async () =>
        (await listStoredModels()).some(
          (model) => model.complete && urls.every((url, index) => model.urls[index] === url),
        );
      return urls.length === 0 || (await isStored()) ? "available" : "downloadable";
    },
    params: async () => ({
      defaultTopK: DEFAULT_TOP_K,
      maxTopK: MAX_TOP_K,
      defaultTemperature: TEMPERATURES.default,
      maxTemperature: MAX_TEMPERATURE,
    }),
  };
}

/** What these options ask for that there is not. */
function unsupported(options: LanguageModelCoreOptions): string | null {
  const kinds = [...(options.expectedInputs ?? []), ...(options.expectedOutputs ?? [])];
  const other = kinds.find(({ type }) => type !== "text");
  if (other) return `This model takes and gives text only, not ${other.type}.`;
  if (options.tools && options.tools.length > 0) return "Tools are not supported in sessions.";
  return null;
}

interface SessionSampling {
  topK: number;
  temperature: number;
  samplingMode: SamplingMode | "default";
}

class Session extends EventTarget implements LanguageModelSession {
  readonly #engine: Engine;
  readonly #sampling: SessionSampling;
  /** The first of the messages are the session's own; they are never left out. */
  readonly #nInitial: number;
  #messages: ChatMessage[];
  #usage = 0;
  /** Ends what runs, and says that the session is destroyed. */
  readonly #end = new AbortController();
  /** Prompts are answered one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  oncontextoverflow: ((event: Event) => void) | null = null;

  constructor(engine: Engine, sampling: SessionSampling, nInitial: number, messages: ChatMessage[]) {
    super();
    this.#engine = engine;
    this.#sampling = sampling;
    this.#nInitial = nInitial;
    this.#messages = messages;
    this.addEventListener("contextoverflow", (event) => this.oncontextoverflow?.(event));
  }

  get contextUsage() {
    return this.#usage;
  }
  get inputUsage() {
    return this.#usage;
  }
  get contextWindow() {
    return this.#engine.model.contextLength;
  }
  get inputQuota() {
    return this.contextWindow;
  }
  get topK() {
    return this.#sampling.topK;
  }
  get temperature() {
    return this.#sampling.temperature;
  }
  get samplingMode() {
    return this.#sampling.samplingMode;
  }

  /** Counts the messages so far. */
  async measure(): Promise<void> {
    this.#usage = await this.#count(this.#messages);
    if (this.#usage > this.contextWindow) throw quotaExceeded(this.#usage, this.contextWindow);
  }

  async prompt(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<string> {
    let answer = "";
    for await (const text of this.#answer(input, options)) answer += text;
    return answer;
  }

  promptStreaming(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): ReadableStream<string> {
    const texts = this.#answer(input, options);
    return new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await texts.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          controller.error(error);
        }
      },
      async cancel() {
        await texts.return(undefined);
      },
    });
  }

  append(input: LanguageModelPrompt, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#inTurn(async () => {
      this.#check(signal);
      const messages = messagesOf(input, this.#messages.length > 0);
      const requested = this.#usage + (await this.#count(messages));
      this.#check(signal);
      if (requested > this.contextWindow) throw quotaExceeded(requested, this.contextWindow);
      this.#messages = [...this.#messages, ...messages];
      this.#usage = requested;
    });
  }

  async measureContextUsage(
    input: LanguageModelPrompt,
    { signal }: LanguageModelPromptOptions = {},
  ): Promise<number> {
    this.#check(signal);
    return abortable(this.#count(messagesOf(input, false)), signal);
  }

  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  async clone({ signal }: { signal?: AbortSignal } = {}): Promise<LanguageModelSession> {
    this.#check(signal);
    const copy = new Session(this.#engine, this.#sampling, this.#nInitial, [...this.#messages]);
    copy.#usage = this.#usage;
    return copy;
  }

  destroy(): void {
    this.#end.abort(new DOMException("The session is destroyed.", "AbortError"));
  }

  /** Generates an answer. Prompt and answer become part of the session if the answer is completed. */
  async *#answer(
    input: LanguageModelPrompt,
    { responseConstraint, signal }: LanguageModelPromptOptions,
  ): AsyncGenerator<string, void> {
    let leave = () => {};
    const turn = this.#last;
    this.#last = new Promise<void>((resolve) => (leave = resolve));
    try {
      await turn;
      this.#check(signal);
      const asked = messagesOf(input, this.#messages.length > 0);
      const ends = [this.#end.signal, ...(signal ? [signal] : [])];
      const all = AbortSignal.any(ends);
      const params: Omit<ChatCompletionStreamParams, "messages"> = {
        stream: true,
        stream_options: { include_usage: true },
        temperature: this.#sampling.temperature,
        top_k: this.#sampling.topK,
        ...constraintOf(responseConstraint),
      };
      let text = "";
      for await (const chunk of await this.#start(asked, params, all)) {
        const piece = chunk.choices[0]?.delta.content ?? "";
        text += piece;
        if (chunk.usage) this.#usage = chunk.usage.total_tokens;
        if (piece) yield piece;
      }
      this.#messages = [...this.#messages, ...asked, { role: "assistant", content: text }];
    } catch (error) {
      throw signal?.aborted ? signal.reason : inDom(error);
    } finally {
      leave();
    }
  }

  /** Starts an answer. While the prompt is too long, the oldest question and its answer are left out. */
  async #start(
    asked: ChatMessage[],
    params: Omit<ChatCompletionStreamParams, "messages">,
    signal: AbortSignal,
  ) {
    for (;;) {
      try {
        const messages = [...this.#messages, ...asked];
        return await this.#engine.chat.completions.create({ ...params, messages }, { signal });
      } catch (error) {
        if (!(error instanceof ContextLengthError)) throw error;
        if (this.#messages.length <= this.#nInitial) {
          const requested = await this.#count([...this.#messages, ...asked]);
          throw quotaExceeded(requested, this.contextWindow);
        }
        const rest = this.#messages.slice(this.#nInitial);
        const next = rest.findIndex(({ role }, index) => index > 0 && role === "user");
        const kept = next < 0 ? [] : rest.slice(next);
        this.#messages = [...this.#messages.slice(0, this.#nInitial), ...kept];
        this.dispatchEvent(new Event("contextoverflow"));
      }
    }
  }

  /** Runs after what was asked before. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => {});
    return result;
  }

  #check(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#end.signal.aborted) throw new DOMException("The session is destroyed.", "InvalidStateError");
  }

  /** Tokens of the messages' texts. The template's own tokens are counted once there is an answer. */
  async #count(messages: ChatMessage[]): Promise<number> {
    let count = 0;
    for (const { content } of messages)
      if (typeof content === "string") count += (await this.#engine.tokenize(content)).length;
    return count;
  }
}

/** The engine's messages of a prompt. `isLater`: there are messages before it. */
function messagesOf(input: LanguageModelPrompt, isLater: boolean): ChatMessage[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  if (input.length === 0) return [{ role: "user", content: "" }];
  return input.map(({ role, content, prefix }, index) => {
    if (prefix && (role !== "assistant" || index < input.length - 1))
      throw new DOMException(
        "Only the last message can be a prefix, and only of the assistant.",
        "SyntaxError",
      );
    if (prefix) throw new DOMException("An answer cannot be begun for the model.", "NotSupportedError");
    if (role === "system" && (isLater || index > 0))
      throw new TypeError("The system message must be the first one.");
    if (typeof content === "string") return { role, content };
    const texts = content.map(({ type, value }) => {
      if (type !== "text" || typeof value !== "string")
        throw new DOMException(`This model takes text only, not ${type}.`, "NotSupportedError");
      return value;
    });
    return { role, content: texts.join("") };
  });
}

/** A constraint as the engine's parameters. */
function constraintOf(
  constraint: object | undefined,
): Pick<ChatCompletionStreamParams, "response_format" | "grammar"> {
  if (constraint === undefined) return {};
  if (!(constraint instanceof RegExp)) {
    const schema = constraint as Record<string, unknown>;
    return { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } };
  }
  const flags = constraint.flags.replace(/[gyud]/g, "");
  if (flags)
    throw new DOMException(`The flags ${flags} of a constraint are not supported.`, "NotSupportedError");
  // The whole answer matches anyway.
  return { grammar: { regex: constraint.source.replace(/^\^/, "").replace(/(?<!\\)\$$/, "") } };
}

/** The promise's result, unless the signal fires first. */
async function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** The error that the specification has for a prompt that does not fit. */
function quotaExceeded(requested: number, quota: number): Error {
  const message = `The prompt needs ${requested} tokens, the context holds ${quota}.`;
  const error = new DOMException(message, "QuotaExceededError");
  return Object.assign(error, { requested, quota });
}

/** An engine's error as the specification names it. */
function inDom(error: unknown): unknown {
  if (!(error instanceof NomoatError)) return error;
  switch (error.code) {
    case "aborted":
      return new DOMException(error.message, "AbortError");
    case "invalid_request":
    case "unsupported_feature":
      return new DOMException(error.message, "NotSupportedError");
    default:
      return Object.assign(new DOMException(error.message, "OperationError"), { cause: error });
  }
}
