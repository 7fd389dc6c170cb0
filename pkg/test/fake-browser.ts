// Stand-ins for the browser, and bytes to store in it.
import { createHash } from "node:crypto";
import type { LoadEnv, Locks } from "../src/loader.js";
import type { Bytes } from "../src/runtime.js";
import { ShardStore, type CacheLike } from "../src/store.js";

/** Cache Storage in memory. */
export class MemoryCache implements CacheLike {
  readonly entries = new Map<string, Bytes>();
  readonly #headers = new Map<string, Headers>();
  /** Bytes of bodies it takes before `put` fails as a full disk does. */
  capacity = Infinity;

  async match(request: RequestInfo | URL): Promise<Response | undefined> {
    const body = this.entries.get(String(request));
    const headers = this.#headers.get(String(request));
    return body && new Response(body.slice(), headers && { headers });
  }

  async put(request: RequestInfo | URL, response: Response): Promise<void> {
    if (response.status === 206) throw new TypeError("partial response");
    const body = new Uint8Array(await response.arrayBuffer());
    const used = Array.from(this.entries.values()).reduce((sum, entry) => sum + entry.length, 0);
    if (used + body.length > this.capacity) throw new DOMException("full", "QuotaExceededError");
    this.entries.set(String(request), body);
    this.#headers.set(String(request), response.headers);
  }

  async delete(request: RequestInfo | URL): Promise<boolean> {
    return this.entries.delete(String(request));
  }

  async keys(): Promise<Request[]> {
    return Array.from(this.entries.keys(), (url) => new Request(url));
  }

  /** Addresses of the stored shards, in order of their place. */
  shards(): string[] {
    const start = (key: string) => Number(/\/(\d+)-\d+$/.exec(key)?.[1]);
    return [...this.entries.keys()]
      .filter((key) => key.includes("/shard/"))
      .sort((a, b) => start(a) - start(b));
  }
}

/** Web Locks within the process. */
export class MemoryLocks implements Locks {
  readonly #held = new Map<string, Promise<unknown>>();

  request<T>(name: string, _options: { signal: AbortSignal }, callback: () => Promise<T>): Promise<T> {
    const mine = (this.#held.get(name) ?? Promise.resolve()).then(callback);
    this.#held.set(
      name,
      mine.catch(() => undefined),
    );
    return mine;
  }
}

/** `navigator.locks` of a page and its workers, all in this thread. */
export class FakeLockManager {
  readonly #waiting = new Map<string, (() => unknown)[]>();

  request(
    name: string,
    ...rest: [() => unknown] | [{ signal: AbortSignal }, () => unknown]
  ): Promise<unknown> {
    const granted = rest.length === 1 ? rest[0] : rest[1];
    const signal = rest.length === 1 ? undefined : rest[0].signal;
    const queue = this.#waiting.get(name);
    if (!queue) {
      this.#waiting.set(name, []);
      return Promise.resolve(granted());
    }
    return new Promise((resolve, reject) => {
      queue.push(() => resolve(granted()));
      signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    });
  }

  /** What a browser does when the holders of all locks are gone. */
  release(): void {
    for (const queue of this.#waiting.values()) queue.shift()?.();
  }
}

export interface FakeEnv extends LoadEnv {
  cache: MemoryCache;
  slept: number[];
}

export function fakeEnv(cache: MemoryCache | null = new MemoryCache()): FakeEnv {
  const slept: number[] = [];
  return {
    cache: cache ?? new MemoryCache(),
    slept,
    store: cache && new ShardStore(cache, "https://page.test"),
    locks: new MemoryLocks(),
    fetch: (url, init) => fetch(url, init),
    sleep: async (milliseconds) => void slept.push(milliseconds),
    estimate: async () => ({ usage: 0, quota: 1e12 }),
    crossOrigin: null,
    persisted: async () => false,
  };
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bytes that differ everywhere, from a seed. */
export function randomBytes(length: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed >>> 0 || 1;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state >>>= 0;
  }
  return Buffer.from(words.buffer, 0, length);
}
