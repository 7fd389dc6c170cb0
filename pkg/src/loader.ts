/** Loads a model: finds out what is stored, fetches the rest, and feeds the runtime shard by shard. */
import { SharedFile, type OfferEnv } from "./cross-origin.js";
import { CorruptFileError, NetworkError, QuotaError, type NomoatError } from "./errors.js";
import type { NetworkEnv } from "./exchange.js";
import { Fetcher, FileChangedError, sameVersion } from "./fetcher.js";
import { memoryBytes } from "./fit.js";
import { FetchedFile, OpenedFile, type ModelFile, type Shelf } from "./model-file.js";
import { Prefetcher } from "./prefetcher.js";
import type { ProgressMeter } from "./progress.js";
import type { FileSpec, LoadedModel, LoadRequest, RemoteFile, StoreRequest } from "./protocol.js";
import { refuseOther } from "./recognise.js";
import type { LoadTarget, RuntimeModelInfo } from "./runtime.js";
import {
  identityOf,
  newManifest,
  sha256Hex,
  shardCount,
  storedBytes,
  type Manifest,
  type ShardStore,
} from "./store.js";
import { turn } from "./turn.js";

/** The part of `LockManager` the loader uses. */
export interface Locks {
  request<T>(name: string, options: { signal: AbortSignal }, callback: () => Promise<T>): Promise<T>;
}

/** What the loader needs from the browser; tests replace it. */
export interface LoadEnv extends NetworkEnv, OfferEnv {
  /** Null without Web Locks. */
  locks: Locks | null;
  /** Null if the browser does not report it. */
  estimate(): Promise<{ usage: number; quota: number } | null>;
}

/** Bytes that are copied to wasm memory at once. */
const PIECE = 1024 * 1024;
/** How often a waiting tab checks the progress of the other one. */
const WAITING_POLL_MS = 500;

/** Name of the lock that is held while a model is downloaded. */
export function lockName(key: string): string {
  return `nomoat:${key}`;
}

/** Key of a model in the store: its files by hash or address. */
export async function modelKey(files: readonly RemoteFile[]): Promise<string> {
  const names = files.map((file) => file.sha256 ?? file.url);
  return sha256Hex(new TextEncoder().encode(names.join("\n")));
}

/**
 * Loads a model into the runtime. `ready` is awaited between the headers, once they say that the model runs,
 * and the first memory for it.
 */
export function loadModel(
  runtime: LoadTarget,
  request: LoadRequest,
  env: LoadEnv,
  progress: ProgressMeter,
  signal: AbortSignal,
  ready: () => Promise<void> = () => Promise.resolve(),
): Promise<LoadedModel> {
  return retried(request, env, progress, signal, (load) =>
    load.run((files) => load.feed(runtime, request, files, ready)),
  );
}

/** Downloads a model into the store, and loads it nowhere. Its hash is checked when it is loaded. */
export function storeModel(
  request: StoreRequest,
  env: LoadEnv,
  progress: ProgressMeter,
  signal: AbortSignal,
): Promise<void> {
  return retried(request, env, progress, signal, (load) => load.run((files) => load.keep(files)));
}

/**
 * If a file changes on the server meanwhile, or its servers have different copies, loading starts again,
 * once, and reads that file from one answer. If a file of the storage for all sites is wrong, it starts again
 * without that storage.
 */
async function retried<T>(
  request: StoreRequest,
  env: LoadEnv,
  progress: ProgressMeter,
  signal: AbortSignal,
  use: (load: Load) => Promise<T>,
): Promise<T> {
  let changed: string | null = null;
  let share = request.share;
  for (;;) {
    const load = new Load({ ...request, share }, env, progress, signal, changed);
    try {
      return await use(load);
    } catch (error) {
      await load.stop();
      if (load.usedShared && isBadFile(error)) {
        console.warn("nomoat: a file of the browser's cross-origin storage is wrong and not used.");
        share = false;
        continue;
      }
      if (!(error instanceof FileChangedError)) throw error;
      if (changed !== null) throw new NetworkError(`${error.message} It changed again on the second try.`);
      if (error.identity) await env.store?.remove(error.identity);
      changed = error.url;
    }
  }
}

/** One try. */
class Load {
  readonly #request: StoreRequest;
  readonly #env: LoadEnv;
  readonly #progress: ProgressMeter;
  /** Address of the file that changed in the first try. */
  readonly #changed: string | null;
  readonly #stopping = new AbortController();
  readonly #signal: AbortSignal;
  readonly #fetchers = new Map<RemoteFile, Fetcher>();
  #prefetcher: Prefetcher | null = null;
  /** The file whose header is being read. */
  #reading: ModelFile | null = null;
  readonly #shared: SharedFile[] = [];

