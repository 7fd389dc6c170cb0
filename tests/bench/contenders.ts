/** The runtimes that are compared. Each is loaded in a page and used by its own API, with its defaults. */
import type { Page } from "@playwright/test";
import type { ChatCompletionChunk as WllamaChunk, Wllama } from "@wllama/wllama";
import type { TextGenerationPipeline, TextStreamer } from "@huggingface/transformers";
import type { PlainOptions } from "../support/bare.ts";
import nomoatPackage from "../../pkg/package.json" with { type: "json" };
import { nativeLlama } from "./llama.cpp/contender.ts";
import manifest from "./package.json" with { type: "json" };
import type { Message } from "./prompts.ts";
import { paths } from "./site.ts";

/** Context length of all contenders, in tokens. */
const CONTEXT = 1024;

/** The device on which a contender should run. */
export interface How {
  device: "webgpu" | "cpu";
  /** On the CPU. On WebGPU, contenders choose by themselves. */
  threads?: number;
}

/** An answer. Times begin with the question. */
export interface Answer {
  /** Milliseconds to the first token. */
  firstMs: number;
  /** Milliseconds to the end. */
  endMs: number;
  promptTokens: number;
  /** Tokens of the prompt that were computed, not found in a cache. */
  computedTokens: number;
  /** Generated tokens. */
  tokens: number;
  text: string;
}

/** A runtime under test. */
export interface Contender {
  name: string;
  version: string;
  /** It runs on the CPU in a process of its own, not in the browser. */
  native?: true;
  /**
   * Downloads, compiles and loads everything. Returns what it really runs on. Throws `NotRun` if it cannot
   * run on
   * this device.
   */
  load(page: Page, how: How): Promise<string>;
  ask(page: Page, messages: Message[], maxTokens: number): Promise<Answer>;
  /** Bytes of its wasm memory, or null if it cannot be read. */
  wasmMemory(page: Page): Promise<number | null>;
  /** Ends processes outside the browser. */
  close?(): void;
}

/** A contender cannot run on this device; the message says why. */
export class NotRun extends Error {}

declare global {
  interface Window {
    wllama: Wllama;
    pipe: TextGenerationPipeline;
    TextStreamer: typeof TextStreamer;
    /** Wasm memories of transformers.js. */
    memories: WebAssembly.Memory[];
  }
}

