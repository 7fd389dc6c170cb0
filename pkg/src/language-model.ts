/**
 * The Prompt API (https://webmachinelearning.github.io/prompt-api/) over an engine: code that was written for
 * a browser's own `LanguageModel` runs on any model. Text only.
 */
import { listStoredModels } from "./browser.js";
import { createEngine } from "./engine.js";
import type { Engine, EngineOptions } from "./engine-types.js";
import { abortable, inDom } from "./prompt-api/errors.js";
import { messagesOf } from "./prompt-api/input.js";
import { Session } from "./prompt-api/session.js";
import { checkedTools } from "./prompt-api/tools.js";
import type { LanguageModelCoreOptions, LanguageModelStatic } from "./prompt-api/types.js";
import { modelUrls } from "./source.js";

export type * from "./prompt-api/types.js";

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
const NO_TOOLS = "The model has no chat template, so it cannot be told about tools.";

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
      const tools = checkedTools(options.tools);
      const problem = unsupported(options);
      if (problem) throw new DOMException(problem, "NotSupportedError");
      if (options.samplingMode !== undefined && (options.topK ?? options.temperature) !== undefined)
        throw new TypeError("Use either `samplingMode`, or `topK` and `temperature`.");
      const { topK = DEFAULT_TOP_K, samplingMode = "default" } = options;
      const { temperature = TEMPERATURES[samplingMode] } = options;
      const initial = options.initialPrompts?.length ? messagesOf(options.initialPrompts, false) : [];
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
        if (tools.length > 0 && engine.model.tools === null)
          throw new DOMException(NO_TOOLS, "NotSupportedError");
        const session = new Session({
          engine,
          topK: Math.min(Math.max(1, Math.floor(topK)), MAX_TOP_K),
          temperature: Math.min(Math.max(0, temperature), MAX_TEMPERATURE),
          samplingMode,
          tools,
          initial,
        });
        await abortable(session.measure(), signal);
        signal?.addEventListener("abort", () => session.end(signal.reason), { once: true });
        return session;
      } catch (error) {
        throw signal?.aborted ? signal.reason : inDom(error);
      } finally {
        listeners.delete(tell);
      }
    },
    async availability(options = {}) {
      if (unsupported(options)) return "unavailable";
      const engine = isLoaded ? await ("chat" in source ? source : loading) : undefined;
      if (checkedTools(options.tools).length > 0 && engine?.model.tools === null) return "unavailable";
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
  const { expectedInputs = [], expectedOutputs = [] } = options;
  const other =
    expectedInputs.find(({ type }) => type !== "text" && type !== "tool-response") ??
    expectedOutputs.find(({ type }) => type !== "text" && type !== "tool-call");
  return other ? `This model takes and gives text only, not ${other.type}.` : null;
}
