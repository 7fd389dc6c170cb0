/**
 * Entry of a worker that is one thread of the CPU build. It works on the runtime's memory until that is
 * freed.
 */
import { fail_team, initSync, work } from "./wasm/cpu-threads/nomoat_runtime.js";

/** The one message that a thread gets. */
export interface ThreadStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** 1, 2, ...: thread 0 is the runtime's own. */
  thread: number;
}

addEventListener(
  "message",
  ({ data: { module, memory, thread } }: MessageEvent<ThreadStart>) => {
    initSync({ module, memory });
    postMessage("ready");
    try {
      work(thread);
    } catch (error) {
      // A trap. The other threads wait for this one.
      fail_team();
      throw error;
    }
  },
  { once: true },
);
