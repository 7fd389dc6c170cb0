// Stand-ins for the browser and the wasm runtime.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { LoadEnv, Locks } from "../src/loader.js";
import type { TokenLogprob } from "../src/api/logprobs.js";
import type { Bytes, Inspector, Runtime, RuntimeEvent, RuntimeRequest } from "../src/runtime.js";
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
  };
}

/** How the fake runtime behaves. */
export interface Script {
  /** Bytes of each file that are header. */
  header?: number;
  /** Sees the options of each load. */
  onBegin?: (options: object) => void;
  /** Called with the step of loading that begins; throws what the runtime would. */
  onLoad?: (step: "header" | "prepare" | "data" | "finish") => void;
  /** Sees the bytes that an inspector gets. */
  onHeader?: (file: number, bytes: Uint8Array) => void;
  /** What an inspector says otherwise. */
  inspection?: object;
  /** Tokens of every answer. */
  tokens?: string[];
  /** Reasoning that comes with them. */
  reasoning?: string[];
  /** What it says of its kernels. */
  kernels?: string;
  /** Called before each `next`; throws what the runtime would. */
  onNext?: (generated: number) => void | Promise<void>;
  /** Sees each request. */
  onStart?: (request: RuntimeRequest) => void;
  onCancel?: () => void;
  /** Sees each adapter. */
  onAdapter?: (what: "load" | "unload", name: string) => void;
}

/** Checks the order of what it is given, and hashes it. */
export class FakeRuntime implements Runtime {
  /** Whole files as they were pushed. */
  hashes: string[] = [];
  largestPiece = 0;
  #sizes: number[] = [];
  #headers: number[] = [];
  #at: number[] = [];
  #hash: ReturnType<typeof createHash>[] = [];
  #request: RuntimeRequest | null = null;
  #generated = 0;
  #scored = false;

  constructor(readonly script: Script = {}) {}

  device_info(): string {
    return JSON.stringify({
      name: "Fake",
      backend: "webgpu",
      driver: "",
      is_fallback: true,
      f16: false,
      subgroup_size: 0,
      packed_dot: false,
      kernels: this.script.kernels ?? "",
      max_buffer_size: 1,
    });
  }

  begin(sizes: Float64Array, options: string): void {
    this.script.onBegin?.(JSON.parse(options) as object);
    this.#sizes = [...sizes];
    this.#headers = this.#sizes.map(() => 0);
    this.#at = this.#sizes.map(() => 0);
    this.#hash = this.#sizes.map(() => createHash("sha256"));
  }

