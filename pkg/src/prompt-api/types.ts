/** Types of the Prompt API. */

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

/** A function that the model may call while it answers. */
export interface LanguageModelTool {
  name: string;
  description: string;
  /** The JSON Schema of the input. The model is told about it, but not held to it. */
  inputSchema: object;
  /** Called with what the model gives. The model gets the text that it resolves to. */
  execute(input: Record<string, unknown>): Promise<string>;
}

/** What a session must be able to do, and how it chooses its words. */
export interface LanguageModelCoreOptions {
  topK?: number;
  temperature?: number;
  samplingMode?: SamplingMode | "default";
  expectedInputs?: { type: string; languages?: string[] }[];
  expectedOutputs?: { type: string; languages?: string[] }[];
  tools?: LanguageModelTool[];
}

/** Options of `LanguageModel.create`. */
export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  /** Ends the creation, or destroys the session. */
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
