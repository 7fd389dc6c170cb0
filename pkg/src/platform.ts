/** The browser as `devices.ts` sees it from the package's worker. */
import { adapter, grantSubgroups } from "./adapter.js";
import type { Build, Platform, RuntimeModule } from "./devices.js";
import type { ThreadStart } from "./thread.js";
import { wasmFeatures } from "./features.js";
import { keptKernels } from "./kept.js";
import { PageStore } from "./pages.js";
import type { ParserClass } from "./runtime.js";

export const platform: Platform = {
  adapter,
  wasm: wasmFeatures,
  load,
  loadParser,
  openPages: (maxBytes) => PageStore.open(maxBytes),
  kernels: keptKernels,
  warn: (message) => console.warn(message),
};

async function load(build: Build, threads: number): Promise<RuntimeModule> {
  switch (build) {
    case "gpu": {
      grantSubgroups();
      const glue = await import("./wasm/gpu/nomoat_runtime.js");
      return { memory: (await glue.default()).memory, Runtime: glue.Runtime, Inspector: glue.Inspector };
    }
    case "cpu": {
      const glue = await import("./wasm/cpu/nomoat_runtime.js");
      return { memory: (await glue.default()).memory, Runtime: glue.Runtime, Inspector: glue.Inspector };
    }
    case "cpu-threads": {
      const glue = await import("./wasm/cpu-threads/nomoat_runtime.js");
      const module = await compile(new URL("./wasm/cpu-threads/nomoat_runtime_bg.wasm", import.meta.url));
      const { memory } = await glue.default({ module_or_path: module });
      glue.start_team(threads);
      const others = Array.from({ length: threads - 1 }, (_, index) => index + 1);
      await Promise.all(others.map((thread) => startThread({ module, memory, thread })));
      return { memory, Runtime: glue.Runtime, Inspector: glue.Inspector };
    }
  }
}

async function loadParser(): Promise<ParserClass> {
  const glue = await import("./wasm/grammar/nomoat_grammar.js");
  await glue.default();
  return glue.Parser;
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.href} answered ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Resolves when the thread waits for work. It ends with this worker. */
function startThread(start: ThreadStart): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
    let started = false;
    worker.onmessage = () => {
      started = true;
      resolve();
    };
    worker.onerror = (event) => {
      const error = new Error(event.message || "a thread could not be started");
      // A thread that fails at work ends the runtime: see `worker.ts`.
      if (started) reportError(error);
      else reject(error);
    };
    worker.postMessage(start);
  });
}
