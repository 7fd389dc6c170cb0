/** LoRA adapters of an engine: where they come from, and which of them a request uses. */
import { AbortedError, InvalidRequestError, ModelNotFoundError, NetworkError } from "./errors.js";
import type { WorkerLink } from "./link.js";
import type { Calls } from "./protocol.js";
import type { RuntimeAdapterUse } from "./runtime.js";

/** A file: its address, or the file itself. */
export type AdapterFile = string | URL | Blob;

/**
 * A GGUF file, or the two files that PEFT saves: `adapter_config.json` and `adapter_model.safetensors`. With
 * these the same as GGUF may be given, for `export`.
 */
export type AdapterSource = AdapterFile | { config: AdapterFile; weights: AdapterFile; gguf?: AdapterFile };

/** A file for llama.cpp, or two for PEFT. */
export type AdapterFormat = "gguf" | "peft";

/** A loaded adapter. */
export interface AdapterInfo {
  name: string;
  /** The greatest rank of its matrices. */
  rank: number;
  /** Numbers in its matrices. */
  parameters: number;
  /** Tensors of the model that it changes. */
  tensors: number;
  /** What `export` gives of it. */
  formats: AdapterFormat[];
}

/** An adapter in a request. */
export interface AdapterUse {
  name: string;
  /** Its strength: 1 (the default) as it was trained, 0 not at all. */
  scale?: number | null;
}

/** The adapters of an engine. */
export interface Adapters {
  /** Loads an adapter beside the model, which stays as it is. The name is not empty and has no colon. */
  load(source: AdapterSource, options: { name: string; signal?: AbortSignal }): Promise<AdapterInfo>;
  /**
   * The files of an adapter, for llama.cpp (`gguf`) or PEFT (`peft`: `adapter_config.json` and
   * `adapter_model.safetensors`). One that was trained here has both, or GGUF alone if PEFT has no names for
   * what it learnt; another has what it was loaded from.
   */
  export(name: string, format: "gguf"): Blob;
  export(name: string, format: "peft"): { config: Blob; weights: Blob };
  /** In the order in which they were loaded. */
  list(): AdapterInfo[];
  /** Frees an adapter. Waits for running answers. */
  unload(name: string): Promise<void>;
}

/** An adapter as the worker loads it. */
export interface AdapterFiles {
  name: string;
  /** The GGUF file, or PEFT's weights. */
  weights: Blob;
  /** PEFT's settings; null with a GGUF file. */
  config: Blob | null;
  /** The same adapter as GGUF, if it is known. */
  gguf: Blob | null;
}

/** Fetches what has an address. */
async function adapterFiles(
  source: AdapterSource,
  name: string,
  base: string,
  signal?: AbortSignal,
): Promise<AdapterFiles> {
  if (typeof name !== "string" || name === "" || name.includes(":"))
    throw new InvalidRequestError("`name` must be a text without a colon, and not empty.", "name");
  const get = (file: AdapterFile) => blobOf(file, base, signal);
  if (typeof source === "object" && source !== null && "config" in source) {
    const [config, weights] = await Promise.all([get(source.config), get(source.weights)]);
    return { name, config, weights, gguf: source.gguf === undefined ? null : await get(source.gguf) };
  }
  const gguf = await get(source);
  return { name, config: null, weights: gguf, gguf };
}

async function blobOf(file: AdapterFile, base: string, signal?: AbortSignal): Promise<Blob> {
  if (file instanceof Blob) return file;
  if (typeof file !== "string" && !(file instanceof URL))
    throw new InvalidRequestError("An adapter is an address, a File or a Blob.", "source");
  if (!URL.canParse(String(file), base))
    throw new InvalidRequestError(`${String(file)} is not an address.`, "source");
  const url = new URL(file, base).href;
  try {
    const response = await fetch(url, signal ? { signal } : {});
    if ([401, 403, 404].includes(response.status))
      throw new ModelNotFoundError(`${url}: the server answered ${response.status}.`, response.status);
    if (!response.ok)
      throw new NetworkError(`${url}: the server answered ${response.status}.`, response.status);
    return await response.blob();
  } catch (error) {
    if (signal?.aborted) throw new AbortedError();
    if (error instanceof ModelNotFoundError || error instanceof NetworkError) throw error;
    throw new NetworkError(`${url} could not be fetched: ${String(error)}`, undefined, { cause: error });
  }
}

