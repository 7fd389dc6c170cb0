import { computed, signal } from "@preact/signals";
import { catalogue, deleteStoredModel, listStoredModels, modelUrls, storageEstimate } from "nomoat";
import type { EngineOptions, Fit, ModelInspection, RecommendedSampling, StoredModel, Strength } from "nomoat";
import { NotGgufError } from "../lib/errors";
import { remoteName } from "../lib/servers";
import { config } from "./config";
import { hubOptions } from "./hub";
import { contextHere, estimatedBytes, fitHere, memoryNeeded, recommended } from "./recommend";
import { servers, type RemoteModel } from "./servers";
import { contextLengths, settings, updateSettings } from "./settings";

/** A model that can be chosen. */
export interface ModelChoice {
  id: string;
  name: string;
  /** Bytes, if known before the download. */
  size: number | null;
  /** Bytes as estimated, where `size` is null. */
  estimate?: number;
  origin: "catalogue" | "server" | "added" | "file" | "remote";
  source: EngineOptions["model"];
  /** Identify a stored model: the pinned hashes, or else the addresses. */
  sha256: readonly string[];
  urls: readonly string[];
  /** Facts for the line beneath the picker. */
  parameters?: number;
  quantization?: string;
  license?: string;
  contextLength?: number;
  /** Memory of a token of context. */
  kvBytesPerToken?: number;
  description?: string;
  strengths?: readonly Strength[];
  /** How its makers recommend to choose tokens, where its file does not say. */
  sampling?: RecommendedSampling;
  /** The built-in chat template that it has if no other is chosen, where its file has none. */
  template?: string;
  /** `owner/name` on the hub. */
  repo?: string;
  /** Where it runs, if not on this device: what is written to it is sent there. */
  remote?: RemoteModel;
}

/** Files that the person opened; they last as long as the page. */
const openedFiles = signal<ModelChoice[]>([]);

/** The models in the browser's storage. */
export const storedModels = signal<readonly StoredModel[]>([]);
/** False until the store has been read once. */
export const storedModelsKnown = signal(false);
export const estimate = signal<{ usage: number; quota: number; persisted: boolean } | null>(null);

/** The addresses under which a model is stored: a person may give the address of a page or of one part. */
function storedUrls(urls: string[]): readonly string[] {
  try {
    return modelUrls({ url: urls }, hubOptions.value);
  } catch {
    return urls; // Loading it says what is wrong.
  }
}

function catalogueUrls(id: string): readonly string[] {
  try {
    return modelUrls(id, hubOptions.value);
  } catch {
    return [];
  }
}

/** The hashes of all files, or none. */
function pinned(files: readonly { sha256?: string }[]): readonly string[] {
  const hashes = files.flatMap(({ sha256 }) => sha256 ?? []);
  return hashes.length === files.length ? hashes : [];
}

/** Every model that can be chosen, in the picker's order. */
export const models = computed<readonly ModelChoice[]>(() => [
  ...catalogue.map((entry): ModelChoice => ({
    id: entry.id,
    name: entry.name,
    size: entry.size ?? null,
    estimate: estimatedBytes(entry),
    origin: "catalogue",
    source: entry.id,
    sha256: pinned(entry.files),
    urls: catalogueUrls(entry.id),
    description: entry.description,
    strengths: entry.strengths,
    ...(entry.sampling && { sampling: entry.sampling }),
    ...(entry.template && { template: entry.template }),
    repo: entry.repo,
    parameters: entry.parameters,
    quantization: entry.quantization,
    license: entry.license,
    contextLength: entry.context_length,
    kvBytesPerToken: entry.kv_bytes_per_token,
  })),
  ...config.value.models.map((model): ModelChoice => ({
    id: model.id,
    name: model.name,
    size: model.size,
    origin: "server",
    source: { url: model.urls, name: model.name },
    sha256: [],
    urls: storedUrls(model.urls),
  })),
  ...settings.value.addedModels.map((model): ModelChoice => ({
    id: model.urls[0] ?? model.name,
    name: model.name,
    size: null,
    origin: "added",
    source: { url: model.urls, name: model.name, ...(model.sha256 && { sha256: model.sha256 }) },
    sha256: model.sha256 ?? [],
    urls: storedUrls(model.urls),
    ...(model.kvBytesPerToken !== undefined && { kvBytesPerToken: model.kvBytesPerToken }),
    ...(model.contextLength !== undefined && { contextLength: model.contextLength }),
  })),
  ...servers.value.flatMap(({ models: names, ...server }) =>
    names.map((model): ModelChoice => ({
      id: `remote:${server.baseURL} ${model}`,
      name: model,
      size: null,
      origin: "remote",
      source: model,
      sha256: [],
      urls: [],
      remote: { ...server, model },
    })),
  ),
  ...openedFiles.value,
]);

/**
 * The model in the picker: the chosen one, else the server's default, else one that is on this device, else
 * the recommended one.
 */
export const chosenModel = computed<ModelChoice | null>(() => {
  const byId = (id: string | null | undefined) => models.value.find((model) => model.id === id);
  const stored = models.value.find((model) => storedCopy(model)?.complete === true);
  return (
    byId(settings.value.modelId) ??
    byId(config.value.defaultModel) ??
    stored ??
    byId(recommended.value?.id) ??
    models.value[0] ??
    null
  );
});

