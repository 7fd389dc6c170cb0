/** The worker's side: serves the page's calls with the runtime. Answers run together. */
import type { AdapterFiles } from "./adapters.js";
import { offerFiles } from "./cross-origin.js";
import {
  loadInspector,
  loadParser,
  openDevice,
  type DeviceOptions,
  type OpenDevice,
  type Platform,
} from "./devices.js";
import { AbortedError, InternalError, toWire } from "./errors.js";
import { inspectFiles } from "./inspect-files.js";
import { Keeper, type Exclusive } from "./keeper.js";
import { loadDraft } from "./draft.js";
import { loadModel, type LoadEnv } from "./loader.js";
import { deletePromptCache } from "./pages.js";
import { ProgressMeter } from "./progress.js";
import type {
  Calls,
  FromWorker,
  InspectRequest,
  LoadRequest,
  MemoryUse,
  Method,
  Notice,
  ToWorker,
} from "./protocol.js";
import type {
  Runtime,
  RuntimeAdapterInfo,
  RuntimeDeviceInfo,
  RuntimeErrorCode,
  RuntimeEvent,
  RuntimeInspection,
  RuntimeRequest,
  RuntimeSpeed,
  RuntimeStart,
} from "./runtime.js";
import { teaching, type Teaching } from "./teaching.js";
import type { TrainingMethod } from "./training.js";
import { turn } from "./turn.js";

/** Time that running calls get to end when the worker is closed. */
const CLOSING_MS = 500;
/** After an answer, before its pages are stored: the next one may come at once. */
const KEEP_AFTER_MS = 1000;
/** How often a load checks for a stall. */
const TICK_MS = 1000;

/** A call whose answer runs, or waits for its turn. */
interface Answering {
  notify: (notice: Notice) => void;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Serves calls; `post` answers them. */
export class Session {
  readonly #platform: Platform;
  readonly #openEnv: () => Promise<LoadEnv>;
  readonly #post: (message: FromWorker) => void;
  #device: OpenDevice | null = null;
  #teaching: Teaching | null = null;
  #keeper: Keeper | null = null;
  #gpuBytes = 0;
  #proceed: (() => void) | null = null;
  readonly #closing = new AbortController();
  readonly #running = new Map<number, { controller: AbortController; done: Promise<void> }>();
  /** By the numbers of their sequences. */
  readonly #answers = new Map<number, Answering>();
  #isStepping = false;
  /** The last call of the runtime. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(platform: Platform, openEnv: () => Promise<LoadEnv>, post: (message: FromWorker) => void) {
    this.#platform = platform;
    this.#openEnv = openEnv;
    this.#post = post;
  }

  /** Takes one message from the page. */
  async handle(message: ToWorker): Promise<void> {
    if (message.type === "abort") {
      this.#running.get(message.id)?.controller.abort();
      return;
    }
    if (message.type === "ping") {
      this.#post({ type: "pong" });
      return;
    }
    if (message.type === "proceed") {
      this.#proceed?.();
      return;
    }
    if (message.type === "hold") {
      this.#hold(message.lock);
      return;
    }
    if (message.type === "close") {
      await this.close();
      return;
    }
    const controller = new AbortController();
    const done = this.#answer(message, controller.signal);
    this.#running.set(message.id, { controller, done });
    await done;
    this.#running.delete(message.id);
  }

  async #answer(message: Extract<ToWorker, { type: "call" }>, signal: AbortSignal): Promise<void> {
    const { id } = message;
    try {
      const notify = (notice: Notice) => this.#post({ type: "notice", id, notice });
      const result = await this.#serve(message, notify, signal);
      this.#post({ type: "result", id, result });
    } catch (error) {
      const wire = toWire(error);
      if (wire.code === "out_of_memory" && this.#device) wire.backend = this.#device.backend;
      this.#post(wire.fatal ? { type: "crash", error: wire } : { type: "error", id, error: wire });
    }
  }

  /** Holds a lock until the worker's end. */
  #hold(lock: string): void {
    void navigator.locks?.request(lock, () => {
      this.#post({ type: "held" });
      return new Promise(() => undefined);
    });
  }