/** A call of the worker, after those before it. */
export type AdapterCall = <M extends "loadAdapter" | "unloadAdapter">(
  method: M,
  params: Calls[M]["params"],
  signal?: AbortSignal,
) => Promise<Calls[M]["result"]>;

/** The adapters of an engine, and what they were loaded from. */
export class LoadedAdapters implements Adapters {
  readonly #model: string;
  readonly #base: string;
  readonly #call: AdapterCall;
  readonly #loaded = new Map<string, { files: AdapterFiles; info: AdapterInfo }>();

  /** For a model of this name. Addresses are relative to `base`. */
  constructor(model: string, base: string, call: AdapterCall) {
    this.#model = model;
    this.#base = base;
    this.#call = call;
  }

  async load(
    source: AdapterSource,
    { name, signal }: { name: string; signal?: AbortSignal },
  ): Promise<AdapterInfo> {
    const files = await adapterFiles(source, name, this.#base, signal);
    const { rank, parameters, tensors } = await this.#call("loadAdapter", files, signal);
    const formats: AdapterFormat[] = [];
    if (files.gguf) formats.push("gguf");
    if (files.config) formats.push("peft");
    const info = { name, rank, parameters, tensors, formats };
    this.#loaded.set(name, { files, info });
    return { ...info };
  }

  export(name: string, format: "gguf"): Blob;
  export(name: string, format: "peft"): { config: Blob; weights: Blob };
  export(name: string, format: AdapterFormat): Blob | { config: Blob; weights: Blob } {
    const loaded = this.#loaded.get(name);
    if (!loaded) throw new InvalidRequestError(`There is no adapter ${name}.`, "name");
    const { config, weights, gguf } = loaded.files;
    const found = format === "gguf" ? gguf : config && { config, weights };
    if (!found) throw new InvalidRequestError(`${name} was not loaded as ${format}.`, "format");
    return found;
  }

  list(): AdapterInfo[] {
    return [...this.#loaded.values()].map(({ info }) => ({ ...info }));
  }

  async unload(name: string): Promise<void> {
    await this.#call("unloadAdapter", { name });
    this.#loaded.delete(name);
  }

  /** The adapters of a request. */
  uses(params: { model?: string; adapters?: AdapterUse[] | null | undefined }): RuntimeAdapterUse[] {
    return usesOf(params, this.#model, [...this.#loaded.keys()]);
  }

  /** Loads them again on a new worker. */
  async restore(link: WorkerLink): Promise<void> {
    for (const { files } of this.#loaded.values()) await link.call("loadAdapter", files);
  }
}

/** `adapters` of a request; throws InvalidRequestError naming the field that is wrong. */
function adapterUses(value: unknown): RuntimeAdapterUse[] {
  if (value == null) return [];
  if (!Array.isArray(value)) throw new InvalidRequestError("`adapters` must be a list.", "adapters");
  return value.map((item: unknown, index) => {
    const at = `adapters[${index}]`;
    const { name, scale } = Object(item) as { name?: unknown; scale?: unknown };
    if (typeof name !== "string")
      throw new InvalidRequestError(`\`${at}\` must be { name, scale }.`, `${at}.name`);
    if (scale != null && !(typeof scale === "number" && Number.isFinite(scale)))
      throw new InvalidRequestError(`\`${at}.scale\` must be a number.`, `${at}.scale`);
    return { name, scale: scale ?? 1 };
  });
}

/**
 * The adapters of a request: those that it lists, or the one that its model names as `base:name`. Other names
 * of models are taken, as ever.
 */
export function usesOf(
  params: { model?: unknown; adapters?: unknown },
  base: string,
  loaded: readonly string[],
): RuntimeAdapterUse[] {
  const uses = adapterUses(params.adapters);
  const { model } = params;
  const colon = typeof model === "string" && model !== base ? model.lastIndexOf(":") : -1;
  const named = typeof model === "string" && colon >= 0 ? model.slice(colon + 1) : null;
  const isBase = typeof model === "string" && model.slice(0, Math.max(colon, 0)) === base;
  if (named !== null && (isBase || loaded.includes(named))) {
    if (uses.length > 0)
      throw new InvalidRequestError("Use either `adapters` or a `model` with an adapter's name.", "adapters");
    uses.push({ name: named, scale: 1 });
  }
  const unknown = uses.find(({ name }) => !loaded.includes(name));
  if (unknown) {
    const names = loaded.length > 0 ? loaded.join(", ") : "none";
    throw new InvalidRequestError(`There is no adapter ${unknown.name}; loaded: ${names}.`, "adapters");
  }
  return uses;
}