/** Whether the model in the picker is there because it was recommended: nobody has chosen yet. */
export const isRecommendation = computed(
  () =>
    settings.value.modelId === null &&
    config.value.defaultModel === null &&
    chosenModel.value !== null &&
    chosenModel.value.id === recommended.value?.id,
);

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length > 0 && a.length === b.length && a.every((item, index) => item === b[index]);
}

/** Bytes of a model: known, stored or estimated. */
export function bytesOf(choice: ModelChoice): number | null {
  return choice.size ?? (storedCopy(choice)?.totalBytes || choice.estimate || null);
}

/** The stored copy of a model, if there is one. */
export function storedCopy(choice: ModelChoice): StoredModel | undefined {
  return storedModels.value.find(
    (stored) => same(choice.sha256, stored.sha256) || same(choice.urls, stored.urls),
  );
}

/** Whether a model can start without a download. */
export function isAtHand(choice: ModelChoice): boolean {
  return choice.origin === "file" || choice.remote !== undefined || storedCopy(choice)?.complete === true;
}

/** A model's name, with its server's: for places that show nothing else of it. */
export function fullName({ name, remote }: ModelChoice): string {
  return remote === undefined ? name : remoteName(remote);
}

/** Memory that a model needs here, with the context that Settings ask for. */
export function memoryOf(choice: ModelChoice): number | null {
  const size = bytesOf(choice);
  return size === null ? null : memoryNeeded(size, contextHere(choice), choice.kvBytesPerToken);
}

/** Whether a model has room on this device; null while that is unknown. */
export function fitOfModel(choice: ModelChoice): Fit | null {
  return fitHere(memoryOf(choice));
}

/** Whether a model has no room here only because of the context that Settings ask for. */
export function isContextTooLong(choice: ModelChoice): boolean {
  const size = bytesOf(choice);
  const least = size === null ? null : memoryNeeded(size, contextLengths[0] ?? 1, choice.kvBytesPerToken);
  return fitOfModel(choice) === "too-large" && fitHere(least) !== "too-large";
}

/** Whether a model must be downloaded, all of it, and may not fit then: one asks before that. */
export function isDoubtful(choice: ModelChoice): boolean {
  const hasBegun = choice.origin === "file" || (storedCopy(choice)?.bytes ?? 0) > 0;
  return !hasBegun && fitOfModel(choice) === "tight";
}

/** Reads which models are stored and how much room there is. */
export async function refreshStorage(): Promise<void> {
  const [stored, room] = await Promise.allSettled([listStoredModels(), storageEstimate()]);
  if (stored.status === "fulfilled") storedModels.value = stored.value;
  if (room.status === "fulfilled") estimate.value = room.value;
  storedModelsKnown.value = true;
}

export async function deleteModel(key: string): Promise<void> {
  await deleteStoredModel(key);
  await refreshStorage();
}

function fileName(path: string): string {
  return path.split("/").at(-1) ?? path;
}

function modelName(path: string): string {
  return fileName(path)
    .replace(/\.gguf$/i, "")
    .replace(/-\d{5}-of-\d{5}$/, "");
}

/** What an inspection says about a model's context. */
function contextFacts({ kvBytes, contextLength, trainedContextLength }: ModelInspection) {
  return {
    ...(contextLength > 0 && kvBytes > 0 && { kvBytesPerToken: Math.round(kvBytes / contextLength) }),
    ...(trainedContextLength > 0 && { contextLength: trainedContextLength }),
  };
}

/** Adds a model that was inspected, and returns it. A model that is there already is returned as it is. */
export function addInspected(found: ModelInspection): ModelChoice | null {
  const { model, name } = found;
  const source = typeof model === "string" ? { url: model } : model;
  if (source instanceof File || Array.isArray(source)) return null;
  const urls = [source.url].flat();
  const [first] = urls;
  if (first === undefined) return null;
  const known = models.value.find((choice) => choice.id === first);
  if (known !== undefined) return known;
  const sha256 = source.sha256 === undefined ? [] : [source.sha256].flat();
  const added = {
    name: modelName(decodeURIComponent(new URL(first, location.href).pathname)) || name,
    urls,
    ...(sha256.length === urls.length && { sha256 }),
    ...contextFacts(found),
  };
  updateSettings({ addedModels: [...settings.value.addedModels, added] });
  return models.value.find((choice) => choice.id === first) ?? null;
}

/**
 * Adds opened files to the choices, split files in order. `found`: what is known of them. Throws NotGgufError
 * for other files.
 */
export function openFiles(files: readonly File[], found: ModelInspection | null): ModelChoice {
  const other = files.find((file) => !/\.gguf$/i.test(file.name));
  if (other !== undefined) throw new NotGgufError(other.name);
  const ordered = files.toSorted((a, b) => a.name.localeCompare(b.name, "en"));
  const [first] = ordered;
  if (first === undefined) throw new NotGgufError("");
  const choice: ModelChoice = {
    id: `file:${first.name}`,
    name: modelName(first.name),
    size: ordered.reduce((sum, file) => sum + file.size, 0),
    origin: "file",
    source: ordered,
    sha256: [],
    urls: [],
    ...(found && contextFacts(found)),
  };
  openedFiles.value = [...openedFiles.value.filter((model) => model.id !== choice.id), choice];
  updateSettings({ modelId: choice.id });
  return choice;
}

/** Takes a file that turned out to be no model out of the choices. */
export function forgetOpened(model: ModelChoice): void {
  openedFiles.value = openedFiles.value.filter(({ id }) => id !== model.id);
}