function onCpu(threads: number): string {
  return `CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

/** `kernels` is the package's option. */
async function loadNomoat(page: Page, how: How, kernels: string, library = paths.nomoat): Promise<string> {
  const options: PlainOptions = {
    model: paths.model,
    contextLength: CONTEXT,
    kernels,
    ...how,
  };
  const device = await page.evaluate(
    async ([url, given]) => {
      const { createEngine } = (await import(url)) as typeof import("nomoat");
      window.engine = await createEngine(given);
      return window.engine.device;
    },
    [library, options] as const,
  );
  return device.backend === "cpu" ? onCpu(device.threads) : `WebGPU, ${device.name}`;
}

const nomoat: Contender = {
  name: "Nomoat",
  version: nomoatPackage.version,
  load: (page, how) => loadNomoat(page, how, ""),
  ask: (page, messages, maxTokens) =>
    page.evaluate(
      async ([given, max]) => {
        const start = performance.now();
        const stream = await window.engine.chat.completions.create({
          messages: given,
          stream: true,
          stream_options: { include_usage: true },
          temperature: 0,
          max_tokens: max,
        });
        let [firstMs, text, usage] = [0, "", null as import("nomoat").CompletionUsage | null];
        for await (const chunk of stream) {
          const piece = chunk.choices[0]?.delta.content ?? "";
          if (piece && !text) firstMs = performance.now() - start;
          text += piece;
          usage = chunk.usage ?? usage;
        }
        if (!usage) throw new Error("there was no usage");
        return {
          firstMs,
          endMs: performance.now() - start,
          promptTokens: usage.prompt_tokens,
          computedTokens: usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens,
          tokens: usage.completion_tokens,
          text,
        };
      },
      [messages, maxTokens] as const,
    ),
  wasmMemory: (page) => page.evaluate(async () => (await window.engine.memory()).wasmBytes),
};

const wllama: Contender = {
  name: "wllama",
  version: manifest.devDependencies["@wllama/wllama"],
  async load(page, { device, threads }) {
    const log: string[] = [];
    page.on("console", (message) => log.push(message.text()));
    const ran = await page.evaluate(
      async ([{ library, wasm, model }, context, layers, n]) => {
        const { Wllama: Class } = (await import(library)) as typeof import("@wllama/wllama");
        window.wllama = new Class({ default: wasm });
        window.wllama.setCompat(null);
        await window.wllama.loadModelFromUrl(new URL(model, location.href).href, {
          n_ctx: context,
          n_gpu_layers: layers,
          ...(n !== null && { n_threads: n }),
          useCache: false,
        });
        return { threads: window.wllama.getNumThreads(), shared: window.wllama.isMultithread() };
      },
      [
        { library: paths.wllama, wasm: paths.wllamaWasm, model: paths.model },
        CONTEXT,
        device === "webgpu" ? 999 : 0,
        threads ?? null,
      ] as const,
    );
    // llama.cpp logs which device holds its weights, but not if it is the CPU.
    const isOnGpu = device === "webgpu" && log.some((line) => /WebGPU model buffer size/i.test(line));
    return isOnGpu ? "WebGPU" : onCpu(ran.shared ? ran.threads : 1);
  },
  ask: (page, messages, maxTokens) =>
    page.evaluate(
      async ([given, max]) => {
        const start = performance.now();
        const stream = await window.wllama.createChatCompletion({
          messages: given,
          stream: true,
          temperature: 0,
          max_tokens: max,
          cache_prompt: false,
          timings_per_token: true,
        });
        let [firstMs, text, timings] = [0, "", null as WllamaChunk["timings"] | null];
        for await (const chunk of stream) {
          const piece = chunk.choices[0]?.delta.content ?? "";
          if (piece && !text) firstMs = performance.now() - start;
          text += piece;
          timings = chunk.timings ?? timings;
        }
        if (!timings) throw new Error("there were no timings");
        return {
          firstMs,
          endMs: performance.now() - start,
          promptTokens: timings.prompt_n,
          computedTokens: timings.prompt_n,
          tokens: timings.predicted_n,
          text,
        };
      },
      [messages, maxTokens] as const,
    ),
  async wasmMemory(page) {
    // The memory is a global variable of its workers, which share it. Idle ones do not answer.
    const sizes = page
      .workers()
      .map((worker) =>
        Promise.race([
          worker.evaluate(
            () => (self as { wasmMemory?: WebAssembly.Memory }).wasmMemory?.buffer.byteLength ?? 0,
          ),
          new Promise<number>((resolve) => setTimeout(resolve, 3000, 0)),
        ]),
      );
    return Math.max(0, ...(await Promise.all(sizes))) || null;
  },
};

const transformers: Contender = {
  name: "transformers.js",
  version: manifest.devDependencies["@huggingface/transformers"],
  async load(page, { device, threads }) {
    const ran = await page.evaluate(
      async ([{ library, ort, models }, wanted, n]) => {
        const {
          env,
          pipeline,
          TextStreamer: Streamer,
        } = (await import(library)) as typeof import("@huggingface/transformers");
        // It makes its own memory, which it shares with its threads.
        window.memories = [];
        const Plain = WebAssembly.Memory;
        WebAssembly.Memory = class extends Plain {
          constructor(descriptor: WebAssembly.MemoryDescriptor) {
            super(descriptor);
            window.memories.push(this);
          }
        };
        env.allowRemoteModels = false;
        env.allowLocalModels = true;
        env.localModelPath = models;
        const { wasm } = env.backends.onnx;
        if (!wasm) throw new Error("transformers.js has no wasm backend");
        wasm.wasmPaths = { mjs: `${ort}.mjs`, wasm: `${ort}.wasm` };
        if (n !== null) wasm.numThreads = n;
        window.pipe = await pipeline("text-generation", "model", { device: wanted, dtype: "q4" });
        window.TextStreamer = Streamer;
        return crossOriginIsolated ? (wasm.numThreads ?? 1) : 1;
      },
      [
        { library: paths.transformers, ort: paths.ort, models: paths.onnx },
        device === "webgpu" ? "webgpu" : "wasm",
        threads ?? null,
      ] as const,
    );
    // Loading fails on a device that it cannot use.
    return device === "webgpu" ? "WebGPU" : onCpu(ran);
  },
  ask: (page, messages, maxTokens) =>
    page.evaluate(
      async ([given, max]) => {
        const { tokenizer } = window.pipe;
        const start = performance.now();
        const prompt = tokenizer.apply_chat_template(given, { add_generation_prompt: true, tokenize: false });
        const inputs = tokenizer(prompt as string, { add_special_tokens: false }) as {
          input_ids: { dims: number[] };
        };
        let [firstMs, tokens, text] = [0, 0, ""];
        const streamer = new window.TextStreamer(tokenizer, {
          skip_prompt: true,
          skip_special_tokens: true,
          callback_function: (piece) => (text += piece),
          token_callback_function: () => {
            if (tokens === 0) firstMs = performance.now() - start;
            tokens += 1;
          },
        });
        await window.pipe.model.generate({
          ...inputs,
          max_new_tokens: max,
          do_sample: false,
          streamer,
        });
        const promptTokens = inputs.input_ids.dims[1] ?? 0;
        return {
          firstMs,
          endMs: performance.now() - start,
          promptTokens,
          computedTokens: promptTokens,
          tokens,
          text,
        };
      },
      [messages, maxTokens] as const,
    ),
  wasmMemory: (page) =>
    page.evaluate(() => window.memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0)),
};

/** Nomoat with 8-bit activations. It is a contender of its own because it is less accurate. */
const int8: Contender = {
  ...nomoat,
  name: "Nomoat, int8",
  load: async (page, how) => `${await loadNomoat(page, how, "int8")}, int8`,
};

/** Another build of Nomoat, to compare changes with. */
const baseline: Contender = {
  ...nomoat,
  name: "baseline",
  version: "(another build of Nomoat)",
  load: (page, how) => loadNomoat(page, how, "", paths.baseline),
};

/** All contenders. `model` is the path of the GGUF file. */
export function contendersFor(model: string): Contender[] {
  return [nomoat, baseline, int8, wllama, transformers, nativeLlama(model, CONTEXT)];
}

/** Whether a contender runs on a device. */
export function takesPart({ name, native }: Contender, { device }: How, peers: string[]): boolean {
  if (native && device !== "cpu") return false;
  return [nomoat.name, int8.name].includes(name) || peers.includes(name);
}
