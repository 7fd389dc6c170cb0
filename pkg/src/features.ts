/** What this browser can compute with. */
import { adapter } from "./adapter.js";
import { chooseDeviceOn, type ChosenDevice, type DeviceChoice } from "./devices.js";
import { relaxedSimd, simd, threads } from "./vendor/wasm-feature-detect.js";

/** The WebAssembly features that the CPU builds use. */
export interface WasmFeatures {
  simd: boolean;
  relaxedSimd: boolean;
  threads: boolean;
  /** The page has COOP and COEP, so that its threads may share memory. */
  isolated: boolean;
  /** Logical cores. */
  cores: number;
}

/** Asks the browser. */
export async function wasmFeatures(): Promise<WasmFeatures> {
  return {
    simd: await simd(),
    relaxedSimd: await relaxedSimd(),
    threads: await threads(),
    isolated: globalThis.crossOriginIsolated ?? false,
    cores: navigator.hardwareConcurrency || 1,
  };
}

/**
 * The device that `createEngine` would choose, without downloading anything. Opening it may still fail;
 * `auto` then uses the CPU. Throws NoWebGpuError or NoSimdError if the browser lacks what the choice needs.
 */
export function chooseDevice(device: DeviceChoice = "auto"): Promise<ChosenDevice> {
  return chooseDeviceOn(device, { adapter, wasm: wasmFeatures });
}
