// Pages of the prefix cache in the browser's storage.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Keeper } from "../src/keeper.js";
import { PageStore } from "../src/pages.js";
import type { Bytes, Runtime } from "../src/runtime.js";
import { MemoryCache } from "./fake-browser.js";

const ORIGIN = "https://page.test";
/** Tokens of a page. */
const PAGE = 2;

/** A runtime whose requests are lists of tokens, and whose pages are named by the tokens up to their end. */
class PagesOnly implements Pick<
  Runtime,
  "cached_pages" | "read_page" | "prompt_pages" | "restore_page" | "forget"
> {
  /** The last used first. */
  cached: string[] = [];
  reads: string[] = [];
  /** The set of adapters that all prompts have. */
  set: number | null = null;

  /** Reads a prompt, and caches its pages. */
  compute(...ids: number[]): void {
    const names = this.#names(ids);
    this.cached = [...names, ...this.cached.filter((name) => !names.includes(name))];
  }

  #names(ids: number[]): string[] {
    const ends = Array.from({ length: Math.floor(ids.length / PAGE) }, (_, index) => (index + 1) * PAGE);
    return ends.map((end) => ids.slice(0, end).join("-"));
  }

  cached_pages(): string[] {
    return [...this.cached];
  }

  async read_page(name: string): Promise<Bytes | null> {
    this.reads.push(name);
    return this.cached.includes(name) ? new TextEncoder().encode(`page ${name}`.padEnd(100)) : null;
  }

  prompt_pages(request: string): string {
    const names = this.#names(JSON.parse(request) as number[]);
    const ids = (JSON.parse(request) as number[]).slice(0, names.length * PAGE);
    const missing = names.findIndex((name) => !this.cached.includes(name));
    return JSON.stringify({ set: this.set, ids, names, cached: missing < 0 ? names.length : missing });
  }

  restore_page(set: number | null, ids: Uint32Array, bytes: Uint8Array): boolean {
    assert.equal(set, this.set);
    const name = ids.join("-");
    const before = Array.from(ids.subarray(0, -PAGE)).join("-");
    const isRight = new TextDecoder().decode(bytes) === `page ${name}`.padEnd(100);
    if (isRight && (before === "" || this.cached.includes(before))) this.cached.unshift(name);
    return this.cached[0] === name;
  }

  forget(): void {
    this.cached = [];
  }
}

const keeperOf = (store: PageStore, runtime: PagesOnly) =>
  new Keeper(store, async (call) => call(runtime as unknown as Runtime));
const open = (cache: MemoryCache, maxBytes = 1e6) => PageStore.on(cache, ORIGIN, maxBytes, null);
const always = () => true;

/** A cache that holds the pages of these prompts. */
async function kept(...prompts: number[][]): Promise<MemoryCache> {
  const cache = new MemoryCache();
  const runtime = new PagesOnly();
  for (const prompt of prompts) runtime.compute(...prompt);
  await keeperOf(await open(cache), runtime).keep(always);
  return cache;
}

test("another runtime goes on from what was kept", async () => {
  const cache = await kept([1, 2, 3, 4, 5, 6, 7], [1, 2, 9, 9]);
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache), runtime);
  await keeper.restore("[1,2,3,4,5,6,8,8]");
  assert.deepEqual(runtime.cached, ["1-2-3-4-5-6", "1-2-3-4", "1-2"]);
  await keeper.restore("[1,2,9,9]");
  assert.equal(runtime.cached[0], "1-2-9-9");
  await keeper.restore("[7,7,7,7]");
  assert.equal(runtime.cached.length, 4);
});

test("pages are given back with the set of adapters that the runtime named", async () => {
  const runtime = new PagesOnly();
  runtime.set = 3;
  await keeperOf(await open(await kept([1, 2, 3, 4])), runtime).restore("[1,2,3,4]");
  assert.deepEqual(runtime.cached, ["1-2-3-4", "1-2"]);
});

test("a page is stored once", async () => {
  const cache = new MemoryCache();
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache), runtime);
  runtime.compute(1, 2, 3, 4);
  await keeper.keep(always);
  runtime.compute(1, 2, 3, 4, 5, 6);
  await keeper.keep(always);
  assert.deepEqual(runtime.reads, ["1-2", "1-2-3-4", "1-2-3-4-5-6"]);
});

/** Of three pages the second cannot be used: it is computed, and stored again. */
async function storesSecondAgain(cache: MemoryCache): Promise<void> {
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache), runtime);
  await keeper.restore("[1,2,3,4,5,6]");
  assert.deepEqual(runtime.cached, ["1-2"]);
  runtime.compute(1, 2, 3, 4, 5, 6);
  await keeper.keep(always);
  assert.deepEqual(runtime.reads, ["1-2-3-4"]);
}

test("what is damaged is not used, and is stored again", async () => {
  const cache = await kept([1, 2, 3, 4, 5, 6]);
  const at = Array.from(cache.entries.keys()).find((key) => key.includes("/1-2-3-4/"));
  cache.entries.set(at ?? "", new TextEncoder().encode("page 1-2-3-5"));
  await storesSecondAgain(cache);
});

test("a page that the browser cannot read is stored again", async () => {
  const cache = await kept([1, 2, 3, 4, 5, 6]);
  const { match } = cache;
  cache.match = async (request) => {
    const found = await match.call(cache, request);
    if (!String(request).includes("/1-2-3-4/") || !found) return found;
    // As for a file that was cut: its beginning is there, and then it fails.
    const body = new ReadableStream({ pull: (controller) => controller.error(new TypeError("cut")) });
    return new Response(body);
  };
  await storesSecondAgain(cache);
});

