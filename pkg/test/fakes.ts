// Stand-ins for the wasm runtime.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { TokenLogprob } from "../src/api/logprobs.js";
import type { FileSpec, LoadRequest } from "../src/protocol.js";
import type {
  RuntimeCallDelta,
  Bytes,
  Inspector,
  Parser,
  ParserClass,
  Runtime,
  RuntimeEvent,
  RuntimeModelInfo,
  KvFormat,
  RuntimeRequest,
  Vocabulary,
} from "../src/runtime.js";

/** A request to load these files, as a page makes it that leaves everything to the package. */
export function loadRequest(files: FileSpec[], refresh = false): LoadRequest {
  return {
    name: "m",
    files,
    contextLength: null,
    template: null,
    fallbackTemplate: null,
    responseTemplate: null,
    parallel: null,
    kvFormat: "f16",
    promptCacheBytes: 0,
    device: "auto",
    threads: null,
    kernels: "",
    refresh,
    waits: false,
    share: true,
    draft: null,
  };
}

/** How the fake runtime behaves. */
export interface Script {
  /** Bytes of each file that are header. */
  header?: number;
  /** Sees the options of each load. */
  onBegin?: (options: object) => void;
  /** Called with the step of loading that begins; throws what the runtime would. */
  onLoad?: (step: "header" | "check" | "prepare" | "data" | "finish") => void;
  /** Called when the speed is measured. */
  onMeasure?: () => void;
  /** Sees the bytes that an inspector gets. */
  onHeader?: (file: number, bytes: Uint8Array) => void;
  /** What an inspector says otherwise. */
  inspection?: object;
  /** Tokens of every answer. */
  tokens?: string[];
  /** Reasoning that comes with them. */
  reasoning?: string[];
  /** Pieces of tool calls that come with them. */
  calls?: RuntimeCallDelta[][];
  /** What it says of its kernels. */
  kernels?: string;
  /** Tokens of its context. Default 8. */
  contextLength?: number;
  /** Messages that it leaves out of each prompt. Default 0. */
  omittedMessages?: number;
  /** Who tells it about tools. Default `template`. */
  tools?: "built-in" | null;
  /** Called before each `next`; throws what the runtime would. */
  onNext?: (generated: number, request: RuntimeRequest) => void | Promise<void>;
  /** Sees each request. */
  onStart?: (request: RuntimeRequest) => void;
  onCancel?: () => void;
  /** Loads the parser for constraints; throws what the browser would. */
  onParser?: () => void;
  /** Sees what training does; throws what the runtime would. */
  onTraining?: (what: string) => void;
  /** What is taught has no name in PEFT. */
  hasNoPeft?: boolean;
  /** Sees each adapter. */
  onAdapter?: (what: "load" | "unload", name: string) => void;
}

/** Checks the order of what it is given, and hashes it. */
export class FakeRuntime implements Runtime {
  /** Whole files as they were pushed. */
  hashes: string[] = [];
  largestPiece = 0;
  #parser: Parser | null = null;
  #sizes: number[] = [];
  #headers: number[] = [];
  #at: number[] = [];
  #hash: ReturnType<typeof createHash>[] = [];
  /** Those that run, by the numbers of their sequences; the next one first. */
  readonly #answers = new Map<number, { request: RuntimeRequest; generated: number; scored: boolean }>();
  #started = 0;

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

  async measure_speed(): Promise<string> {
    this.script.onMeasure?.();
    return JSON.stringify({ bytes_per_second: 4e9, seconds_per_token: 0.001 });
  }

  begin(sizes: Float64Array, options: string): void {
    this.script.onBegin?.(JSON.parse(options) as object);
    this.#sizes = [...sizes];
    this.#headers = this.#sizes.map(() => 0);
    this.#at = this.#sizes.map(() => 0);
    this.#hash = this.#sizes.map(() => createHash("sha256"));
  }

  begin_draft(sizes: Float64Array): void {
    assert.ok(this.hashes.length > 0, "a model is loaded");
    this.begin(sizes, JSON.stringify({ draft: true }));
  }

