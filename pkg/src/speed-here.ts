/** `measureSpeed` in this browser. */
import { adapter } from "./adapter.js";
import { wasmFeatures } from "./features.js";
import { keptSpeeds } from "./kept.js";
import { spawnWorker } from "./link.js";
import {
  keptSpeed,
  measureSpeedWith,
  type DeviceSpeed,
  type MeasureOptions,
  type SpeedPlatform,
} from "./speed.js";

let last: Promise<unknown> = Promise.resolve();

/** @internal */
export const speedPlatform: SpeedPlatform = {
  adapter,
  wasm: wasmFeatures,
  spawn: spawnWorker,
  kept: keptSpeeds,
  async alone(call, signal) {
    const { locks } = navigator;
    if (locks) return locks.request("nomoat-measure", { ...(signal && { signal }) }, call);
    // Without https there are no locks: one at a time in this page.
    const result = last.then(call);
    last = result.catch(() => undefined);
    return result;
  },
};

/**
 * How fast this device reads weights: measured once, in a worker and in about half a second, with a matrix of
 * zeros, and then kept in the browser's storage. Do it while no model loads or answers, which would slow both
 * down; `signal` stops it. Throws as `createEngine` does for a device that is not there.
 */
export function measureSpeed(options: MeasureOptions = {}): Promise<DeviceSpeed> {
  return measureSpeedWith(options, speedPlatform);
}

/** @internal What was measured before, or null. */
export function speedHere(backend: DeviceSpeed["backend"]): Promise<DeviceSpeed | null> {
  return keptSpeed(backend, speedPlatform);
}
