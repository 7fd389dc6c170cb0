import { computed, signal } from "@preact/signals";
import { chooseDevice, createEngine, NetworkError } from "nomoat";
import type { ChosenDevice, Engine, LoadProgress } from "nomoat";
import { config, refreshConfig } from "./config";
import { chosenModel, deleteModel, refreshStorage, storedCopy, type ModelChoice } from "./models";
import { settings, updateSettings } from "./settings";
import { announcement } from "./ui";
import { t } from "../i18n";

/** Where the engine stands. */
export type EngineState =
  | { kind: "idle" }
  | { kind: "loading"; model: ModelChoice; progress: LoadProgress | null }
  | { kind: "ready"; model: ModelChoice; engine: Engine }
  | { kind: "failed"; error: unknown };

export const engineState = signal<EngineState>({ kind: "idle" });

/** The engine, once it is ready. */
export const engine = computed(() => (engineState.value.kind === "ready" ? engineState.value.engine : null));

let loading: AbortController | null = null;
let current: Engine | null = null;
/**
 * Loads and unloads run one after the other, so that two models never hold GPU memory together; first the
 * page asks its server where models come from.
 */
let queue: Promise<void> = refreshConfig();

async function unload(): Promise<void> {
  const old = current;
  current = null;
  await old?.dispose().catch(() => undefined);
}

async function load(model: ModelChoice, signal: AbortSignal): Promise<void> {
  await unload();
  if (signal.aborted) return;
  try {
    const { hubEndpoint } = config.value;
    const { contextLength, device } = settings.value;
    const created = await createEngine({
      model: model.source,
      contextLength,
      device,
      signal,
      ...(hubEndpoint === null ? {} : { hubEndpoint }),
      onProgress(progress) {
        if (!signal.aborted) engineState.value = { kind: "loading", model, progress };
      },
    });
    if (signal.aborted) {
      await created.dispose();
      return;
    }
    current = created;
    engineState.value = { kind: "ready", model, engine: created };
    announcement.value = t.value.modelReady(model.name);
  } catch (error) {
    if (!signal.aborted) engineState.value = { kind: "failed", error };
  } finally {
    void refreshStorage();
  }
}

/** Loads the chosen model, in place of any other; downloads it where it is not stored. */
export function startModel(): Promise<void> {
  const model = chosenModel.value;
  if (model === null) return Promise.resolve();
  loading?.abort();
  const controller = new AbortController();
  loading = controller;
  engineState.value = { kind: "loading", model, progress: null };
  queue = queue.then(() => load(model, controller.signal));
  return queue;
}

/** Stops loading. What has been downloaded is kept. */
export function cancelLoading(): void {
  loading?.abort();
  engineState.value = { kind: "idle" };
}

// What comes after a reload begins beside the memory that is still held.
addEventListener("pagehide", (event) => {
  if (event.persisted) return;
  loading?.abort();
  void current?.dispose();
});

/** After another choice: drops the running model, and starts the new one where that needs no download. */
export function followChoice(): void {
  loading?.abort();
  engineState.value = { kind: "idle" };
  const model = chosenModel.value;
  if (model === null) return;
  if (model.origin === "file" || storedCopy(model)?.complete === true) void startModel();
  else queue = queue.then(unload);
}

/** An error that ends the engine, such as a lost device. */
export function failEngine(error: unknown): void {
  engineState.value = { kind: "failed", error };
  queue = queue.then(unload);
}

/** Frees the room of a stored model. If it is the chosen one, it stops running too. */
export async function deleteStored(key: string): Promise<void> {
  const model = chosenModel.value;
  if (model !== null && storedCopy(model)?.key === key) {
    cancelLoading();
    queue = queue.then(unload);
    await queue;
  }
  await deleteModel(key);
}

/** Forgets a model that was added by address; what is stored of it goes with it. */
export async function forgetAdded(model: ModelChoice): Promise<void> {
  const copy = storedCopy(model);
  if (copy !== undefined) await deleteStored(copy.key);
  const wasChosen = chosenModel.value?.id === model.id;
  updateSettings({ addedModels: settings.value.addedModels.filter((added) => added.urls[0] !== model.id) });
  if (wasChosen) followChoice();
}

// A download that the network cut goes on when it is back: the person has agreed to it.
addEventListener("online", () => {
  const state = engineState.value;
  if (state.kind === "failed" && state.error instanceof NetworkError) void startModel();
});

/**
 * Settles when all loading and unloading that was asked for so far is done; at the start: when the
 * configuration is in.
 */
export function engineSettled(): Promise<void> {
  return queue;
}

/** Finds out what would compute, and says before any download if nothing could. */
export async function checkDevice(): Promise<ChosenDevice | null> {
  try {
    return await chooseDevice(settings.value.device);
  } catch (error) {
    engineState.value = { kind: "failed", error };
    return null;
  }
}

/** Loads the model again after a change of settings that it was loaded with. */
export function followSettings(): void {
  const { kind } = engineState.value;
  if (kind === "ready" || kind === "loading") void startModel();
  else if (kind === "failed") followChoice();
}
