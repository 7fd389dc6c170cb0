/** The browser's storage, locks and network. */
import { browserStorage } from "./cross-origin.js";
import { AbortedError, InvalidRequestError } from "./errors.js";
import { lockName, type LoadEnv } from "./loader.js";
import { ShardStore, type StoredModel } from "./store.js";

let warned = false;

/** The loader's environment in a worker. */
export async function browserEnv(): Promise<LoadEnv> {
  const store = await ShardStore.open();
  if (!store && !warned) {
    warned = true;
    console.warn(
      "nomoat: this page has no Cache Storage (it needs https or localhost): the model is not kept.",
    );
  }
  return {
    store,
    locks: navigator.locks ?? null,
    fetch: (url, init) => fetch(url, init),
    sleep,
    estimate,
    crossOrigin: browserStorage(),
    persisted,
  };
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new AbortedError());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

async function estimate(): Promise<{ usage: number; quota: number } | null> {
  const answer = await navigator.storage?.estimate?.().catch(() => null);
  return answer?.quota === undefined ? null : { usage: answer.usage ?? 0, quota: answer.quota };
}

/** Models in the browser's storage, complete or partial, last used first. */
export async function listStoredModels(): Promise<StoredModel[]> {
  return (await ShardStore.open())?.models() ?? [];
}

/**
 * Deletes a stored model; `key` is from `listStoredModels`. A loaded engine keeps working. Throws
 * InvalidRequestError while the model is being downloaded.
 */
export async function deleteStoredModel(key: string): Promise<void> {
  const store = await ShardStore.open();
  if (!store) return;
  if (!navigator.locks) return store.removeModel(key);
  await navigator.locks.request(lockName(key), { ifAvailable: true }, async (lock) => {
    if (!lock)
      throw new InvalidRequestError("The model is being downloaded; stop that before deleting it.", "key");
    await store.removeModel(key);
  });
}

/** Bytes this origin uses and may use, and whether the browser promised to keep them. */
export async function storageEstimate(): Promise<{ usage: number; quota: number; persisted: boolean }> {
  const { usage, quota } = (await estimate()) ?? { usage: 0, quota: 0 };
  return { usage, quota, persisted: await persisted() };
}

async function persisted(): Promise<boolean> {
  return (await navigator.storage?.persisted?.().catch(() => false)) ?? false;
}

/** Asks the browser to keep stored models when disk space runs low. Some browsers ask the person. */
export async function requestPersistentStorage(): Promise<boolean> {
  return (await navigator.storage?.persist?.().catch(() => false)) ?? false;
}
