/** The worker's side: serves the page's calls with the runtime, one at a time. */
import { openDevice, type OpenDevice, type Platform } from "./devices.js";
import { AbortedError, InternalError, toWire } from "./errors.js";
import { loadModel, type LoadEnv } from "./loader.js";
import { ProgressMeter } from "./progress.js";
import type { Calls, FromWorker, LoadRequest, Method, MemoryUse, Notice, ToWorker } from "./protocol.js";
import type { Runtime, RuntimeDeviceInfo, RuntimeEvent, RuntimeRequest, RuntimeStart } from "./runtime.js";
import { turn } from "./turn.js";

/** Serves calls; `post` answers them. */
export class Session {
  readonly #platform: Platform;
  readonly #openEnv: () => Promise<LoadEnv>;
  readonly #post: (message: FromWorker) => void;
  #device: OpenDevice | null = null;
  #gpuBytes = 0;
  readonly #running = new Map<number, AbortController>();

  constructor(platform: Platform, openEnv: () => Promise<LoadEnv>, post: (message: FromWorker) => void) {
    this.#platform = platform;
    this.#openEnv = openEnv;
    this.#post = post;
  }

  /** Takes one message from the page. */
  async handle(message: ToWorker): Promise<void> {
    if (message.type === "abort") {
      this.#running.get(message.id)?.abort();
      return;
    }
    if (message.type === "close") {
      this.close();
      return;
    }
    const { id } = message;
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      const notify = (notice: Notice) => this.#post({ type: "notice", id, notice });
      const result = await this.#serve(message, notify, controller.signal);
      this.#post({ type: "result", id, result });
    } catch (error) {
      const wire = toWire(error);
      if (wire.code === "out_of_memory" && this.#device) wire.backend = this.#device.backend;
      this.#post(wire.fatal ? { type: "crash", error: wire } : { type: "error", id, error: wire });
    } finally {
      this.#running.delete(id);
    }
  }

  /** Frees the device and the model. */
  close(): void {
    try {
      this.#device?.runtime.free();
    } catch {
      // In the middle of a step, or dead: the worker's end frees it.
    }
    this.#device = null;
  }

  async #serve(
    call: Extract<ToWorker, { type: "call" }>,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<Calls[Method]["result"]> {
    switch (call.method) {
      case "load":
        return this.#load(call.params, notify, signal);
      case "generate":
        return this.#generate(call.params, notify, signal);
      case "score":
        return JSON.parse(
          await this.#ready().score(call.params.ids, call.params.oneByOne),
        ) as Calls["score"]["result"];
      case "tokenize":
        return Array.from(this.#ready().tokenize(call.params.text, call.params.special));
      case "detokenize":
        return this.#ready().detokenize(call.params.ids);
      case "memory":
        return this.#memoryUse();
    }
  }

  async #load(
    request: LoadRequest,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<Calls["load"]["result"]> {
    const progress = new ProgressMeter((report) => notify({ kind: "progress", progress: report }));
    progress.phase("device", 0, 0);
    this.#device ??= await openDevice(request, this.#platform);
    const { runtime, reason, why } = this.#device;
    const device = JSON.parse(runtime.device_info()) as RuntimeDeviceInfo;
    const model = await loadModel(runtime, request, await this.#openEnv(), progress, signal);
    this.#gpuBytes = model.gpu_bytes;
    return { device, reason, why, model };
  }

  async #generate(
    request: RuntimeRequest,
    notify: (notice: Notice) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const runtime = this.#ready();
    notify({ kind: "start", start: JSON.parse(runtime.start(JSON.stringify(request))) as RuntimeStart });
    for (;;) {
      await turn();
      if (signal.aborted) {
        runtime.cancel();
        throw new AbortedError();
      }
      const event = JSON.parse(await runtime.next()) as RuntimeEvent;
      notify({ kind: "event", event });
      if (event.type === "end") return;
    }
  }

  #memoryUse(): MemoryUse {
    return { wasmBytes: this.#device?.memory.buffer.byteLength ?? 0, gpuBytes: this.#gpuBytes };
  }

  #ready(): Runtime {
    if (!this.#device) throw new InternalError("No model is loaded.");
    return this.#device.runtime;
  }
}