  push_header(file: number, bytes: Uint8Array): number {
    this.script.onLoad?.("header");
    this.#headers[file] = (this.#headers[file] ?? 0) + bytes.length;
    return Math.max(0, (this.script.header ?? 1) - (this.#headers[file] ?? 0));
  }

  check(): void {
    this.script.onLoad?.("check");
  }

  async prepare(): Promise<string> {
    this.script.onLoad?.("prepare");
    return JSON.stringify({
      name: "Fake",
      architecture: "llama",
      parameters: 1,
      quantization: "F32",
      context_length: this.script.contextLength ?? 8,
      trained_context_length: 8,
      vocab_size: 8,
      tensor_bytes: 8,
      bytes_per_token: 6,
      gpu_bytes: 77,
      kv_bytes: 8,
      has_chat_template: true,
      draft: null,
      tools: this.script.tools === undefined ? "template" : this.script.tools,
      sampling: {},
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

  async finish_draft(): Promise<string> {
    const { sha256 } = JSON.parse(await this.finish()) as { sha256: string[] };
    const model = JSON.parse(await this.prepare()) as RuntimeModelInfo;
    return JSON.stringify({ sha256, model: { ...model, draft: "Small", gpu_bytes: 100, kv_bytes: 11 } });
  }

  tokenize(text: string): Uint32Array {
    return Uint32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
  }

  detokenize(ids: Uint32Array): string {
    return String.fromCodePoint(...ids);
  }

  use_parser(make: (...vocabulary: Vocabulary) => Parser): void {
    this.#parser = make(new Uint8Array(), new Uint32Array(), new Uint32Array());
  }

  start(request: string): string {
    const parsed = JSON.parse(request) as RuntimeRequest;
    if ((parsed.grammar ?? parsed.response_format) && !this.#parser)
      throw Object.assign(new Error("not loaded"), { code: "parser_not_loaded" });
    this.script.onStart?.(parsed);
    const sequence = ++this.#started;
    const generated = parsed.continue_ids?.length ?? 0;
    this.#answers.set(sequence, { request: parsed, generated, scored: !parsed.prompt_logprobs });
    const omitted_messages = this.script.omittedMessages ?? 0;
    return JSON.stringify({ sequence, prompt_tokens: 3, omitted_messages });
  }

  is_running(sequence: number): boolean {
    return this.#answers.has(sequence);
  }

  /** A lost device ends all answers, another error that of its sequence. */
  #fail(sequence: number, error: unknown): void {
    if ((error as { code?: string }).code === "device_lost") this.#answers.clear();
    this.#answers.delete(sequence);
  }

  /** Each letter of a text as a token, of which a request wants the probabilities. */
  #logprobs(text: string, n_top = 0): TokenLogprob[] {
    const spelled = (token: string) => ({ token, bytes: [...Buffer.from(token)] });
    const top = [...Array(n_top).keys()];
    const top_logprobs = top.map((i) => ({ ...spelled(`t${i}`), logprob: -1 - i }));
    return [...text].map((token, i) => ({ ...spelled(token), logprob: -i - 0.5, top_logprobs }));
  }

  async next(): Promise<string> {
    const [[sequence, answer] = []] = this.#answers;
    assert.ok(sequence !== undefined && answer, "something is running");
    const { request, generated } = answer;
    const { prompt, top_logprobs, embedding } = request;
    if (!answer.scored) {
      answer.scored = true;
      const [first, ...others] = this.#logprobs(String(prompt), top_logprobs);
      const logprobs = [{ ...first, logprob: null, top_logprobs: [] }, ...others];
      return JSON.stringify({ sequence, type: "prompt", logprobs });
    }
    try {
      await this.script.onNext?.(generated, request);
    } catch (error) {
      this.#fail(sequence, error);
      throw error;
    }
    // The others come first now.
    this.#answers.delete(sequence);
    if (embedding !== undefined) {
      const all = [...new Uint8Array(Buffer.from(String(prompt)))].slice(0, 4);
      const kept = embedding === 0 ? all : all.slice(0, embedding);
      return JSON.stringify({ sequence, type: "embedding", embedding: kept, prompt_tokens: prompt?.length });
    }
    const tokens = this.script.tokens ?? ["Hello", " world"];
    const limit = Math.min(request.max_tokens ?? Infinity, tokens.length);
    const text = tokens[generated] ?? "";
    const reasoning = this.script.reasoning?.[generated];
    const calls = this.script.calls?.[generated];
    const [told] = top_logprobs === undefined ? [] : this.#logprobs(text, top_logprobs);
    const logprob = told && { ...told, token: text };
    const event: RuntimeEvent =
      generated < limit
        ? {
            type: "token",
            id: 100 + generated,
            text,
            ...(reasoning && { reasoning }),
            ...(calls && { calls }),
            ...(logprob && { logprob }),
          }
        : {
            type: "end",
            text: this.script.calls ? "" : "!",
            finish_reason: limit < tokens.length ? "length" : this.script.calls ? "tool_calls" : "stop",
            context_full: false,
            usage: {
              prompt_tokens: 3,
              completion_tokens: limit,
              total_tokens: 3 + limit,
              cached_tokens: 1,
              reasoning_tokens: 0,
              drafted_tokens: 3,
              accepted_tokens: 2,
            },
            timings: { prefill_ms: 10, decode_ms: 20, dispatches_per_token: 5 },
          };
    if (event.type !== "end") this.#answers.set(sequence, { ...answer, generated: generated + 1 });
    return JSON.stringify({ sequence, ...event });
  }

  cancel(sequence: number): void {
    assert.ok(this.#answers.delete(sequence), "what is cancelled is running");
    this.script.onCancel?.();
  }

  cached_pages(): string[] {
    return [];
  }

  async read_page(): Promise<null> {
    return null;
  }

  prompt_pages(): string {
    return JSON.stringify({ set: null, ids: [], names: [], cached: 0 });
  }

  restore_page(): boolean {
    return false;
  }

  forget(): void {}

  load_adapter(name: string, weights: Uint8Array, config?: Uint8Array | null): string {
    if (weights.length === 0) throw Object.assign(new Error("no adapter"), { code: "corrupt_file" });
    this.script.onAdapter?.("load", name);
    return JSON.stringify({ name, rank: 8, parameters: weights.length, tensors: config ? 2 : 1 });
  }

  unload_adapter(name: string): void {
    this.script.onAdapter?.("unload", name);
  }

  #step = 0;

  /** Three steps, whose losses are 3, 2 and 1. */
  #plan(): string {
    const curve = [3, 2, 1].slice(0, this.#step).map((loss, index) => ({ step: index + 1, loss }));
    const counts = {
      examples: 3,
      validation: 0,
      refused: [],
      epochs: 1,
      parameters: 9,
      tokens: 30,
      bytes: 99,
    };
    return JSON.stringify({ ...counts, steps: 3, step: this.#step, curve });
  }

  begin_training(settings: string, data: string): string {
    this.script.onTraining?.(`begin ${settings} ${data}`);
    this.#step = 0;
    return this.#plan();
  }

  resume_training(checkpoint: Uint8Array): string {
    this.script.onTraining?.(`resume ${checkpoint[0]}`);
    this.#step = checkpoint[0] ?? 0;
    return this.#plan();
  }

  async advance_training(): Promise<string> {
    this.script.onTraining?.("step");
    this.#step += 1;
    const point = { step: this.#step, loss: 4 - this.#step };
    return JSON.stringify({ step: this.#step, steps: 3, rows: 10, point, is_done: this.#step >= 3 });
  }

  async training_checkpoint(): Promise<Bytes> {
    return Uint8Array.of(this.#step);
  }

  async trained_gguf(): Promise<Bytes> {
    return Uint8Array.of(7);
  }

  async trained_peft(base: string): Promise<[Bytes, Bytes] | undefined> {
    if (this.script.hasNoPeft) return undefined;
    return [Uint8Array.of(1, 2), new TextEncoder().encode(base)];
  }

  end_training(): void {
    this.script.onTraining?.("end");
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
      const { context_length, kv_format } = JSON.parse(options) as {
        context_length: number | null;
        kv_format: KvFormat;
      };
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
        bytes_per_token: 4e8,
        kv_bytes: (context_length ?? 4096) * (kv_format === "f16" ? 1000 : 500),
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

/** What the parser's module gives. */
export function fakeParser({ onParser }: Script = {}): ParserClass {
  onParser?.();
  return class {
    free(): void {}
  };
}
