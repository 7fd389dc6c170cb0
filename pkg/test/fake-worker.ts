// An engine over workers in this thread.
import { createEngineWith } from "../src/engine.js";
import type { Engine } from "../src/engine-types.js";
import type { Platform } from "../src/devices.js";
import type { WorkerLike } from "../src/link.js";
import type { FromWorker, ToWorker } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { fakeEnv, type FakeEnv } from "./fake-browser.js";
import { FakeRuntime, fakeInspector, fakeParser, type Script } from "./fakes.js";

/**
 * A worker in this thread: the real session over a fake runtime, messages cloned and late as real ones are.
 */
export class FakeWorker implements WorkerLike {
  onmessage: WorkerLike["onmessage"] = null;
  onerror: WorkerLike["onerror"] = null;
  terminated = false;
  /** It takes no messages until it is flushed. */
  hangs = false;
  readonly #held: ToWorker[] = [];
  readonly #session: Session;

  constructor(script: Script, env: FakeEnv = fakeEnv()) {
    const memory = new WebAssembly.Memory({ initial: 2 });
    const module = {
      memory,
      Runtime: { open: async () => new FakeRuntime(script) },
      Inspector: fakeInspector(script),
    };
    const platform: Platform = {
      adapter: async () => ({ name: "fake", isFallback: false, subgroupSize: 0, packedDot: false }),
      wasm: async () => ({ simd: true, relaxedSimd: true, threads: true, isolated: true, cores: 2 }),
      load: async () => module,
      openPages: async () => null,
      loadParser: async () => fakeParser(script),
      kernels: { get: async () => null, put: async () => undefined },
      warn: () => {},
    };
    const post = (message: FromWorker) => {
      const copy = structuredClone(message);
      setImmediate(() => !this.terminated && this.onmessage?.({ data: copy } as MessageEvent<FromWorker>));
    };
    this.#session = new Session(platform, async () => env, post);
  }

  postMessage(message: ToWorker): void {
    if (message.type === "close" && !this.hangs) {
      void this.#session.close();
      this.terminate();
    }
    // structuredClone would turn a File into a Blob here.
    setImmediate(() => {
      if (this.hangs) this.#held.push(message);
      else if (!this.terminated) void this.#session.handle(message);
    });
  }

  /** Takes the messages that came while it was hanging. */
  flush(): void {
    for (const message of this.#held.splice(0)) void this.#session.handle(message);
  }

  terminate(): void {
    this.terminated = true;
  }
}

/** An engine whose workers follow these scripts, in order. */
export async function engineWith(...scripts: Script[]): Promise<{ engine: Engine; workers: FakeWorker[] }> {
  const workers: FakeWorker[] = [];
  const spawn = () => {
    const worker = new FakeWorker(scripts[Math.min(workers.length, scripts.length - 1)] ?? {});
    workers.push(worker);
    return worker;
  };
  const options = { model: new File(["GGUF and more"], "m.gguf") };
  return { engine: await createEngineWith(options, spawn, "https://page.test/"), workers };
}
