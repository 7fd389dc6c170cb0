/** A model's files as shards, wherever they come from: the store, the network, or the person's disk. */
import type { SharedFile } from "./cross-origin.js";
import { CorruptFileError, ModelNotFoundError, NetworkError, type QuotaError } from "./errors.js";
import { FileChangedError, type Fetcher } from "./fetcher.js";
import type { RemoteFile } from "./protocol.js";
import type { Bytes } from "./runtime.js";
import { SHARD_SIZE, sha256Hex, shardLength, type Manifest, type ShardStore } from "./store.js";

/**
 * How often the first bytes of a shard on its way are kept: a tab that is closed has no time to do it. On a
 * connection that brings shards faster, it never happens.
 */
const KEEP_MS = 5000;

/** One file of a model. */
export interface ModelFile {
  /** Bytes. */
  readonly size: number;
  /** For messages. */
  readonly label: string;
  /** The bytes of shard `index`. */
  read(index: number): Promise<Bytes>;
}

/** A file the person opened. */
export class OpenedFile implements ModelFile {
  readonly size: number;
  readonly label: string;
  readonly #file: File;

  constructor(file: File) {
    this.#file = file;
    this.size = file.size;
    this.label = file.name;
  }

  async read(index: number): Promise<Bytes> {
    const start = index * SHARD_SIZE;
    try {
      return new Uint8Array(
        await this.#file.slice(start, start + shardLength(this.size, index)).arrayBuffer(),
      );
    } catch (error) {
      throw new CorruptFileError(
        `"${this.label}" cannot be read; if it changed on the disk, choose it again.`,
        { cause: error },
      );
    }
  }
}

/** Where a fetched file is kept. */
export interface Shelf {
  store: ShardStore;
  manifest: Manifest;
  /** What the browser's storage for all sites has of it. */
  shared: SharedFile;
  /** The error for a full store, with the bytes that the whole model still needs. */
  full: () => Promise<QuotaError>;
}

/**
 * A remote file: each shard comes from the store, or from the one for all sites, or from the network and is
 * then stored.
 */
export class FetchedFile implements ModelFile {
  readonly size: number;
  readonly label: string;
  /** Null if nothing can be stored. */
  readonly shelf: Shelf | null;
  /** SHA-256 of the whole that the request gives, hex, or null. */
  readonly pinned: string | null;
  readonly #file: RemoteFile;
  readonly #fetcher: Fetcher;
  readonly #onResumed: (bytes: number) => void;

  /** `onResumed` counts the bytes of a shard that an earlier download left. */
  constructor(
    file: RemoteFile,
    size: number,
    fetcher: Fetcher,
    shelf: Shelf | null,
    onResumed: (bytes: number) => void,
  ) {
    this.#onResumed = onResumed;
    this.size = size;
    this.label = file.url;
    this.pinned = file.sha256;
    this.shelf = shelf;
    this.#file = file;
    this.#fetcher = fetcher;
  }

  async read(index: number): Promise<Bytes> {
    if (!this.shelf) return this.#fetcher.shard(index);
    const { store, manifest, shared, full } = this.shelf;
    const recorded = manifest.digests[index];
    const there = (await store.read(manifest, index)) ?? (await shared.shard(index));
    if (there) return there;
    const bytes = recorded ? await this.#fetchAgain(manifest, index) : await this.#fetch(this.shelf, index);
    const digest = await sha256Hex(bytes);
    // With a pinned hash, the hash of the whole file decides. Without one, other bytes mean another version.
    if (recorded && digest !== recorded && !manifest.sha256)
      throw new FileChangedError(this.#file.url, manifest.identity);
    try {
      await store.write(manifest, index, bytes, digest);
    } catch (error) {
      if ((error as Partial<Error>).name === "QuotaExceededError") throw await full();
      throw error;
    }
    return bytes;
  }

  /** Fetches a shard, or the rest of it. The bytes that have arrived are kept: the rest may never. */
  async #fetch({ store, manifest }: Shelf, index: number): Promise<Bytes> {
    const start = await store.readPart(manifest, index);
    if (start) this.#onResumed(start.length);
    let kept = start?.length ?? 0;
    let keeping: Promise<void> = Promise.resolve();
    const keep = () => {
      keeping = keeping.then(async () => {
        const arrived = this.#fetcher.arrived(index);
        if (!arrived || arrived.length <= kept) return;
        kept = arrived.length;
        await store.writePart(manifest, index, arrived).catch(() => undefined);
      });
      return keeping;
    };
    const timer = setInterval(keep, KEEP_MS);
    try {
      return await this.#fetcher.shard(index, start);
    } catch (error) {
      if (!(error instanceof FileChangedError)) await keep();
      throw error;
    } finally {
      clearInterval(timer);
      // Once the shard is stored, nothing may write its part any more.
      await keeping;
    }
  }

  /** Fetches a shard that the store has lost or damaged. */
  async #fetchAgain(manifest: Manifest, index: number): Promise<Bytes> {
    try {
      const { size } = await this.#fetcher.probe();
      if (!manifest.sha256 && size !== manifest.size) throw new FileChangedError(this.#file.url);
      if (size !== manifest.size)
        throw new CorruptFileError(
          `${this.#file.url} has ${size} bytes now, not ${manifest.size}: shard ${index + 1} of the stored ` +
            "file is damaged or missing and cannot be downloaded again. Delete the stored model.",
        );
      return await this.#fetcher.shard(index);
    } catch (error) {
      // Nothing is known to be wrong with the file: the network or the server failed.
      const what =
        `Shard ${index + 1} of the stored ${this.label} is damaged or missing, and downloading it again ` +
        "failed";
      if (error instanceof NetworkError)
        throw new NetworkError(`${what}: ${error.message}`, error.status, { cause: error });
      if (error instanceof ModelNotFoundError)
        throw new ModelNotFoundError(`${what}: ${error.message}`, error.status);
      throw error;
    }
  }
}
