/** Which device runs a model, and which build of the runtime it takes. */
import type { Adapter } from "./adapter.js";
import { InternalError, NoWebGpuError } from "./errors.js";
import type { Runtime, RuntimeClass } from "./runtime.js";

/** Where to compute: `auto` takes WebGPU on a real adapter, else the CPU. */
export type DeviceChoice = "auto" | "webgpu" | "cpu";

/** The builds of the runtime; a page downloads those that it uses. */
export type Build = "gpu" | "cpu" | "cpu-threads";

/** A build that has been loaded. */
export interface RuntimeModule {
  memory: WebAssembly.Memory;
  Runtime: RuntimeClass;
}

/** What the browser is and can; tests replace it. */
export interface Platform {
  /** The WebGPU adapter, or null. */
  adapter(): Promise<Adapter | null>;
  /** What wasm may use: `isolated` pages (COOP and COEP) may share memory between threads. */
  wasm(): Promise<{
    simd: boolean;
    relaxedSimd: boolean;
    threads: boolean;
    isolated: boolean;
    cores: number;
  }>;
  /** Loads a build; of `cpu-threads`, with so many threads. */
  load(build: Build, threads: number): Promise<RuntimeModule>;
  /** Tells the page's author something. */
  warn(message: string): void;
}

/** An open device. */
export interface OpenDevice {
  runtime: Runtime;
  memory: WebAssembly.Memory;
  /** Why this device, for people. */
  why: string;
}

/** More threads than this wait for memory. */
const MAX_THREADS = 8;

/** What the caller wants of a device. */
export interface DeviceOptions {
  device: DeviceChoice;
  /** On the CPU; null: one a core. */
  threads: number | null;
  /** Which of the equivalent GPU kernels run; empty: the usual ones. */
  kernels: string;
}

/** Opens the device that is asked for or, if that is `auto`, the better one. */
export async function openDevice(
  { device: choice, threads, kernels }: DeviceOptions,
  platform: Platform,
): Promise<OpenDevice> {
  if (choice === "webgpu") return openGpu(platform, kernels, "asked for");
  if (choice === "cpu") return openCpu(platform, threads, "asked for");
  const adapter = await platform.adapter();
  if (!adapter) return openCpu(platform, threads, "this browser offers no WebGPU adapter");
  if (adapter.isFallback)
    return openCpu(platform, threads, "this browser's only WebGPU adapter is software, which is slower");
  try {
    return await openGpu(platform, kernels, "this browser has a WebGPU adapter");
  } catch (error) {
    return openCpu(platform, threads, `WebGPU failed: ${(error as Error).message}`);
  }
}

async function openGpu(platform: Platform, kernels: string, why: string): Promise<OpenDevice> {
  const { memory, Runtime } = await load(platform, "gpu", 1);
  const adapter = await platform.adapter();
  const options = {
    device: "webgpu",
    adapter_name: adapter?.name ?? "",
    subgroup_size: adapter?.subgroupSize ?? 0,
    packed_dot: adapter?.packedDot ?? false,
    kernels,
  };
  return { runtime: await Runtime.open(JSON.stringify(options)), memory, why };
}

async function openCpu(platform: Platform, wanted: number | null, why: string): Promise<OpenDevice> {
  const { simd, relaxedSimd, threads, isolated, cores } = await platform.wasm();
  if (!simd)
    throw new NoWebGpuError(`The model needs WebGPU or WebAssembly SIMD; this browser has neither (${why}).`);
  const count = wanted ?? Math.min(cores, MAX_THREADS);
  const canShare = relaxedSimd && threads && isolated;
  if (count > 1 && !isolated)
    platform.warn(
      "nomoat: this page is not cross-origin isolated, so the model runs on one thread of the CPU. Serve the page with " +
        "`Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp` to use more.",
    );
  const { memory, Runtime } = await load(platform, canShare ? "cpu-threads" : "cpu", count);
  const runtime = await Runtime.open(JSON.stringify({ device: "cpu" }));
  return { runtime, memory, why };
}

async function load(platform: Platform, build: Build, threads: number): Promise<RuntimeModule> {
  try {
    return await platform.load(build, threads);
  } catch (error) {
    throw new InternalError(
      `The runtime's wasm could not be loaded: ${String(error)}. It must lie beside the worker script, and a ` +
        "Content-Security-Policy must allow 'wasm-unsafe-eval'.",
    );
  }
}