/** A cache whose calls take a random number of turns, as those of other processes do. */
function slow(cache: MemoryCache, seed: number): MemoryCache {
  let state = seed;
  const wait = async () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    for (let turns = (state >> 16) % 4; turns > 0; turns--) await new Promise(setImmediate);
  };
  const slowed = Object.create(cache) as MemoryCache;
  slowed.match = async (request) => (await wait(), cache.match(request));
  slowed.put = async (request, response) => (await wait(), cache.put(request, response));
  slowed.delete = async (request) => (await wait(), cache.delete(request));
  slowed.keys = async () => (await wait(), cache.keys());
  return slowed;
}

test("tabs that store, read and delete at once leave right pages within their limit", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const cache = new MemoryCache();
    const prompts = [
      [1, 2, 3, 4, 5, 6],
      [1, 2, 3, 4, 9, 9, 9, 9],
      [7, 7, 7, 7, 1, 2],
      [1, 2, 8, 8],
    ];
    const tab = async (number: number) => {
      const runtime = new PagesOnly();
      const keeper = keeperOf(await open(slow(cache, seed * 10 + number), 650), runtime);
      for (let round = 0; round < 4; round++) {
        const prompt = prompts[(number + round) % prompts.length] ?? [];
        await keeper.restore(JSON.stringify(prompt));
        runtime.compute(...prompt);
        await keeper.keep(always);
      }
      if (number === 2 && seed % 2 === 0) await keeper.forget();
    };
    await Promise.all([tab(0), tab(1), tab(2)]);
    // The pages of a tab that was first to finish may go when another one does; whoever is last sees to it.
    await (await open(cache, 650)).tidy([]);
    const pages = Array.from(cache.entries).filter(([key]) => !key.endsWith("/uses"));
    assert.ok(pages.length <= 6, `${pages.length} pages`);
    for (const [key, bytes] of pages)
      assert.equal(new TextDecoder().decode(bytes), `page ${key.split("/").at(-2)}`.padEnd(100));
  }
});

test("what another tab has deleted is computed", async () => {
  const cache = await kept([1, 2, 3, 4, 5, 6]);
  const store = await open(cache);
  for (const key of Array.from(cache.entries.keys()))
    if (key.includes("/1-2-3-4/")) cache.entries.delete(key);
  const runtime = new PagesOnly();
  await keeperOf(store, runtime).restore("[1,2,3,4,5,6]");
  assert.deepEqual(runtime.cached, ["1-2"]);
});

test("an answer that begins stops the storing, which goes on after it", async () => {
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(new MemoryCache()), runtime);
  runtime.compute(1, 2, 3, 4, 5, 6);
  await keeper.keep(() => runtime.reads.length < 2);
  assert.deepEqual(runtime.reads, ["1-2", "1-2-3-4"]);
  await keeper.keep(always);
  assert.deepEqual(runtime.reads.slice(2), ["1-2-3-4-5-6"]);
});

test("the pages that were used longest ago go first, from the end of their conversation", async () => {
  const cache = new MemoryCache();
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache, 420), runtime);
  const names = () =>
    Array.from(cache.entries.keys(), (key) => key.split("/").at(-2)).filter((name) => name !== "page");
  runtime.compute(1, 1, 1, 1, 1, 1);
  await keeper.keep(always);
  await new Promise((resolve) => setTimeout(resolve, 5));
  runtime.cached = [];
  runtime.compute(2, 2, 2, 2);
  await keeper.keep(always);
  assert.deepEqual(names().sort(), ["1-1", "1-1-1-1", "2-2", "2-2-2-2"]);
  await new Promise((resolve) => setTimeout(resolve, 5));
  // What does not fit at all is not written.
  runtime.cached = [];
  runtime.compute(3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3);
  await keeper.keep(always);
  assert.deepEqual(names().sort(), ["3-3", "3-3-3-3", "3-3-3-3-3-3", "3-3-3-3-3-3-3-3"]);
});

test("a full or failing storage and a failing runtime only cost time", async () => {
  const cache = new MemoryCache();
  cache.capacity = 150;
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache), runtime);
  runtime.compute(1, 2, 3, 4);
  await keeper.keep(always);
  const other = new PagesOnly();
  await keeperOf(await open(cache), other).restore("[1,2,3,4]");
  assert.deepEqual(other.cached, ["1-2"]);
  cache.match = async () => {
    throw new Error("unreadable");
  };
  other.cached = [];
  await keeper.restore("[1,2,3,4]");
  await new Keeper(await open(cache), async () => {
    throw new Error("lost");
  }).restore("[1]");
  assert.deepEqual(other.cached, []);
});

test("nothing is left after forget, not even what was being stored", async () => {
  const cache = new MemoryCache();
  const runtime = new PagesOnly();
  const keeper = keeperOf(await open(cache), runtime);
  runtime.compute(1, 2, 3, 4, 5, 6);
  const put = cache.put.bind(cache);
  cache.put = async (request, response) => {
    if (String(request).includes("/1-2-3-4/")) {
      runtime.forget();
      await keeper.forget();
    }
    await put(request, response);
  };
  await keeper.keep(always);
  assert.deepEqual(Array.from(cache.entries.keys()), []);
});
