/** Messages between the page and the worker. Every call has an id. */
import type { AdapterFiles } from "./adapters.js";
import type { DeviceOptions, DeviceReason } from "./devices.js";
import type { WireError } from "./errors.js";
import type {
  KvFormat,
  RuntimeAdapterInfo,
  RuntimeAdvance,
  RuntimeTraining,
  RuntimeAdapterUse,
  RuntimeEvent,
  RuntimeInspection,
  RuntimeDeviceInfo,
  RuntimeModelInfo,
  RuntimeRequest,
  RuntimeStart,
} from "./runtime.js";
import type { DeviceSpeed } from "./speed.js";
import type { TrainedFiles, TrainingPlan } from "./training.js";

/** One file of a model, as the worker loads it. */
export type FileSpec = RemoteFile | LocalFile;

/** A remote file. */
export interface RemoteFile {
  kind: "url";
  /** Absolute address. */
  url: string;
  /** Pinned SHA-256 of the whole file, lower-case hex, or null. */
  sha256: string | null;
  /** Pinned size in bytes, or null. */
  size: number | null;
  /** Request headers, including the token if the address is the hub's. */
  headers: Record<string, string>;
}

/** A file the person opened. */
export interface LocalFile {
  kind: "file";
  file: File;
}

/** A model by its files. */
export interface ModelFiles {
  /** Name for the list of stored models. */
  name: string;
  /** In order. */
  files: FileSpec[];
}

/** What is needed to download a model. */
export interface StoreRequest extends ModelFiles {
  /** Ask the server whether a stored, unpinned file changed. */
  refresh: boolean;
  /** Take files from the browser's storage for all sites, and offer them there. */
  share: boolean;
}

/** What the worker needs to load a model. */
export interface LoadRequest extends DeviceOptions, StoreRequest {
  /** A model that guesses tokens for it, or null. */
  draft: ModelFiles | null;
  contextLength: number | null;
  /** A built-in chat template in place of the file's, or null. */
  template: string | null;
  /** A built-in chat template for files that have none, or null. */
  fallbackTemplate: string | null;
  /** A response template as JSON, or null. */
  responseTemplate: string | null;
  /** Whole contexts that memory is taken for; null: by the device's memory. */
  parallel: number | null;
  /** How keys and values are stored. */
  kvFormat: KvFormat;
  /** Bytes of the browser's storage for pages of the prefix cache. */
  promptCacheBytes: number;
  /** After the headers, wait for `proceed`. */
  waits: boolean;
}

/** What the worker needs to inspect a model. */
export interface InspectRequest {
  /** In order. */
  files: FileSpec[];
  contextLength: number | null;
  kvFormat: KvFormat;
  /** The device that would run it: its build reads the headers, and is there when the model is loaded. */
  backend: "webgpu" | "cpu";
}

/** The answer to `inspect`. */
export interface Inspected extends RuntimeInspection {
  /** Bytes of each file. */
  sizes: number[];
}

/** Progress of loading. */
export interface LoadProgress {
  /** `download`: bytes come from the network; `load`: stored or local bytes go to the GPU. */
  phase: "device" | "download" | "load" | "ready";
  /** Bytes of the model that are there. */
  loaded: number;
  /** Bytes of the whole model; 0 while unknown. */
  total: number;
  /** Bytes that came over the network in this call. */
  downloaded: number;
  /** Smoothed speed of `loaded`. */
  bytesPerSecond: number;
  /** Estimate, or null while unknown. */
  secondsLeft: number | null;
  /** It is about the draft model, which is loaded after the model. */
  isDraft?: true;
}

/** The answer to `load`. */
export interface Loaded {
  device: RuntimeDeviceInfo;
  /** Why that device was chosen. */
  reason: DeviceReason;
  /** The reason as a sentence. */
  why: string;
  model: LoadedModel;
}

/** A loaded model, with the SHA-256 of its files, in order. */
export type LoadedModel = RuntimeModelInfo & { sha256: string[] };

/** Bytes in use. */
export interface MemoryUse {
  /** Size of the wasm memory. */
  wasmBytes: number;
  /** GPU buffers of the model and its context. */
  gpuBytes: number;
}

/** The calls a worker serves: their parameters and results. */
export interface Calls {
  load: { params: LoadRequest; result: Loaded };
  inspect: { params: InspectRequest; result: Inspected };
  measure: { params: DeviceOptions; result: DeviceSpeed };
  generate: { params: RuntimeRequest; result: void };
  score: {
    params: { ids: Uint32Array; oneByOne: boolean; adapters: RuntimeAdapterUse[] };
    result: { logprobs: number[]; top: number[] };
  };
  loadAdapter: { params: AdapterFiles; result: RuntimeAdapterInfo };
  unloadAdapter: { params: { name: string }; result: void };
  trainBegin: {
    params: { settings: RuntimeTraining; data: string } | { checkpoint: Blob };
    result: TrainingPlan;
  };
  trainStep: { params: null; result: RuntimeAdvance };
  trainCheckpoint: { params: null; result: Blob };
  trainFiles: { params: { base: string }; result: TrainedFiles };
  trainEnd: { params: null; result: void };
  tokenize: { params: { text: string; special: boolean }; result: number[] };
  detokenize: { params: { ids: Uint32Array }; result: string };
  forget: { params: null; result: void };
  memory: { params: null; result: MemoryUse };
}

/** Name of a call. */
export type Method = keyof Calls;

/**
 * From page to worker. `hold` asks it to hold the Web Lock of this name for its life, `ping` for a `pong`.
 * `close` frees everything; it has no answer.
 */
export type ToWorker =
  | { [M in Method]: { type: "call"; id: number; method: M; params: Calls[M]["params"] } }[Method]
  | { type: "abort"; id: number }
  | { type: "hold"; lock: string }
  | { type: "ping" }
  | { type: "proceed" }
  | { type: "close" };

/** What a running call reports. */
export type Notice =
  | { kind: "progress"; progress: LoadProgress }
  /** The headers are read; the load waits if it was asked to. */
  | { kind: "header" }
  | { kind: "start"; start: RuntimeStart }
  | { kind: "event"; event: RuntimeEvent };

/**
 * From worker to page. `crash` ends every call: the wasm instance is dead. `held`: the worker has
 * the lock.
 */
export type FromWorker =
  | { type: "held" }
  | { type: "pong" }
  | { type: "notice"; id: number; notice: Notice }
  | { type: "result"; id: number; result: unknown }
  | { type: "error"; id: number; error: WireError }
  | { type: "crash"; error: WireError };
