/**
 * Pages of the prefix cache in Cache Storage: the keys and values of recent conversations, so that they go on
 * at once after a reload. A page's name is a digest of the model, the kernels and the tokens, and the runtime
 * checks what it is given: the store may lose anything, and whatever it gives cannot make an answer wrong.
 */
import type { Bytes } from "./runtime.js";
import { cacheOrigin, type CacheLike } from "./store.js";

/** Name of the cache. */
const CACHE_NAME = "nomoat-pages-v1";
/** Held while pages are deleted and their last uses are written. */
const LOCK = "nomoat-pages";

/** When each page was last used, in milliseconds since 1970. */
type Uses = Record<string, number>;

/** The pages that are kept. */
export class PageStore {
  /** Bytes that the pages may take together. */
  readonly maxBytes: number;
  readonly #cache: CacheLike;
  readonly #base: string;
  readonly #locks: LockManager | null;
  /** Bytes of each known page. Other tabs may have deleted some, and stored more. */
  readonly #known = new Map<string, number>();
  #uses: Uses = {};

  private constructor(cache: CacheLike, origin: string, maxBytes: number, locks: LockManager | null) {
    this.#cache = cache;
    this.#base = `${origin}/.nomoat/page/`;
    this.maxBytes = maxBytes;
    this.#locks = locks;
  }

  /** What a cache holds. */
  static async on(
    cache: CacheLike,
    origin: string,
    maxBytes: number,
    locks: LockManager | null,
  ): Promise<PageStore> {
    const store = new PageStore(cache, origin, maxBytes, locks);
    await store.#list();
    return store;
  }

  /** The browser's store, or null where it has none. */
  static async open(maxBytes: number): Promise<PageStore | null> {
    try {
      const cache = await caches.open(CACHE_NAME);
      return await PageStore.on(cache, cacheOrigin(), maxBytes, navigator.locks ?? null);
    } catch {
      return null;
    }
  }

  /** Whether no page is known. */
  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  /** Bytes of a page that was there when it was last looked for; otherwise null. */
  bytesOf(name: string): number | null {
    return this.#known.get(name) ?? null;
  }

  /** A page, or null if it is gone. One that cannot be read is deleted, so that it is stored again. */
  async read(name: string): Promise<Bytes | null> {
    const bytes = this.#known.get(name);
    if (bytes === undefined) return null;
    try {
      const page = await (await this.#cache.match(this.#address(name, bytes)))?.arrayBuffer();
      if (page) return new Uint8Array(page);
    } catch {
      // The browser cannot read it.
    }
    await this.remove(name).catch(() => undefined);
    return null;
  }

  /** Keeps a page. Throws what `cache.put` throws. */
  async write(name: string, bytes: Bytes): Promise<void> {
    const headers = { "Content-Type": "application/octet-stream" };
    await this.#cache.put(this.#address(name, bytes.length), new Response(bytes, { headers }));
    this.#known.set(name, bytes.length);
  }

  /** Deletes a page. */
  async remove(name: string): Promise<void> {
    const bytes = this.#known.get(name);
    this.#known.delete(name);
    if (bytes !== undefined) await this.#cache.delete(this.#address(name, bytes));
  }

  /**
   * Notes that these pages were used now, the first last, and deletes those that were used longest ago while
   * all take more than `maxBytes`.
   */
  async tidy(names: readonly string[], now = Date.now()): Promise<void> {
    const tidy = async () => {
      const uses = { ...this.#uses, ...(await this.#storedUses()) };
      names.forEach((name, index) => (uses[name] = now - index / 1000));
      await this.#list();
      // A name later in a list of uses is further from the beginning of its conversation.
      const oldest = Array.from(this.#known).sort(([a], [b]) => (uses[a] ?? 0) - (uses[b] ?? 0));
      let total = oldest.reduce((sum, [, bytes]) => sum + bytes, 0);
      for (const [name, bytes] of oldest) {
        if (total <= this.maxBytes) break;
        await this.remove(name);
        total -= bytes;
      }
      this.#uses = Object.fromEntries(
        Array.from(this.#known.keys(), (name): [string, number] => [name, uses[name] ?? 0]),
      );
      await this.#cache.put(`${this.#base}uses`, new Response(JSON.stringify(this.#uses)));
    };
    await (this.#locks ? this.#locks.request(LOCK, tidy) : tidy());
  }

  /** Deletes everything. */
  async clear(): Promise<void> {
    for (const { url } of await this.#cache.keys()) await this.#cache.delete(url);
    this.#known.clear();
    this.#uses = {};
  }

  #address(name: string, bytes: number): string {
    return `${this.#base}${name}/${bytes}`;
  }

  async #list(): Promise<void> {
    this.#known.clear();
    for (const { url } of await this.#cache.keys()) {
      const [name, bytes] = url.startsWith(this.#base) ? url.slice(this.#base.length).split("/") : [];
      if (name && bytes) this.#known.set(name, Number(bytes));
    }
  }

  async #storedUses(): Promise<Uses> {
    try {
      const uses: unknown = await (await this.#cache.match(`${this.#base}uses`))?.json();
      const known = Object.entries(Object(uses)).filter(([, time]) => typeof time === "number");
      return Object.fromEntries(known) as Uses;
    } catch {
      return {};
    }
  }
}

/**
 * Deletes what `promptCacheBytes` has stored of conversations. An engine that is loaded still has its own:
 * see `engine.forget()`.
 */
export async function deletePromptCache(): Promise<void> {
  await globalThis.caches?.delete(CACHE_NAME);
}
