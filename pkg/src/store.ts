/** The shard store: model files in Cache Storage, one response per shard and one manifest per file. */
import type { Bytes } from "./runtime.js";

/** Name of the cache. */
export const CACHE_NAME = "nomoat-models-v1";
/** Bytes per shard; the last one of a file is shorter. */
export const SHARD_SIZE = 8 * 1024 * 1024;

/** Header of a part with its SHA-256. */
const DIGEST = "X-Nomoat-Sha256";
/** Prefix of the keys under which shards without a manifest are listed. */
const REMAINS = "remains:";

/** The part of `Cache` the store uses. */
export type CacheLike = Pick<Cache, "match" | "put" | "delete" | "keys">;

/** What the store knows about one file. */
export interface Manifest {
  /** Names this version of the file: by pinned SHA-256, else by address, ETag and size. */
  identity: string;
  url: string;
  /** Bytes. */
  size: number;
  etag: string | null;
  lastModified: string | null;
  /** SHA-256 of the whole as the server said, hex, or null. */
  announced: string | null;
  /** Pinned SHA-256 of the whole, hex, or null. */
  sha256: string | null;
  shardSize: number;
  /** SHA-256 (hex) of each shard as it arrived; null where it is not stored. */
  digests: (string | null)[];
  complete: boolean;
  /** The whole has been hashed and equals `sha256`. */
  verified: boolean;
  /** The runtime cannot run it: the server is asked whether there is another version. */
  refused: boolean;
  /** The browser's storage for all sites has it, or had it; see `cross-origin.ts`. */
  shared: boolean;
  /** Model this file belongs to: key, name, and its place among the model's files. */
  model: { key: string; name: string; index: number; count: number };
  /** Milliseconds since 1970. */
  lastUsed: number;
}

/** A model in the store, complete or partial. */
export interface StoredModel {
  /** For `deleteStoredModel`. */
  key: string;
  /** Empty if only shards are left and their model is unknown. */
  name: string;
  /** Absolute addresses, in order. */
  urls: string[];
  /** Pinned SHA-256 of each file, or null, in the order of `urls`. */
  sha256: (string | null)[];
  /** Bytes stored. */
  bytes: number;
  /** Bytes of the whole model. */
  totalBytes: number;
  /** Whether it loads without the network. */
  complete: boolean;
  /** The browser keeps files of it for all sites. They are not in `bytes`, and it may delete them. */
  shared: boolean;
  /** Milliseconds since 1970. */
  lastUsed: number;
}

/** The origin of entries' addresses: the page's, but Cache Storage takes no addresses of extensions. */
export function cacheOrigin(): string {
  return /^https?:$/.test(location.protocol) ? location.origin : "https://nomoat.invalid";
}

/** SHA-256 as hex. Needs a secure context, as Cache Storage does. */
export async function sha256Hex(bytes: Bytes): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Names a version of a file. */
export async function identityOf(
  url: string,
  sha256: string | null,
  validator: string,
  size: number,
): Promise<string> {
  if (sha256) return `sha256-${sha256}`;
  return `etag-${await sha256Hex(new TextEncoder().encode([url, validator, size].join("\n")))}`;
}

/** What is known of a file of which nothing is stored. */
export function newManifest(
  { url, sha256 }: Pick<Manifest, "url" | "sha256">,
  identity: string,
  version: Pick<Manifest, "size"> & Partial<Pick<Manifest, "etag" | "lastModified" | "announced">>,
): Manifest {
  return {
    identity,
    url,
    size: version.size,
    etag: version.etag ?? null,
    lastModified: version.lastModified ?? null,
    announced: version.announced ?? null,
    sha256,
    shardSize: SHARD_SIZE,
    digests: Array.from({ length: shardCount(version.size) }, () => null),
    complete: false,
    verified: false,
    refused: false,
    shared: false,
    model: { key: "", name: "", index: 0, count: 1 },
    lastUsed: 0,
  };
}

/** Number of shards of a file. */
export function shardCount(size: number): number {
  return Math.ceil(size / SHARD_SIZE);
}

/** Bytes of shard `index` of a file of `size` bytes. */
export function shardLength(size: number, index: number): number {
  return Math.min(SHARD_SIZE, size - index * SHARD_SIZE);
}

/** Bytes of a file that are stored. */
export function storedBytes(manifest: Manifest): number {
  return manifest.digests.reduce(
    (sum, digest, index) => sum + (digest ? shardLength(manifest.size, index) : 0),
    0,
  );
}

