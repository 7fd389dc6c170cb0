/** The device as pages see it. */
import type { DeviceReason } from "./devices.js";
import type { Loaded } from "./protocol.js";

/** The device the model runs on. */
export interface DeviceInfo {
  name: string;
  /** `remote`: the model runs on a server, and what it is asked is sent there. */
  backend: "webgpu" | "cpu" | "remote";
  /** Why this device was chosen. */
  reason: DeviceReason;
  /** The reason as a sentence, in English. */
  why: string;
  /** The GPU's driver, if the browser reports it; on the CPU, its vector instructions. */
  driver: string;
  /** A software device, which is slow. */
  isFallback: boolean;
  f16: boolean;
  subgroups: boolean;
  /** The kernels in use: `exact` or `int8`, and on a GPU their variants. */
  kernels: string;
  /** Bytes; 0 on the CPU. */
  maxBufferSize: number;
  /** On the CPU; 0 on a GPU. */
  threads: number;
}

/** What the worker said of the device. */
export function deviceInfo({ device, reason, why }: Loaded): DeviceInfo {
  const { name } = device;
  if ("threads" in device) {
    const { simd: driver, threads } = device;
    const { kernels } = device;
    const none = { isFallback: false, f16: false, subgroups: false, kernels, maxBufferSize: 0 };
    return { name, backend: "cpu", reason, why, driver, ...none, threads };
  }
  return {
    name,
    backend: "webgpu",
    reason,
    why,
    driver: device.driver,
    isFallback: device.is_fallback,
    f16: device.f16,
    subgroups: device.subgroup_size > 0,
    kernels: device.kernels,
    maxBufferSize: device.max_buffer_size,
    threads: 0,
  };
}
