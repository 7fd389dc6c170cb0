/** Downloads of models that are not loaded yet. */
import { browserEnv, requestPersistentStorage } from "./browser.js";
import { AbortedError, InvalidRequestError, NomoatError } from "./errors.js";
import { storeModel, type LoadEnv } from "./loader.js";
import { ProgressMeter } from "./progress.js";
import type { LoadProgress } from "./protocol.js";
import { resolveSource, type ModelSource, type SourceOptions } from "./source.js";

/** Options of `downloadModel`. */
export interface DownloadOptions extends SourceOptions {
  /** Called about ten times a second. */
  onProgress?: (progress: LoadProgress) => void;
  /** Stops the download; what has arrived is kept, and the next download goes on from there. */
  signal?: AbortSignal;
}

/** How often a download is checked for a stall. */
const TICK_MS = 1000;

/**
 * Downloads a model into the browser's storage, without loading it. `createEngine` then needs no network.
 * Throws as `createEngine` does, and InvalidRequestError for opened files and where nothing can be stored.
 */
export async function downloadModel(model: ModelSource, options: DownloadOptions = {}): Promise<void> {
  void requestPersistentStorage();
  return downloadModelWith(model, options, await browserEnv(), location.href);
}

/** @internal `downloadModel` in another browser. */
export async function downloadModelWith(
  model: ModelSource,
  options: DownloadOptions,
  env: LoadEnv,
  base: string,
): Promise<void> {
  const { name, files } = resolveSource(model, options, base);
  if (files.some((file) => file.kind === "file"))
    throw new InvalidRequestError("Opened files need no download.", "model");
  if (!env.store) throw new InvalidRequestError("This page cannot store models: it needs https.", "model");
  const signal = options.signal ?? new AbortController().signal;
  if (signal.aborted) throw new AbortedError();
  const progress = new ProgressMeter((report) => options.onProgress?.(report));
  const ticking = setInterval(() => progress.tick(), TICK_MS);
  try {
    const share = options.crossOriginStorage ?? true;
    await storeModel({ name, files, refresh: false, share }, env, progress, signal);
  } catch (error) {
    // An abort while another tab has the lock is the lock manager's own error.
    if (signal.aborted && !(error instanceof NomoatError)) throw new AbortedError();
    throw error;
  } finally {
    clearInterval(ticking);
  }
}