  constructor(
    request: StoreRequest,
    env: LoadEnv,
    progress: ProgressMeter,
    signal: AbortSignal,
    changed: string | null,
  ) {
    this.#changed = changed;
    this.#request = request;
    this.#env = env;
    this.#progress = progress;
    this.#signal = AbortSignal.any([signal, this.#stopping.signal]);
  }

  /** Whether bytes came from the storage for all sites. */
  get usedShared(): boolean {
    return this.#shared.some(({ isUsed }) => isUsed);
  }

  /** Stops all requests. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#prefetcher?.settled();
  }

  /** Finds or asks for the files, and gives them to `use`. */
  async run<T>(use: (files: ModelFile[]) => Promise<T>): Promise<T> {
    const remote = this.#request.files.filter((file) => file.kind === "url");
    for (const file of remote)
      this.#fetchers.set(
        file,
        new Fetcher(file, this.#env, this.#signal, (delta) => this.#progress.fetched(delta), {
          keepStream: remote.length === 1,
          whole: file.url === this.#changed,
        }),
      );
    const { store, locks } = this.#env;
    if (remote.length === 0) return use(this.#request.files.map((file) => this.#local(file)));
    if (!store) return use(await this.#unstored(remote));
    const key = await modelKey(remote);
    const found = await store.find(remote);
    if (found.every((manifest, index) => this.#usable(manifest, remote[index]))) {
      return use(await this.#shelve(store, key, remote, found));
    }
    const download = async () => {
      const now = await store.find(remote);
      return use(await this.#shelve(store, key, remote, now));
    };
    if (!locks) return download();
    const stopWaiting = this.#reportWaiting(store, key);
    try {
      return await locks.request(lockName(key), { signal: this.#signal }, () => {
        stopWaiting();
        return download();
      });
    } finally {
      stopWaiting();
    }
  }

  #local(file: FileSpec): ModelFile {
    if (file.kind === "file") return new OpenedFile(file.file);
    throw new TypeError("a model's files are all local or all remote");
  }

  /** Files that go straight from the network to the device. */
  async #unstored(files: RemoteFile[]): Promise<ModelFile[]> {
    const sized: ModelFile[] = [];
    for (const file of files) {
      const fetcher = this.#fetcher(file);
      const { size } = await fetcher.probe();
      sized.push(new FetchedFile(file, size, fetcher, null, () => undefined));
    }
    return sized;
  }

  #fetcher(file: RemoteFile): Fetcher {
    const fetcher = this.#fetchers.get(file);
    if (!fetcher) throw new TypeError("every remote file has a fetcher");
    return fetcher;
  }

  /** Whether a stored file may be loaded without asking the server. */
  #usable(manifest: Manifest | null, file: RemoteFile | undefined): manifest is Manifest {
    return manifest?.complete === true && this.#isCurrent(manifest, file);
  }

  /** Whether what is known of a file needs no question to the server. A pinned one cannot change. */
  #isCurrent({ refused }: Manifest, file: RemoteFile | undefined): boolean {
    const ask = this.#request.refresh || this.#changed !== null || refused;
    return !ask || file?.sha256 != null;
  }

  /** A manifest for each file: the stored one, or a new one from the server's headers. Checks the quota. */
  async #shelve(
    store: ShardStore,
    key: string,
    files: RemoteFile[],
    found: (Manifest | null)[],
  ): Promise<FetchedFile[]> {
    const shelved: FetchedFile[] = [];
    for (const [index, file] of files.entries()) {
      const { manifest, shared } = await this.#manifest(store, file, found[index] ?? null);
      manifest.model = { key, name: this.#request.name, index, count: files.length };
      manifest.lastUsed = Date.now();
      const shelf: Shelf = { store, manifest, shared, full: () => this.#full(remaining()) };
      const resumed = (bytes: number) => this.#progress.resumed(bytes);
      shelved.push(new FetchedFile(file, manifest.size, this.#fetcher(file), shelf, resumed));
    }
    const remaining = () => shelved.reduce((sum, { shelf, size }) => sum + size - bytesOn(shelf), 0);
    await this.#checkQuota(remaining());
    for (const { shelf } of shelved) if (shelf) await this.#saveFirst(shelf);
    return shelved;
  }

  /** The manifest of the stored version, or of the one that all sites share, or of the server's. */
  async #manifest(
    store: ShardStore,
    file: RemoteFile,
    stored: Manifest | null,
  ): Promise<{ manifest: Manifest; shared: SharedFile }> {
    const share = (sha256: string | null, size: number | null) => {
      const shared = new SharedFile(this.#request.share ? this.#env.crossOrigin : null, sha256, size);
      this.#shared.push(shared);
      return shared;
    };
    const announced = stored?.shared && this.#isCurrent(stored, file) ? stored.announced : null;
    const known = file.sha256 ?? announced;
    let shared = share(known, stored?.size ?? file.size);
    let manifest = stored;
    if (this.#usable(manifest, file)) return { manifest, shared };
    manifest = stored;
    // A file that all sites share needs no server.
    const there = await shared.open();
    if (there) {
      const identity = await identityOf(file.url, file.sha256, "", there.size);
      manifest ??= newManifest(file, identity, there);
    } else {
      manifest = await this.#ask(store, file, stored);
      if (known === null) shared = share(manifest.announced, manifest.size);
    }
    if (!manifest.complete) manifest.shared = (await shared.open()) !== null;
    return { manifest, shared };
  }

  /** The manifest of the version the server has; other versions are deleted. */
  async #ask(store: ShardStore, file: RemoteFile, stored: Manifest | null): Promise<Manifest> {
    let probe;
    try {
      probe = await this.#fetcher(file).probe();
    } catch (error) {
      if (!(error instanceof NetworkError) || !stored?.complete) throw error;
      console.warn(`nomoat: ${file.url} could not be checked for changes; the stored copy is used.`);
      return stored;
    }
    const { size, etag, lastModified, announced } = probe;
    const validator = announced ?? etag ?? lastModified ?? "";
    const identity = await identityOf(file.url, file.sha256, validator, size);
    const known = stored && sameVersion(stored, probe) ? stored : await store.get(identity);
    // What is there of a file that changed may be of several versions.
    if (known?.size === size && file.url !== this.#changed) {
      await store.removeOthers(file.url, known.identity);
      return known;
    }
    await store.removeOthers(file.url, identity);
    if (known) await store.remove(known.identity);
    return newManifest(file, identity, probe);
  }

  async #checkQuota(needed: number): Promise<void> {
    if (needed === 0) return;
    const estimate = await this.#env.estimate();
    if (estimate && estimate.quota - estimate.usage < needed) throw quotaError(needed, estimate);
  }

  async #full(needed: number): Promise<QuotaError> {
    const estimate = await this.#env.estimate();
    // The browser refused although it reported enough room, for example because the disk is full.
    const room = estimate && estimate.quota - estimate.usage < needed ? estimate : { quota: 0, usage: 0 };
    return quotaError(needed, room);
  }

  async #saveFirst({ store, manifest, full }: Shelf): Promise<void> {
    try {
      await store.save(manifest);
    } catch (error) {
      // For a complete file, only the time of its last use is lost.
      if (manifest.complete) return;
      if ((error as Partial<Error>).name !== "QuotaExceededError") throw error;
      throw await full();
    }
  }

  /** Reports the other tab's progress until this tab gets the lock. */
  #reportWaiting(store: ShardStore, key: string): () => void {
    const timer = setInterval(async () => {
      const model = (await store.models().catch(() => [])).find((candidate) => candidate.key === key);
      if (model && !stopped) this.#progress.phase("download", model.bytes, model.totalBytes);
    }, WAITING_POLL_MS);
    let stopped = false;
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }

  /** Reads every shard, which stores it. What the browser has for all sites is left there. */
  async keep(files: ModelFile[]): Promise<void> {
    this.#begin(files);
    const own = files.filter((file) => !(file instanceof FetchedFile && file.shelf?.shared.isThere));
    const prefetcher = new Prefetcher(own);
    this.#prefetcher = prefetcher;
    for (let shard; (shard = await prefetcher.take());) {
      this.#progress.pushed(shard.bytes.length);
      await turn();
    }
    const total = totalOf(files);
    this.#progress.phase("ready", total, total);
  }

  /** Feeds a model to the runtime. What is known to be bad afterwards does not stay in the store. */
  async feed(
    runtime: LoadTarget,
    request: LoadRequest,
    files: ModelFile[],
    ready: () => Promise<void>,
  ): Promise<LoadedModel> {
    try {
      return await this.#push(runtime, request, files, ready);
    } catch (error) {
      await this.stop();
      const { code } = Object(error) as Partial<NomoatError>;
      if (code === "corrupt_file") await this.#forget(this.#reading === null ? files : [this.#reading]);
      else if (isBadFile(error)) await this.#markRefused(files, true);
      throw error;
    }
  }

  /** Deletes damaged files, so that the next load asks for them again. One with its pinned hash is sound. */
  async #forget(files: ModelFile[]): Promise<void> {
    for (const file of files) {
      const shelf = file instanceof FetchedFile ? file.shelf : null;
      if (shelf && !shelf.manifest.verified) await shelf.store.remove(shelf.manifest.identity);
    }
  }

  /** Notes whether the runtime refused the files. */
  async #markRefused(files: ModelFile[], refused: boolean): Promise<void> {
    for (const file of files) {
      const shelf = file instanceof FetchedFile ? file.shelf : null;
      if (!shelf || shelf.manifest.refused === refused) continue;
      shelf.manifest.refused = refused;
      await shelf.store.save(shelf.manifest).catch(() => undefined);
    }
  }

  /** Reports how much is there. */
  #begin(files: ModelFile[]): void {
    const total = totalOf(files);
    const there = files.reduce(
      (sum, file) => sum + (file instanceof FetchedFile ? bytesOn(file.shelf) : file.size),
      0,
    );
    if (there < total) this.#progress.phase("download", there, total);
    else this.#progress.phase("load", 0, total);
  }

  /** Feeds the headers, then every byte in order, then checks the hashes. */
  async #push(
    runtime: LoadTarget,
    request: LoadRequest,
    files: ModelFile[],
    ready: () => Promise<void>,
  ): Promise<LoadedModel> {
    this.#begin(files);
    runtime.begin(
      Float64Array.from(files, (file) => file.size),
      JSON.stringify({
        context_length: request.contextLength,
        template: request.template,
        fallback_template: request.fallbackTemplate,
        response_template: request.responseTemplate,
        parallel: request.parallel,
        memory: memoryBytes(),
        kv_format: request.kvFormat,
      }),
    );
    const prefetcher = new Prefetcher(files);
    this.#prefetcher = prefetcher;
    for (const [index, file] of files.entries()) {
      this.#reading = file;
      await this.#header(runtime, prefetcher, index, file);
    }
    this.#reading = null;
    runtime.check();
    await ready();
    const model = JSON.parse(await runtime.prepare()) as RuntimeModelInfo;
    await this.#markRefused(files, false);
    for (let shard; (shard = await prefetcher.take());) {
      for (let at = 0; at < shard.bytes.length; at += PIECE) {
        const piece = shard.bytes.subarray(at, at + PIECE);
        await runtime.push_data(shard.file, piece);
        this.#progress.pushed(piece.length);
      }
      await turn();
    }
    const { sha256 } = JSON.parse(await runtime.finish()) as { sha256: string[] };
    await this.#verify(files, sha256);
    const total = totalOf(files);
    this.#progress.phase("ready", total, total);
    return { ...model, sha256 };
  }

  async #header(runtime: LoadTarget, prefetcher: Prefetcher, index: number, file: ModelFile): Promise<void> {
    for (let shard = 0; shard < shardCount(file.size); shard++) {
      const bytes = await prefetcher.peek(index, shard);
      if (bytes && shard === 0) refuseOther(file.label, bytes);
      for (let at = 0; bytes && at < bytes.length; at += PIECE)
        if (runtime.push_header(index, bytes.subarray(at, at + PIECE)) === 0) return;
    }
    throw new CorruptFileError(`${file.label} ends within its header: it is cut off or no GGUF file.`);
  }

  /** Compares the files with the hashes that the request or the server gives. A wrong file is deleted. */
  async #verify(files: ModelFile[], sha256: string[]): Promise<void> {
    for (const [index, file] of files.entries()) {
      if (!(file instanceof FetchedFile)) continue;
      const { shelf, pinned, label } = file;
      const announced = pinned === null ? (shelf?.manifest.announced ?? null) : null;
      const [found, expected] = [sha256[index], pinned ?? announced];
      if (expected !== null && found !== expected) {
        if (shelf) await shelf.store.remove(shelf.manifest.identity);
        const what = pinned ? "is not the pinned file" : "was damaged on the way";
        throw new CorruptFileError(
          `${label} ${what}: its sha256 is ${found}, not ${expected}. ` +
            "What was stored of it has been deleted.",
        );
      }
      if (shelf && pinned !== null && !shelf.manifest.verified) {
        shelf.manifest.verified = true;
        await shelf.store.save(shelf.manifest);
      }
    }
  }
}

function totalOf(files: readonly ModelFile[]): number {
  return files.reduce((sum, file) => sum + file.size, 0);
}

function bytesOn(shelf: Shelf | null): number {
  if (shelf?.shared.isThere) return shelf.manifest.size;
  return shelf ? storedBytes(shelf.manifest) : 0;
}

/** Whether the bytes of a file may be to blame. */
function isBadFile(error: unknown): boolean {
  const { code } = Object(error) as Partial<NomoatError>;
  return code === "corrupt_file" || code?.startsWith("unsupported_") === true;
}

function quotaError(needed: number, { usage, quota }: { usage: number; quota: number }): QuotaError {
  const available = Math.max(0, quota - usage);
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  return new QuotaError(
    `The model needs ${mb(needed)} more in the browser's storage, which has room for ${mb(available)}: ` +
      `${mb(needed - available)} are missing. Delete stored models or free disk space.`,
    needed,
    available,
  );
}
