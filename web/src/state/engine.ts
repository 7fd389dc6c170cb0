import { computed, effect, signal } from "@preact/signals";
import {
  chooseDevice,
  CorruptFileError,
  createEngine,
  deletePromptCache,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
  OutOfMemoryError,
  storageEstimate,
  UnsupportedModelError,
} from "nomoat";
import type { ChosenDevice, Engine, EngineOptions, LoadProgress, RecommendedSampling } from "nomoat";
import { hostOf } from "../lib/servers";
import { refreshConfig } from "./config";
import { onLeave } from "./history";
import { hubOptions } from "./hub";
import {
  chosenModel,
  deleteModel,
  estimate,
  fitOfModel,
  forgetOpened,
  isAtHand,
  models,
  memoryOf,
  refreshStorage,
  storedCopy,
  type ModelChoice,
} from "./models";
import { backend } from "./recommend";
import { connect, forgetServer, forgetServerModel, type RemoteModel } from "./servers";
import { setTemplate, settings, templateOf, updateSettings } from "./settings";
import { announcement, notice } from "./ui";
import { t } from "../i18n";

/** State of the engine. */
export type EngineState =
  | { kind: "idle" }
  | { kind: "loading"; model: ModelChoice; progress: LoadProgress | null }
  | { kind: "ready"; model: ModelChoice; engine: Engine }
  | { kind: "failed"; error: unknown };

export const engineState = signal<EngineState>({ kind: "idle" });

/** The engine, once it is ready. */
export const engine = computed(() => (engineState.value.kind === "ready" ? engineState.value.engine : null));

/**
 * The model in use and its engine, or the engine that it had: it stays while the same model is loaded again.
 */
export const inUse = signal<{ model: ModelChoice; engine: Engine } | null>(null);
effect(() => {
  const now = engineState.value;
  const before = inUse.peek();
  if (now.kind === "ready") inUse.value = { model: now.model, engine: now.engine };
  else if (now.kind !== "loading" || now.model.id !== before?.model.id) inUse.value = null;
});

/** The server on which the model runs that answers, or would answer; null on this device. */
export const serverInUse = computed<RemoteModel | null>(() => {
  const now = engineState.value;
  const model = now.kind === "ready" ? now.model : chosenModel.value;
  return model?.remote ?? null;
});

/** What the makers of a model recommend: what its file says, or else the catalogue. */
export function recommendedOf({ model: { sampling } }: Engine, model: ModelChoice): RecommendedSampling {
  return Object.keys(sampling).length > 0 ? sampling : (model.sampling ?? {});
}

/** The same of the model in use. */
export const recommendedSampling = computed<RecommendedSampling>(() => {
  const now = engineState.value;
  return now.kind === "ready" ? recommendedOf(now.engine, now.model) : {};
});

let loading: AbortController | null = null;
/** The model that takes memory. Until another one's header says that it runs, it is still there. */
let current: { model: ModelChoice; engine: Engine } | null = null;
/**
 * Loads and unloads run one after the other, and a load makes room before it takes memory, so that two models
 * are never in GPU memory together. First the page reads its server's configuration.
 */
let queue: Promise<void> = refreshConfig();

/** What conversations may take in the browser's storage besides their texts, so that they go on at once. */
const PROMPT_CACHE_BYTES = 512 * 2 ** 20;

/** Forgets what the model has computed of conversations, because one of them is deleted. */
export async function forgetPrompts(): Promise<void> {
  await (current ? current.engine.forget() : deletePromptCache()).catch(() => undefined);
}

async function unload(): Promise<void> {
  const old = current;
  current = null;
  await old?.engine.dispose().catch(() => undefined);
}

/** Whether the files are to blame: another model is as good as before. */
function isBadModel(error: unknown): boolean {
  const isTemplate = error instanceof NomoatError && error.code === "template";
  const kinds = [CorruptFileError, InvalidRequestError, ModelNotFoundError, UnsupportedModelError];
  return isTemplate || kinds.some((kind) => error instanceof kind);
}

/** An engine on this device, as Settings say. */
export function openHere(model: ModelChoice, options: Partial<EngineOptions>): Promise<Engine> {
  const { contextLength, device } = settings.value;
  const template = templateOf(model.id);
  return createEngine({
    model: model.source,
    contextLength,
    device,
    ...(template !== null && { template }),
    fallbackTemplate: "plain",
    contextOverflow: "truncate",
    // What the page says of memory is for one context.
    parallel: 1,
    ...hubOptions.value,
    ...options,
  });
}

async function loadHere(model: ModelChoice, signal: AbortSignal): Promise<Engine> {
  const { quota } = estimate.peek() ?? (await storageEstimate());
  return openHere(model, {
    promptCacheBytes: Math.min(PROMPT_CACHE_BYTES, Math.floor(quota / 8)),
    signal,
    onProgress(progress) {
      if (!signal.aborted) engineState.value = { kind: "loading", model, progress };
    },
    onHeader: unload,
  });
}