  push_header(file: number, bytes: Uint8Array): number {
    this.script.onLoad?.("header");
    this.#headers[file] = (this.#headers[file] ?? 0) + bytes.length;
    return Math.max(0, (this.script.header ?? 1) - (this.#headers[file] ?? 0));
  }

  async prepare(): Promise<string> {
    this.script.onLoad?.("prepare");
    return JSON.stringify({
      name: "Fake",
      architecture: "llama",
      parameters: 1,
      quantization: "F32",
      context_length: 8,
      trained_context_length: 8,
      vocab_size: 8,
      tensor_bytes: 8,
      gpu_bytes: 77,
      kv_bytes: 8,
      has_chat_template: true,
      license: null,
      warnings: [],
    });
  }

  async push_data(file: number, bytes: Uint8Array): Promise<void> {
    this.script.onLoad?.("data");
    const before = this.#at.slice(0, file);
    assert.deepEqual(before, this.#sizes.slice(0, file), "files are pushed in order");
    this.largestPiece = Math.max(this.largestPiece, bytes.length);
    this.#at[file] = (this.#at[file] ?? 0) + bytes.length;
    this.#hash[file]?.update(bytes);
  }

  async finish(): Promise<string> {
    this.script.onLoad?.("finish");
    assert.deepEqual(this.#at, this.#sizes, "every byte was pushed");
    this.hashes = this.#hash.map((hash) => hash.digest("hex"));
    return JSON.stringify({ sha256: this.hashes });
  }

  tokenize(text: string): Uint32Array {
    return Uint32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
  }

  detokenize(ids: Uint32Array): string {
    return String.fromCodePoint(...ids);
  }

  start(request: string): string {
    this.#request = JSON.parse(request) as RuntimeRequest;
    this.#scored = false;
    this.#generated = this.#request.continue_ids?.length ?? 0;
    this.script.onStart?.(this.#request);
    return JSON.stringify({ prompt_tokens: 3, cached_tokens: 1 });
  }

  /** Each letter of a text as a token, of which a request wants the probabilities. */
  #logprobs(text: string): TokenLogprob[] {
    const spelled = (token: string) => ({ token, bytes: [...Buffer.from(token)] });
    const top = [...Array(this.#request?.top_logprobs ?? 0).keys()];
    const top_logprobs = top.map((i) => ({ ...spelled(`t${i}`), logprob: -1 - i }));
    return [...text].map((token, i) => ({ ...spelled(token), logprob: -i - 0.5, top_logprobs }));
  }

  async next(): Promise<string> {
    const { prompt, prompt_logprobs, top_logprobs } = this.#request ?? {};
    if (prompt_logprobs && this.#generated === 0 && !this.#scored) {
      this.#scored = true;
      const [first, ...others] = this.#logprobs(String(prompt));
      const logprobs = [{ ...first, logprob: null, top_logprobs: [] }, ...others];
      return JSON.stringify({ type: "prompt", logprobs });
    }
    await this.script.onNext?.(this.#generated);
    const { embedding } = this.#request ?? {};
    if (embedding !== undefined) {
      const all = [...new Uint8Array(Buffer.from(String(prompt)))].slice(0, 4);
      const kept = embedding === 0 ? all : all.slice(0, embedding);
      return JSON.stringify({ type: "embedding", embedding: kept, prompt_tokens: prompt?.length });
    }
    const tokens = this.script.tokens ?? ["Hello", " world"];
    const limit = Math.min(this.#request?.max_tokens ?? Infinity, tokens.length);
    const text = tokens[this.#generated] ?? "";
    const reasoning = this.script.reasoning?.[this.#generated];
    const [told] = top_logprobs === undefined ? [] : this.#logprobs(text);
    const logprob = told && { ...told, token: text };
    const event: RuntimeEvent =
      this.#generated < limit
        ? {
            type: "token",
            id: 100 + this.#generated,
            text,
            ...(reasoning && { reasoning }),
            ...(logprob && { logprob }),
          }
        : {
            type: "end",
            text: "!",
            finish_reason: limit < tokens.length ? "length" : "stop",
            context_full: false,
            usage: { prompt_tokens: 3, completion_tokens: limit, total_tokens: 3 + limit, cached_tokens: 1 },
            timings: { prefill_ms: 10, decode_ms: 20, dispatches_per_token: 5 },
          };
    this.#generated += 1;
    return JSON.stringify(event);
  }

  cancel(): void {
    this.script.onCancel?.();
  }

  load_adapter(name: string, weights: Uint8Array, config?: Uint8Array | null): string {
    if (weights.length === 0) throw Object.assign(new Error("no adapter"), { code: "corrupt_file" });
    this.script.onAdapter?.("load", name);
    return JSON.stringify({ name, rank: 8, parameters: weights.length, tensors: config ? 2 : 1 });
  }

  unload_adapter(name: string): void {
    this.script.onAdapter?.("unload", name);
  }

  async score(ids: Uint32Array): Promise<string> {
    const rest = [...ids].slice(1);
    return JSON.stringify({ logprobs: rest.map(() => -1), top: rest });
  }

  free(): void {}
}

/** Says what a script says of a model, when it has as many bytes of each header as the script wants. */
export function fakeInspector(script: Script = {}): new (sizes: Float64Array) => Inspector {
  return class {
    readonly #at: number[];

    constructor(sizes: Float64Array) {
      this.#at = [...sizes].map(() => 0);
    }

    push_header(file: number, bytes: Uint8Array): number {
      script.onLoad?.("header");
      const at = (this.#at[file] ?? 0) + bytes.length;
      this.#at[file] = at;
      script.onHeader?.(file, bytes);
      return Math.max(0, (script.header ?? 1) - at);
    }

    finish(options: string): string {
      const { context_length } = JSON.parse(options) as { context_length: number | null };
      assert.ok(
        this.#at.every((at) => at >= (script.header ?? 1)),
        "all headers are complete",
      );
      return JSON.stringify({
        name: "Fake",
        architecture: "llama",
        parameters: 1e9,
        quantization: "Q4_K",
        context_length: context_length ?? 4096,
        trained_context_length: 8192,
        tensor_bytes: 5e8,
        weight_bytes: 5e8,
        kv_bytes: (context_length ?? 4096) * 1000,
        has_chat_template: true,
        license: null,
        warnings: [],
        problem: null,
        ...script.inspection,
      });
    }

    free(): void {}
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
