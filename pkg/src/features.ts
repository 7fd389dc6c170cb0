/** What this browser has to compute with. */
import { adapter } from "./adapter.js";
import { chooseDeviceOn, type ChosenDevice, type DeviceChoice } from "./devices.js";
import { relaxedSimd, simd, threads } from "./vendor/wasm-feature-detect.js";

/** What WebAssembly can, as far as the CPU builds ask. */
export interface WasmFeatures {
  simd: boolean;
  relaxedSimd: boolean;
  threads: boolean;
  /** The page has COOP and COEP, so that its threads may share memory. */
  isolated: boolean;
  /** Logical ones. */
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
 * The device that `createEngine` would take, found out without a download. Opening it may still fail; `auto`
 * takes the CPU then. Throws NoWebGpuError or NoSimdError where there is none.
 */
export function chooseDevice(device: DeviceChoice = "auto"): Promise<ChosenDevice> {
  return chooseDeviceOn(device, { adapter, wasm: wasmFeatures });
}