/** Shards and manifests in a cache. */
export class ShardStore {
  readonly #cache: CacheLike;
  readonly #base: string;
  /** Manifests are written one after the other, so that an older state is never written last. */
  #saving: Promise<void> = Promise.resolve();

  /** The entries' addresses are made from the `origin` and never fetched. */
  constructor(cache: CacheLike, origin: string) {
    this.#cache = cache;
    this.#base = `${origin}/.nomoat/`;
  }

  /** The browser's store, or null where it has none (insecure context, some private modes). */
  static async open(): Promise<ShardStore | null> {
    try {
      if (!globalThis.crypto?.subtle) return null;
      return new ShardStore(await caches.open(CACHE_NAME), cacheOrigin());
    } catch {
      return null;
    }
  }

  #manifestKey(identity: string): string {
    return `${this.#base}manifest/${identity}`;
  }

  #shardKey(manifest: Manifest, index: number): string {
    const start = index * SHARD_SIZE;
    const end = start + shardLength(manifest.size, index) - 1;
    return `${this.#base}shard/${manifest.identity}/${start}-${end}`;
  }

  /** The version that a shard or a part of one belongs to, and its size. Null for other entries. */
  #piece(url: string): { identity: string; bytes: number } | null {
    if (!url.startsWith(this.#base)) return null;
    const [kind, identity, range] = url.slice(this.#base.length).split("/");
    const [start, end] = range?.split("-") ?? [];
    if ((kind !== "shard" && kind !== "part") || identity === undefined) return null;
    return { identity, bytes: kind === "shard" ? Number(end) - Number(start) + 1 : 0 };
  }

  /** Shards without a manifest, so that they can be seen and deleted. */
  async #remains(manifests: readonly Manifest[]): Promise<StoredModel[]> {
    const known = new Set(manifests.map(({ identity }) => identity));
    const bytes = new Map<string, number>();
    for (const { url } of await this.#cache.keys()) {
      const piece = this.#piece(url);
      if (piece && !known.has(piece.identity))
        bytes.set(piece.identity, (bytes.get(piece.identity) ?? 0) + piece.bytes);
    }
    return Array.from(bytes, ([identity, size]) => ({
      key: REMAINS + identity,
      name: "",
      urls: [],
      sha256: [],
      bytes: size,
      totalBytes: size,
      complete: false,
      shared: false,
      lastUsed: 0,
    }));
  }

  /** All manifests. Unreadable and malformed ones are skipped. */
  async manifests(): Promise<Manifest[]> {
    const prefix = `${this.#base}manifest/`;
    const found: Manifest[] = [];
    for (const request of await this.#cache.keys()) {
      if (!request.url.startsWith(prefix)) continue;
      const manifest = parseManifest(await this.#cache.match(request.url).then((answer) => answer?.text()));
      if (manifest) found.push(manifest);
    }
    return found;
  }

  /** The manifest of this version, or null. */
  async get(identity: string): Promise<Manifest | null> {
    const answer = await this.#cache.match(this.#manifestKey(identity));
    return parseManifest(await answer?.text());
  }

  /**
   * The manifest of each file, found by pinned hash or else by address, or null. A complete one comes first.
   */
  async find(files: readonly { url: string; sha256: string | null }[]): Promise<(Manifest | null)[]> {
    const all = await this.manifests();
    return files.map(({ url, sha256 }) => {
      const found = all.filter((manifest) =>
        sha256 ? manifest.identity === `sha256-${sha256}` : manifest.url === url,
      );
      return found.find(({ complete }) => complete) ?? found[0] ?? null;
    });
  }

  /** Writes a manifest, in the state it has when its turn comes. */
  save(manifest: Manifest): Promise<void> {
    const write = () =>
      this.#cache.put(
        this.#manifestKey(manifest.identity),
        new Response(JSON.stringify(manifest), { headers: { "Content-Type": "application/json" } }),
      );
    const saved = this.#saving.then(write);
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  #partKey(manifest: Manifest, index: number): string {
    return this.#shardKey(manifest, index).replace("/shard/", "/part/");
  }

  /** The first bytes of a shard whose download was cut, or null. */
  async readPart(manifest: Manifest, index: number): Promise<Bytes | null> {
    try {
      const answer = await this.#cache.match(this.#partKey(manifest, index));
      if (!answer) return null;
      const bytes = new Uint8Array(await answer.arrayBuffer());
      return (await sha256Hex(bytes)) === answer.headers.get(DIGEST) ? bytes : null;
    } catch {
      return null; // The shard is fetched from its start.
    }
  }

  /** Keeps the first bytes of a shard whose download was cut. */
  async writePart(manifest: Manifest, index: number, bytes: Bytes): Promise<void> {
    const headers = { "Content-Type": "application/octet-stream", [DIGEST]: await sha256Hex(bytes) };
    await this.#cache.put(this.#partKey(manifest, index), new Response(bytes, { headers }));
  }

  /** A shard whose digest matches, or null: then it must be fetched again. */
  async read(manifest: Manifest, index: number): Promise<Bytes | null> {
    const digest = manifest.digests[index];
    if (!digest) return null;
    try {
      const answer = await this.#cache.match(this.#shardKey(manifest, index));
      if (!answer) return null;
      const bytes = new Uint8Array(await answer.arrayBuffer());
      return (await sha256Hex(bytes)) === digest ? bytes : null;
    } catch {
      // A store that fails to read is treated like a damaged shard.
      return null;
    }
  }

  /** Stores a shard and records its digest. Throws what `cache.put` throws. */
  async write(manifest: Manifest, index: number, bytes: Bytes, digest: string): Promise<void> {
    await this.#cache.put(
      this.#shardKey(manifest, index),
      new Response(bytes, { headers: { "Content-Type": "application/octet-stream" } }),
    );
    await this.#cache.delete(this.#partKey(manifest, index));
    manifest.digests[index] = digest;
    manifest.complete = manifest.digests.every(Boolean);
    await this.save(manifest);
  }

  /** Deletes a version's shards and manifest. */
  async remove(identity: string): Promise<void> {
    await this.#saving;
    // The manifest is deleted last: if this is interrupted, the rest is still listed.
    await this.#removeShards(identity);
    await this.#cache.delete(this.#manifestKey(identity));
  }

  /** Deletes a version's shards, and keeps its manifest. */
  async empty(manifest: Manifest): Promise<void> {
    manifest.digests.fill(null);
    manifest.complete = false;
    await this.save(manifest);
    await this.#removeShards(manifest.identity);
  }

  async #removeShards(identity: string): Promise<void> {
    for (const { url } of await this.#cache.keys())
      if (this.#piece(url)?.identity === identity) await this.#cache.delete(url);
  }

  /** Deletes every other version of the file at this address. */
  async removeOthers(url: string, identity: string): Promise<void> {
    for (const manifest of await this.manifests())
      if (manifest.url === url && manifest.identity !== identity) await this.remove(manifest.identity);
  }

  /** Stored models, last used first. */
  async models(): Promise<StoredModel[]> {
    const groups = new Map<string, Manifest[]>();
    const manifests = await this.manifests();
    for (const manifest of manifests) {
      const { key } = manifest.model;
      groups.set(key, [...(groups.get(key) ?? []), manifest]);
    }
    const models = Array.from(groups, ([key, group]): StoredModel => {
      group.sort((a, b) => a.model.index - b.model.index);
      return {
        key,
        name: group[0]?.model.name ?? key,
        urls: group.map((manifest) => manifest.url),
        sha256: group.map((manifest) => manifest.sha256),
        bytes: group.reduce((sum, manifest) => sum + storedBytes(manifest), 0),
        totalBytes: group.reduce((sum, manifest) => sum + manifest.size, 0),
        complete:
          group.length === group[0]?.model.count &&
          group.every((manifest) => manifest.complete || manifest.shared),
        shared: group.some((manifest) => manifest.shared && !manifest.complete),
        lastUsed: Math.max(...group.map((manifest) => manifest.lastUsed)),
      };
    });
    return [...models, ...(await this.#remains(manifests))].sort((a, b) => b.lastUsed - a.lastUsed);
  }

  /** Deletes a model's files. */
  async removeModel(key: string): Promise<void> {
    if (key.startsWith(REMAINS)) return this.remove(key.slice(REMAINS.length));
    for (const manifest of await this.manifests())
      if (manifest.model.key === key) await this.remove(manifest.identity);
  }
}

function parseManifest(text: string | undefined): Manifest | null {
  if (!text) return null;
  try {
    const manifest = JSON.parse(text) as Manifest;
    const sound =
      manifest.shardSize === SHARD_SIZE &&
      manifest.digests.length === shardCount(manifest.size) &&
      typeof manifest.model.key === "string";
    // Older manifests lack these.
    const old: Partial<Manifest> = manifest;
    const { lastModified = null, announced = null, refused = false, shared = false } = old;
    return sound ? { ...manifest, lastModified, announced, refused, shared } : null;
  } catch {
    return null;
  }
}
