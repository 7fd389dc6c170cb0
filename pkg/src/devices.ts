/** Which device runs a model, and which build of the runtime it takes. */
import type { Adapter } from "./adapter.js";
import { InternalError, NoSimdError, NoWebGpuError } from "./errors.js";
import type { WasmFeatures } from "./features.js";
import type { KeptTexts } from "./kept.js";
import type { PageStore } from "./pages.js";
import type { InspectorClass, ParserClass, Runtime, RuntimeClass, RuntimeDeviceInfo } from "./runtime.js";

/** Where to compute: `auto` takes WebGPU on a hardware adapter, otherwise the CPU. */
export type DeviceChoice = "auto" | "webgpu" | "cpu";

/** Why a device was chosen: the caller asked for it, or what `auto` found. */
export type DeviceReason = "asked" | "adapter" | "no-adapter" | "software-adapter" | "webgpu-failed";

/** The device that a choice resolves to. */
export interface ChosenDevice {
  backend: "webgpu" | "cpu";
  reason: DeviceReason;
  /** The CPU would use more threads if this page were cross-origin isolated. */
  isolationHelps: boolean;
}

/** The builds of the runtime. Each is downloaded when it is first used. */
export type Build = "gpu" | "cpu" | "cpu-threads";

/** A build that has been loaded. */
export interface RuntimeModule {
  memory: WebAssembly.Memory;
  Runtime: RuntimeClass;
  Inspector: InspectorClass;
}

/** The browser's features; tests replace it. */
export interface Features {
  /** The WebGPU adapter, or null. */
  adapter(): Promise<Adapter | null>;
  /** What wasm may use. */
  wasm(): Promise<WasmFeatures>;
}

/** The browser; tests replace it. */
export interface Platform extends Features {
  /** Loads a build. `threads` is for `cpu-threads`. */
  load(build: Build, threads: number): Promise<RuntimeModule>;
  /** Loads the parser for constraints, a module of its own. */
  loadParser(): Promise<ParserClass>;
  /** The store for so many bytes of the prefix cache's pages; null where there is none. */
  openPages(maxBytes: number): Promise<PageStore | null>;
  /** Remembers the fastest kernels of each adapter. */
  kernels: KeptTexts;
  /** Shows a warning to the page's developer. */
  warn(message: string): void;
}

/** An open device. */
export interface OpenDevice {
  runtime: Runtime;
  memory: WebAssembly.Memory;
  backend: "webgpu" | "cpu";
  reason: DeviceReason;
  /** The reason as a sentence. */
  why: string;
}

/** The caller's options for the device. */
export interface DeviceOptions {
  device: DeviceChoice;
  /** On the CPU; null: `defaultThreads`. */
  threads: number | null;
  /**
   * The kernels to use. Empty: exact ones, and on a GPU the fastest, measured when an adapter is first used.
   */
  kernels: string;
}

const WHY: Record<DeviceReason, string> = {
  asked: "asked for",
  adapter: "this browser has a WebGPU adapter",
  "no-adapter": "this browser has no WebGPU adapter",
  "software-adapter": "this browser's only WebGPU adapter is software, which is slower",
  "webgpu-failed": "WebGPU failed",
};

/**
 * The number of threads for a number of logical cores, which is all that browsers report. A step waits for
 * the slowest thread, so with more than four cores only half are used: with hyper-threading these are the
 * physical cores, on hybrid chips roughly the fast ones. More than eight threads only wait for memory.
 */
export function defaultThreads(cores: number): number {
  return cores <= 4 ? cores : Math.min(Math.max(4, Math.floor(cores / 2)), 8);
}

/** Whether threads can share memory here, so that the CPU can use several. */
function canShareMemory({ relaxedSimd, threads, isolated }: WasmFeatures): boolean {
  return relaxedSimd && threads && isolated;
}

/** The threads that the CPU uses here by default. */
export function cpuThreads(wasm: WasmFeatures): number {
  return canShareMemory(wasm) ? defaultThreads(wasm.cores) : 1;
}

