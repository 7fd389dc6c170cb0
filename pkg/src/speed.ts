/** How fast models can be expected to answer on a device, from a measurement that needs no model. */
import { chooseDeviceOn, cpuThreads, type DeviceChoice, type Features } from "./devices.js";
import { AbortedError } from "./errors.js";
import type { KeptTexts } from "./kept.js";
import { callOnce, type WorkerLike } from "./link.js";

/** What was measured of a device. */
export interface DeviceSpeed {
  backend: "webgpu" | "cpu";
  /** Bytes of weights that its kernels read in a second. */
  bytesPerSecond: number;
  /** What each token takes besides that. */
  secondsPerToken: number;
}

/** Options of `measureSpeed`. */
export interface MeasureOptions {
  /** Default `auto`, as `createEngine`. */
  device?: DeviceChoice;
  /** Stops the measurement. */
  signal?: AbortSignal;
}

/** The browser; tests replace it. */
export interface SpeedPlatform extends Features {
  spawn: () => WorkerLike;
  kept: KeptTexts;
  /** Runs one call at a time, in all tabs. */
  alone<T>(call: () => Promise<T>, signal: AbortSignal | undefined): Promise<T>;
}

type Backend = DeviceSpeed["backend"];

/**
 * Tokens of an answer in a second, of a model of which each token reads so many bytes; null where that is
 * unknown. Long contexts take more time.
 */
export function expectedSpeed(speed: DeviceSpeed | null, bytesPerToken: number): number | null {
  if (speed === null || !(bytesPerToken > 0)) return null;
  return 1 / (speed.secondsPerToken + bytesPerToken / speed.bytesPerSecond);
}

/** @internal `measureSpeed` in another browser. */
export async function measureSpeedWith(
  { device = "auto", signal }: MeasureOptions,
  platform: SpeedPlatform,
): Promise<DeviceSpeed> {
  if (signal?.aborted) throw new AbortedError();
  const { backend } = await chooseDeviceOn(device, platform);
  const name = await nameOf(backend, platform);
  const known = await kept(name, backend, platform);
  if (known) return known;
  try {
    return await platform.alone(async () => {
      // Another tab may have measured meanwhile.
      const now = await kept(name, backend, platform);
      if (now) return now;
      // The number of threads that is possible here, so that none more is asked for.
      const threads = cpuThreads(await platform.wasm());
      const speed = await callOnce(platform.spawn, signal, "measure", { device, threads, kernels: "" });
      // Where WebGPU fails, `auto` has measured the CPU.
      const of = speed.backend === backend ? name : await nameOf(speed.backend, platform);
      await platform.kept.put(of, JSON.stringify(speed));
      return speed;
    }, signal);
  } catch (error) {
    throw signal?.aborted ? new AbortedError() : error;
  }
}

/** What was measured of a device before, or null. */
export async function keptSpeed(
  backend: Backend,
  platform: Pick<SpeedPlatform, keyof Features | "kept">,
): Promise<DeviceSpeed | null> {
  return kept(await nameOf(backend, platform), backend, platform);
}

async function kept(
  name: string,
  backend: Backend,
  platform: Pick<SpeedPlatform, "kept">,
): Promise<DeviceSpeed | null> {
  const text = await platform.kept.get(name);
  try {
    const { bytesPerSecond, secondsPerToken } = Object(JSON.parse(text ?? "null")) as Record<string, unknown>;
    const areNumbers = typeof bytesPerSecond === "number" && typeof secondsPerToken === "number";
    if (!areNumbers || !(bytesPerSecond > 0 && secondsPerToken >= 0)) return null;
    return { backend, bytesPerSecond, secondsPerToken };
  } catch {
    return null;
  }
}

/** What the speed depends on. */
async function nameOf(backend: Backend, features: Features): Promise<string> {
  if (backend === "webgpu") return `webgpu ${(await features.adapter())?.name ?? ""}`;
  const wasm = await features.wasm();
  return `cpu ${cpuThreads(wasm)} ${wasm.relaxedSimd ? "relaxed" : "simd"}`;
}
