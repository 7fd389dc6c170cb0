/** What a model is and whether it runs here, from the headers of its files. */
import type { DeviceChoice } from "./devices.js";
import { AbortedError, InvalidRequestError, ModelNotFoundError } from "./errors.js";
import type { NetworkEnv } from "./exchange.js";
import { comfortableBytes, fitOf, type Fit } from "./fit.js";
import { listRepository, repositoryOf, suggestFile, type HubFile, type HubRepository } from "./hub.js";
import { callOnce, type WorkerLike } from "./link.js";
import { kvFormat } from "./request.js";
import type { KvFormat } from "./runtime.js";
import { expectedSpeed, type DeviceSpeed } from "./speed.js";
import { resolveSource, type ModelSource, type SourceOptions } from "./source.js";

/** Options of `inspectModel`. */
export interface InspectOptions extends SourceOptions {
  /** Tokens of context whose memory is counted. Default: as `createEngine`. */
  contextLength?: number;
  /** The format of keys and values whose memory is counted. Default `f16`, as `createEngine`. */
  kvFormat?: KvFormat;
  /** Where it would run. Default `auto`, as `createEngine`. */
  device?: DeviceChoice;
  /** Path of a file of the repository. Default: the one that suits this device. */
  file?: string;
  /** Stops the inspection. */
  signal?: AbortSignal;
}

/** Why a model does not run here: as the error's code, or because it is too large. */
export interface InspectProblem {
  code: string;
  /** A sentence, in English. */
  message: string;
}

/** What is known of a model before its download. Sizes in bytes. */
export interface ModelInspection {
  /** What `createEngine({ model })` takes. */
  model: ModelSource;
  name: string;
  /** Empty if the file names none. */
  architecture: string;
  /** Number of weights. */
  parameters: number;
  /** Main tensor type, such as `Q4_1`. */
  quantization: string;
  /** Of all files. */
  size: number;
  /** Tokens of context that `kvBytes` is for. */
  contextLength: number;
  /** What the model was trained for; 0 if the file does not say. */
  trainedContextLength: number;
  /** The weights on the device; 0 if the model does not run. */
  weightBytes: number;
  /** Of weights, what is read for each token of an answer: of experts, only those in use. */
  bytesPerToken: number;
  /** Expected of an answer, from what `measureSpeed` has found here before; null where it has not. */
  tokensPerSecond: number | null;
  /** The KV cache for `contextLength`. It grows in proportion. */
  kvBytes: number;
  /** Of its own, or a built-in one that the catalogue names. */
  hasChatTemplate: boolean;
  /** As the file or its repository says. */
  license: string | null;
  /** What was odd in the file and would be put right, in sentences. */
  warnings: string[];
  /** The device that would run it, or null. */
  runsOn: "webgpu" | "cpu" | null;
  /** Whether it has room there. */
  fit: Fit;
  /** Why it does not run; null if it does. */
  problem: InspectProblem | null;
  /** The repository that was named, with all its files. Null for files and addresses. */
  repository: HubRepository | null;
}

/** The browser; tests replace it. */
export interface InspectPlatform {
  spawn: () => WorkerLike;
  network: NetworkEnv;
  /** The page's address. */
  base: string;
  backend(device: DeviceChoice): Promise<"webgpu" | "cpu">;
  /** What was measured of the device, or null. */
  speed(backend: "webgpu" | "cpu"): Promise<DeviceSpeed | null>;
  /** The device's memory in GiB, or null. */
  memory: number | null;
}

/** @internal `inspectModel` in another browser. */
export async function inspectModelWith(
  source: ModelSource,
  options: InspectOptions,
  { spawn, network, base, backend, speed, memory }: InspectPlatform,
): Promise<ModelInspection> {
  const { contextLength, device = "auto" } = options;
  const signal = options.signal ?? new AbortController().signal;
  if (contextLength !== undefined && !(Number.isSafeInteger(contextLength) && contextLength > 0))
    throw new InvalidRequestError("`contextLength` must be an integer above 0.", "contextLength");
  if (signal.aborted) throw new AbortedError();
  const format = kvFormat(options.kvFormat);
  const runsOn = await backend(device);
  const id = typeof source === "string" ? repositoryOf(source, options, base) : null;
  const repository = id === null ? null : await listRepository(id, options, network, base, signal);
  const model = repository
    ? sourceOf(chosenFile(repository, options.file, comfortableBytes(runsOn, memory)))
    : source;
  const { files, template } = resolveSource(model, options, base);
  const request = { files, contextLength: contextLength ?? null, kvFormat: format, backend: runsOn };
  const said = await callOnce(spawn, signal, "inspect", request);
  const needed = said.weight_bytes + said.kv_bytes;
  const fit = fitOf(needed, runsOn, memory);
  const problem = said.problem ?? (fit === "too-large" ? tooLarge(needed, runsOn) : null);
  return {
    model,
    name: said.name,
    architecture: said.architecture,
    parameters: said.parameters,
    quantization: said.quantization,
    size: said.sizes.reduce((sum, size) => sum + size, 0),
    contextLength: said.context_length,
    trainedContextLength: said.trained_context_length,
    weightBytes: said.weight_bytes,
    bytesPerToken: said.bytes_per_token,
    tokensPerSecond: expectedSpeed(await speed(runsOn), said.bytes_per_token),
    kvBytes: said.kv_bytes,
    hasChatTemplate: said.has_chat_template || template !== null,
    license: said.license ?? repository?.license ?? null,
    warnings: said.warnings,
    runsOn: problem === null ? runsOn : null,
    fit,
    problem,
    repository,
  };
}

function chosenFile(repository: HubRepository, path: string | undefined, budget: number): HubFile {
  if (path !== undefined) {
    const file = repository.files.find((candidate) => candidate.path === path);
    if (file) return file;
    throw new ModelNotFoundError(`The repository "${repository.id}" has no GGUF file "${path}".`);
  }
  const file = suggestFile(repository.files, budget);
  if (file) return file;
  throw new ModelNotFoundError(
    `The repository "${repository.id}" has no GGUF file: look for a repository of the same model with GGUF ` +
      "in its name.",
  );
}

/** What `createEngine` takes for a file of a repository. */
function sourceOf({ urls, sha256 }: HubFile): ModelSource {
  return { url: urls, ...(sha256 && { sha256 }) };
}

function tooLarge(bytes: number, backend: "webgpu" | "cpu"): { code: string; message: string } {
  const where = backend === "cpu" ? "the CPU's memory in a browser" : "this device's memory";
  const message = `The model needs ${(bytes / 1e9).toFixed(1)} GB, which is more than ${where} has.`;
  return { code: "out_of_memory", message };
}