/** Resolves a choice. Throws NoWebGpuError or NoSimdError if the browser lacks what it needs. */
export async function chooseDeviceOn(choice: DeviceChoice, features: Features): Promise<ChosenDevice> {
  const cpu = async (reason: DeviceReason): Promise<ChosenDevice> => {
    const { relaxedSimd, isolated, cores } = await wasmWithSimd(features);
    // Without isolation a browser does not reveal whether it has threads. Those with relaxed SIMD do have
    // them.
    const isolationHelps = relaxedSimd && !isolated && defaultThreads(cores) > 1;
    return { backend: "cpu", reason, isolationHelps };
  };
  if (choice === "cpu") return cpu("asked");
  const adapter = await features.adapter();
  if (choice === "webgpu") {
    if (!adapter) throw new NoWebGpuError("This browser has no WebGPU adapter.");
    return { backend: "webgpu", reason: "asked", isolationHelps: false };
  }
  if (!adapter) return cpu("no-adapter");
  if (adapter.isFallback) return cpu("software-adapter");
  return { backend: "webgpu", reason: "adapter", isolationHelps: false };
}

/** The wasm features; throws without SIMD. */
async function wasmWithSimd(features: Features): Promise<WasmFeatures> {
  const wasm = await features.wasm();
  if (!wasm.simd) throw new NoSimdError("The CPU needs WebAssembly SIMD, which this browser lacks.");
  return wasm;
}

/** Opens the requested device. `auto` falls back to the CPU if WebGPU fails. */
export async function openDevice(options: DeviceOptions, platform: Platform): Promise<OpenDevice> {
  const { device, kernels } = options;
  const { backend, reason } = await chooseDeviceOn(device, platform);
  if (backend === "cpu") return openCpu(platform, options, reason, WHY[reason]);
  try {
    return await openGpu(platform, kernels, reason);
  } catch (error) {
    if (device === "webgpu") throw error;
    return openCpu(platform, options, "webgpu-failed", `WebGPU failed: ${(error as Error).message}`);
  }
}

/** The class that reads headers, from the build for one thread of the device. No device is opened. */
export async function loadInspector(platform: Platform, backend: "webgpu" | "cpu"): Promise<InspectorClass> {
  return (await load(platform, backend === "webgpu" ? "gpu" : "cpu", 1)).Inspector;
}

async function openGpu(platform: Platform, kernels: string, reason: DeviceReason): Promise<OpenDevice> {
  const { memory, Runtime } = await load(platform, "gpu", 1);
  const adapter = await platform.adapter();
  const open = (words: string, measure: boolean) =>
    Runtime.open(
      JSON.stringify({
        device: "webgpu",
        adapter_name: adapter?.name ?? "",
        subgroup_size: adapter?.subgroupSize ?? 0,
        packed_dot: adapter?.packedDot ?? false,
        kernels: words,
        measure,
      }),
    );
  const found = { memory, backend: "webgpu", reason, why: WHY[reason] } as const;
  // Named kernels are used as they are, and a software adapter gains nothing from measuring.
  if (kernels !== "" || !adapter || adapter.isFallback)
    return { runtime: await open(kernels, false), ...found };
  const kept = await platform.kernels.get(adapter.name);
  if (kept !== null) {
    try {
      return { runtime: await open(kept, false), ...found };
    } catch {
      // The kept kernels no longer run, after a driver or browser update for example.
    }
  }
  const runtime = await open("", true);
  const info = JSON.parse(runtime.device_info()) as RuntimeDeviceInfo;
  if ("kernels" in info) await platform.kernels.put(adapter.name, info.kernels);
  return { runtime, ...found };
}

async function openCpu(
  platform: Platform,
  { threads: wanted, kernels }: DeviceOptions,
  reason: DeviceReason,
  why: string,
): Promise<OpenDevice> {
  const wasm = await wasmWithSimd(platform);
  const count = wanted ?? defaultThreads(wasm.cores);
  if (count > 1 && !wasm.isolated)
    platform.warn(
      "nomoat: this page is not cross-origin isolated, so the model runs on one thread of the CPU. " +
        "Serve the page with `Cross-Origin-Opener-Policy: same-origin` and " +
        "`Cross-Origin-Embedder-Policy: require-corp` to use more.",
    );
  const { memory, Runtime } = await load(platform, canShareMemory(wasm) ? "cpu-threads" : "cpu", count);
  const runtime = await Runtime.open(JSON.stringify({ device: "cpu", kernels }));
  return { runtime, memory, backend: "cpu", reason, why };
}

/** The parser for constraints. */
export function loadParser(platform: Platform): Promise<ParserClass> {
  return orExplain("parser for constraints", () => platform.loadParser());
}

function load(platform: Platform, build: Build, threads: number): Promise<RuntimeModule> {
  return orExplain("runtime", () => platform.load(build, threads));
}

async function orExplain<T>(what: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw new InternalError(
      `The wasm of the ${what} could not be loaded: ${String(error)}. It must be next to the worker ` +
        "script, and a Content-Security-Policy must allow 'wasm-unsafe-eval'.",
    );
  }
}
