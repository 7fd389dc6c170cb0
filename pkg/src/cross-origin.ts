/**
 * Cross-Origin Storage (https://wicg.github.io/cross-origin-storage/): a store of the browser in which one
 * copy of a file serves all sites, by its SHA-256. Few browsers have it, and it may refuse or lose a file at
 * any time, so nothing here fails a load.
 */
import type { FileSpec } from "./protocol.js";
import type { Bytes } from "./runtime.js";
import { SHARD_SIZE, shardCount, shardLength, type Manifest, type ShardStore } from "./store.js";

/** The part of `FileSystemFileHandle` that is used. */
export interface SharedHandle {
  getFile(): Promise<Blob>;
  createWritable(): Promise<{
    write(bytes: Bytes): Promise<void>;
    /** Rejects if what was written has another hash. */
    close(): Promise<void>;
    abort(): Promise<void>;
  }>;
}

/** `navigator.crossOriginStorage`. */
export interface CrossOriginStorage {
  requestFileHandle(
    hash: { algorithm: "SHA-256"; value: string },
    options?: { create: true; origins: "*" },
  ): Promise<SharedHandle>;
}

/** How long the storage, or the person whom the browser asks, gets before a file counts as not there. */
const PATIENCE_MS = 10_000;

/** The browser's, or null where there is none. */
export function browserStorage(): CrossOriginStorage | null {
  const { crossOriginStorage: found } = navigator as { crossOriginStorage?: CrossOriginStorage };
  return typeof found?.requestFileHandle === "function" ? found : null;
}

/** The file with this hash, or null. Its bytes are not checked. */
async function take(storage: CrossOriginStorage, sha256: string): Promise<Blob | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS, null)));
  const found = async () => {
    const handle = await storage.requestFileHandle({ algorithm: "SHA-256", value: sha256 });
    return handle.getFile();
  };
  try {
    return await Promise.race([found(), late]);
  } catch {
    return null; // Not there, or not for this site.
  } finally {
    clearTimeout(timer);
  }
}

/** What the storage has of one file. It is asked once, when the first byte is needed. */
export class SharedFile {
  readonly #storage: CrossOriginStorage | null;
  readonly #sha256: string | null;
  readonly #size: number | null;
  #file: Promise<Blob | null> | null = null;
  /** Whether the storage has the file, as far as it was asked. */
  isThere = false;
  /** Whether bytes of it were used. Only the hash of the whole says whether they are right. */
  isUsed = false;

  /** `size` is null if it is not known. */
  constructor(storage: CrossOriginStorage | null, sha256: string | null, size: number | null) {
    this.#storage = storage;
    this.#sha256 = sha256;
    this.#size = size;
  }

  /** The file, if there is one of the right size. */
  open(): Promise<Blob | null> {
    this.#file ??= this.#open();
    return this.#file;
  }

  async #open(): Promise<Blob | null> {
    if (!this.#storage || !this.#sha256) return null;
    const file = await take(this.#storage, this.#sha256);
    if (!file || file.size === 0 || file.size !== (this.#size ?? file.size)) return null;
    this.isThere = true;
    return file;
  }

  /** A shard of it, or null. */
  async shard(index: number): Promise<Bytes | null> {
    const file = await this.open();
    if (!file) return null;
    const start = index * SHARD_SIZE;
    const length = shardLength(file.size, index);
    try {
      const bytes = new Uint8Array(await file.slice(start, start + length).arrayBuffer());
      if (bytes.length !== length) return null;
      this.isUsed = true;
      return bytes;
    } catch {
      return null; // The browser has deleted it meanwhile.
    }
  }
}

/** What is needed to offer files. */
export interface OfferEnv {
  store: ShardStore | null;
  crossOrigin: CrossOriginStorage | null;
  /** Whether the browser promised to keep the site's own storage. */
  persisted(): Promise<boolean>;
}

/**
 * Offers the stored files of a model, which was loaded and so has the right hashes, to all sites. Files that
 * took request headers, such as a token, are not public. Unless the browser promised to keep the site's own
 * copy, that is deleted. Never rejects.
 */
export async function offerFiles(
  files: readonly FileSpec[],
  { store, crossOrigin, persisted }: OfferEnv,
  signal: AbortSignal,
): Promise<void> {
  if (!store || !crossOrigin) return;
  const remote = files.filter((file) => file.kind === "url");
  try {
    for (const [index, manifest] of (await store.find(remote)).entries()) {
      const file = remote[index];
      const sha256 = file?.sha256 ?? manifest?.announced;
      const isPublic = file && Object.keys(file.headers).length === 0;
      if (!manifest?.complete || manifest.shared || !sha256 || !isPublic) continue;
      if (!(await give(crossOrigin, sha256, shards(store, manifest), signal))) continue;
      // It may have been deleted meanwhile.
      if (!(await store.get(manifest.identity))) continue;
      manifest.shared = true;
      await store.save(manifest);
      const isBack = await new SharedFile(crossOrigin, sha256, manifest.size).open();
      if (isBack && !(await persisted())) await store.empty(manifest);
    }
  } catch (error) {
    console.warn("nomoat: the model could not be offered to other sites:", error);
  }
}

async function* shards(store: ShardStore, manifest: Manifest): AsyncIterable<Bytes> {
  for (let index = 0; index < shardCount(manifest.size); index++) {
    const bytes = await store.read(manifest, index);
    if (!bytes) throw new Error(`shard ${index + 1} of ${manifest.url} is not stored`);
    yield bytes;
  }
}

/** Writes a file; false if the storage does not take it. */
async function give(
  storage: CrossOriginStorage,
  sha256: string,
  pieces: AsyncIterable<Bytes>,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const hash = { algorithm: "SHA-256", value: sha256 } as const;
    const handle = await storage.requestFileHandle(hash, { create: true, origins: "*" });
    const writable = await handle.createWritable();
    try {
      for await (const piece of pieces) {
        signal.throwIfAborted();
        await writable.write(piece);
      }
      await writable.close();
    } catch (error) {
      await writable.abort().catch(() => undefined);
      throw error;
    }
    return true;
  } catch {
    return false; // Refused, full, or stopped.
  }
}