async function load(model: ModelChoice, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const before = current;
  try {
    const { remote } = model;
    const created = await (remote === undefined ? loadHere(model, signal) : connect(remote, signal));
    if (!signal.aborted) await unload();
    if (signal.aborted) {
      await created.dispose();
      return;
    }
    current = { model, engine: created };
    engineState.value = { kind: "ready", model, engine: created };
    const ready = t.value.modelReady(model.name);
    announcement.value = remote ? `${ready}. ${t.value.notPrivateLine(hostOf(remote))}` : ready;
  } catch (error) {
    if (signal.aborted) return;
    if (before !== null && before === current && before.model.id !== model.id && isBadModel(error)) {
      forgetOpened(model);
      updateSettings({ modelId: before.model.id });
      const server = model.remote?.baseURL;
      notice.value = { kind: "file", error, from: { isOwnFile: model.origin === "file", server } };
      engineState.value = { kind: "ready", ...before };
      return;
    }
    await unload();
    engineState.value = { kind: "failed", error };
  } finally {
    void refreshStorage();
  }
}

function noRoomFor(model: ModelChoice): OutOfMemoryError {
  const needed = ((memoryOf(model) ?? 0) / 1e9).toFixed(1);
  const message = `${model.name} needs ${needed} GB of memory, which is more than this device has room for.`;
  return new OutOfMemoryError(message, backend.value ?? "cpu");
}

/** Loads the chosen model in place of any other, and downloads it if it is not stored. */
export function startModel(): Promise<void> {
  const model = chosenModel.value;
  if (model === null) return Promise.resolve();
  loading?.abort();
  if (fitOfModel(model) === "too-large") {
    failEngine(noRoomFor(model));
    return queue;
  }
  const controller = new AbortController();
  loading = controller;
  engineState.value = { kind: "loading", model, progress: null };
  queue = queue.then(() => load(model, controller.signal));
  return queue;
}

/**
 * Frees the memory of the model in use while something else needs it. Afterwards the model is loaded again;
 * nobody waits for that. What needs the memory is told when the person wants another model.
 */
export function makeWay<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const model = inUse.peek()?.model;
  loading?.abort();
  const { signal } = (loading = new AbortController());
  if (model) engineState.value = { kind: "loading", model, progress: null };
  const done = queue.then(async () => {
    await unload();
    signal.throwIfAborted();
    return act(signal);
  });
  queue = done
    .then(() => undefined)
    .catch(() => undefined) // Whoever needed the memory is told.
    .then(() => (model ? load(model, signal) : undefined));
  return done;
}

/** Stops loading. What has been downloaded is kept. */
export function cancelLoading(): void {
  loading?.abort();
  engineState.value = { kind: "idle" };
  queue = queue.then(unload);
}

// Frees memory before a reload, which would otherwise start while it is still in use. What is saved then is
// saved as it is before that has any effect.
onLeave((event) => {
  if (event.persisted) return;
  loading?.abort();
  void current?.engine.dispose();
});

/** After another choice: unloads the running model, and starts the new one if that needs no download. */
export function followChoice(): void {
  loading?.abort();
  engineState.value = { kind: "idle" };
  const model = chosenModel.value;
  if (model === null) return;
  if (isAtHand(model)) void startModel();
  else queue = queue.then(unload);
}

/** Takes another model in place of the running one, and downloads it if need be. The conversation stays. */
export function switchTo(model: ModelChoice): void {
  updateSettings({ modelId: model.id });
  followChoice();
  if (engineState.value.kind === "idle") void startModel();
}

/** An error that ends the engine, such as a lost device. */
export function failEngine(error: unknown): void {
  engineState.value = { kind: "failed", error };
  queue = queue.then(unload);
}

/** Deletes a stored model. If it is the chosen one, it is unloaded first. */
export async function deleteStored(key: string): Promise<void> {
  const model = chosenModel.value;
  if (model !== null && storedCopy(model)?.key === key) {
    cancelLoading();
    await queue;
  }
  await deleteModel(key);
}

/** Removes a model that was added by address, and its stored copy. */
export async function forgetAdded(model: ModelChoice): Promise<void> {
  const copy = storedCopy(model);
  if (copy !== undefined) await deleteStored(copy.key);
  const wasChosen = chosenModel.value?.id === model.id;
  setTemplate(model.id, null);
  updateSettings({ addedModels: settings.value.addedModels.filter((added) => added.urls[0] !== model.id) });
  if (wasChosen) followChoice();
}

/** Removes a model on a server, or the server with all its models and its key. */
export function forgetRemote(remote: RemoteModel, what: "model" | "server"): void {
  const before = chosenModel.value?.id;
  if (what === "model") forgetServerModel(remote);
  else forgetServer(remote);
  if (chosenModel.value?.id !== before) followChoice();
}

// A server that was deleted in another tab is no longer asked.
effect(() => {
  const now = engineState.value;
  if (now.kind === "ready" && now.model.remote && !models.value.some(({ id }) => id === now.model.id))
    queueMicrotask(() => {
      if (engineState.peek() === now) followChoice();
    });
});

// A download that failed with the network resumes when the network is back: the person has agreed to it.
addEventListener("online", () => {
  const state = engineState.value;
  if (state.kind === "failed" && state.error instanceof NetworkError) void startModel();
});

/**
 * Resolves when all loading and unloading so far is done, and the configuration has been read.
 */
export function engineSettled(): Promise<void> {
  return queue;
}

/** Finds the device that would be used. If there is none, the page says so before any download. */
export async function checkDevice(): Promise<ChosenDevice | null> {
  try {
    return await chooseDevice(settings.value.device);
  } catch (error) {
    engineState.value = { kind: "failed", error };
    return null;
  }
}

/** Loads the model again after a change of settings that need it. */
export function followSettings(): void {
  const { kind } = engineState.value;
  if (kind === "ready" || kind === "loading") void startModel();
  else if (kind === "failed") followChoice();
}