  /** Stops running calls, which store what they have downloaded, and frees the device and the model. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const { controller } of this.#running.values()) controller.abort();
    const ended = Promise.all([...this.#running.values()].map(({ done }) => done));
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, CLOSING_MS))]);
    try {
      this.#device?.runtime.free();
    } catch {
      // It is in the middle of a step, or has failed. The end of the worker frees it.
    }
    this.#device = null;
    this.#keeper = null;
  }

  async #serve(
    call: Extract<ToWorker, { type: "call" }>,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<Calls[Method]["result"]> {
    switch (call.method) {
      case "load":
        return this.#load(call.params, notify, signal);
      case "inspect":
        return this.#inspect(call.params, signal);
      case "measure":
        return this.#measure(call.params);
      case "generate":
        return this.#generate(call.params, notify, signal);
      case "score":
        return this.#exclusive(() => this.#score(call.params));
      case "loadAdapter":
        return this.#loadAdapter(call.params);
      case "unloadAdapter":
        return this.#exclusive(() => this.#ready().unload_adapter(call.params.name));
      case "trainBegin":
      case "trainStep":
      case "trainCheckpoint":
      case "trainFiles":
      case "trainEnd":
        return this.#exclusive(() => this.#train(call));
      case "tokenize": {
        const { text, special } = call.params;
        return this.#exclusive(() => Array.from(this.#ready().tokenize(text, special)));
      }
      case "detokenize":
        return this.#exclusive(() => this.#ready().detokenize(call.params.ids));
      case "forget":
        return this.#forget();
      case "memory":
        return this.#memoryUse();
    }
  }

  async #load(
    request: LoadRequest,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<Calls["load"]["result"]> {
    const { draft } = request;
    const progress = new ProgressMeter((report) => {
      // The draft model is still to come.
      if (!draft || report.phase !== "ready") notify({ kind: "progress", progress: report });
    });
    const ofDraft = new ProgressMeter((report) =>
      notify({ kind: "progress", progress: { ...report, isDraft: true } }),
    );
    progress.phase("device", 0, 0);
    this.#device ??= await openDevice(request, this.#platform);
    const { runtime, reason, why } = this.#device;
    const device = JSON.parse(runtime.device_info()) as RuntimeDeviceInfo;
    const ticking = setInterval(() => {
      progress.tick();
      ofDraft.tick();
    }, TICK_MS);
    try {
      const env = await this.#openEnv();
      let waited: Promise<void> | null = null;
      const ready = () => (waited ??= this.#mayGoOn(request, notify, signal));
      const loaded = await loadModel(runtime, request, env, progress, signal, ready);
      const drafted = draft ? await loadDraft(runtime, request, draft, env, ofDraft, signal) : null;
      const model = { ...loaded, ...drafted };
      this.#gpuBytes = model.gpu_bytes;
      const pages =
        request.promptCacheBytes > 0 && (await this.#platform.openPages(request.promptCacheBytes));
      const exclusive: Exclusive = (call) => this.#exclusive(() => call(this.#ready()));
      this.#keeper = pages ? new Keeper(pages, exclusive) : null;
      const files = [...request.files, ...(draft?.files ?? [])];
      if (request.share) void offerFiles(files, env, this.#closing.signal);
      return { device, reason, why, model };
    } finally {
      clearInterval(ticking);
    }
  }

  async #inspect(
    { files, contextLength, kvFormat, backend }: InspectRequest,
    signal: AbortSignal,
  ): Promise<Calls["inspect"]["result"]> {
    const Inspector = await loadInspector(this.#platform, backend);
    const { inspector, sizes } = await inspectFiles(Inspector, files, await this.#openEnv(), signal);
    try {
      const options = JSON.stringify({ context_length: contextLength, kv_format: kvFormat });
      return { ...(JSON.parse(inspector.finish(options)) as RuntimeInspection), sizes };
    } finally {
      inspector.free();
    }
  }

  async #measure(options: DeviceOptions): Promise<Calls["measure"]["result"]> {
    this.#device ??= await openDevice(options, this.#platform);
    const { runtime, backend } = this.#device;
    const said = JSON.parse(await runtime.measure_speed()) as RuntimeSpeed;
    return { backend, bytesPerSecond: said.bytes_per_second, secondsPerToken: said.seconds_per_token };
  }

  /** Resolves when the page lets the load take memory. */
  async #mayGoOn(
    { waits }: LoadRequest,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (!waits) return;
    await new Promise<void>((resolve, reject) => {
      this.#proceed = resolve;
      signal.addEventListener("abort", () => reject(new AbortedError()), { once: true });
      notify({ kind: "header" });
    });
  }

  async #generate(
    request: RuntimeRequest,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const json = JSON.stringify(request);
    await this.#keeper?.restore(json);
    const start = await this.#start(json, signal);
    notify({ kind: "start", start });
    await new Promise<void>((resolve, reject) => {
      this.#answers.set(start.sequence, { notify, resolve, reject });
      const abort = () => void this.#exclusive(() => this.#cancel(start.sequence));
      if (signal.aborted) abort();
      signal.addEventListener("abort", abort);
      void this.#run();
    });
  }

  /** Takes up a request. The first that has a constraint loads the parser. */
  async #start(request: string, signal: AbortSignal): Promise<RuntimeStart> {
    const start = () =>
      this.#exclusive(() => {
        if (signal.aborted) throw new AbortedError();
        return JSON.parse(this.#ready().start(request)) as RuntimeStart;
      });
    try {
      return await start();
    } catch (error) {
      if (Object(error).code !== ("parser_not_loaded" satisfies RuntimeErrorCode)) throw error;
    }
    const Parser = await loadParser(this.#platform);
    await this.#exclusive(() => this.#ready().use_parser((...vocabulary) => new Parser(...vocabulary)));
    return start();
  }

  /** Runs steps as long as there are answers. */
  async #run(): Promise<void> {
    if (this.#isStepping) return;
    this.#isStepping = true;
    while (this.#answers.size > 0) {
      await turn();
      await this.#exclusive(() => this.#step());
    }
    this.#isStepping = false;
    setTimeout(() => void this.#keeper?.keep(() => this.#answers.size === 0), KEEP_AFTER_MS);
  }

  /** Takes one event to its call. An error ends the calls whose answers do not go on. */
  async #step(): Promise<void> {
    if (this.#answers.size === 0) return;
    try {
      const event = JSON.parse(await this.#ready().next()) as RuntimeEvent & { sequence: number };
      const answer = this.#answers.get(event.sequence);
      answer?.notify({ kind: "event", event });
      if (event.type !== "end" && event.type !== "embedding") return;
      this.#answers.delete(event.sequence);
      answer?.resolve();
    } catch (error) {
      for (const [sequence, { reject }] of this.#answers)
        if (!this.#goesOn(sequence)) {
          this.#answers.delete(sequence);
          reject(error);
        }
    }
  }

  #goesOn(sequence: number): boolean {
    try {
      return this.#ready().is_running(sequence);
    } catch {
      // The runtime has trapped.
      return false;
    }
  }

  #cancel(sequence: number): void {
    const answer = this.#answers.get(sequence);
    if (!answer) return;
    this.#answers.delete(sequence);
    this.#device?.runtime.cancel(sequence);
    answer.reject(new AbortedError());
  }

  /** Calls the runtime when no other call waits for it, in the order in which the calls came. */
  #exclusive<T>(call: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(call);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #score({ ids, oneByOne, adapters }: Calls["score"]["params"]): Promise<Calls["score"]["result"]> {
    const score = await this.#ready().score(ids, oneByOne, JSON.stringify(adapters));
    return JSON.parse(score) as Calls["score"]["result"];
  }

  async #loadAdapter({ name, weights, config }: AdapterFiles): Promise<RuntimeAdapterInfo> {
    const [bytes, settings] = await Promise.all(
      [weights, config].map(async (file) => file && new Uint8Array(await file.arrayBuffer())),
    );
    return this.#exclusive(() => {
      const info = this.#ready().load_adapter(name, bytes ?? new Uint8Array(), settings ?? null);
      return JSON.parse(info) as RuntimeAdapterInfo;
    });
  }

  async #train(
    call: Extract<ToWorker, { method: TrainingMethod }>,
  ): Promise<Calls[TrainingMethod]["result"]> {
    this.#teaching ??= teaching(this.#ready());
    if (call.method === "trainEnd") return this.#teaching.end();
    if (call.method === "trainBegin") return this.#teaching.begin(call.params);
    if (call.method === "trainStep") return this.#teaching.step();
    if (call.method === "trainCheckpoint") return this.#teaching.checkpoint();
    return this.#teaching.files(call.params.base);
  }

  async #forget(): Promise<void> {
    await this.#exclusive(() => this.#ready().forget());
    // Without a keeper there may be pages of another engine.
    await (this.#keeper ? this.#keeper.forget() : deletePromptCache());
  }

  #memoryUse(): MemoryUse {
    return { wasmBytes: this.#device?.memory.buffer.byteLength ?? 0, gpuBytes: this.#gpuBytes };
  }

  #ready(): Runtime {
    if (!this.#device) throw new InternalError("No model is loaded.");
    return this.#device.runtime;
  }
}
