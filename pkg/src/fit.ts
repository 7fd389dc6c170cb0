/** Whether a model has room on a device. Browsers say little about memory, so this is an estimate. */

/** `tight`: it may not fit, for the browser does not say how much memory there is. */
export type Fit = "fits" | "tight" | "too-large";

const GIB = 2 ** 30;
/** One wasm memory has 4 GiB; the runtime itself and a step's values take some of it. */
const WASM_LIMIT = 3.6 * GIB;
/** What browsers without `navigator.deviceMemory` can be expected to have. */
const UNKNOWN_MEMORY = 4;
/** `navigator.deviceMemory` says no more than this in most browsers; there may be more. */
const CAPPED = 8;
/** Parts of the device's memory: what a model may take without harm, and what it cannot have. */
const COMFORTABLE = 0.5;
const MOST = 0.8;

/** The device's memory in GiB as the browser reports it, or null. */
export function deviceMemory(): number | null {
  const { deviceMemory: memory } = (globalThis.navigator ?? {}) as { deviceMemory?: number };
  return typeof memory === "number" && memory > 0 ? memory : null;
}

/** The device's memory in bytes, as far as it is known. */
export function memoryBytes(): number {
  return Math.round((deviceMemory() ?? UNKNOWN_MEMORY) * GIB);
}

/** Whether so many bytes of weights and context have room. `memory` is in GiB, or null. */
export function fitOf(bytes: number, backend: "webgpu" | "cpu", memory: number | null): Fit {
  if (backend === "cpu" && bytes > WASM_LIMIT) return "too-large";
  if (bytes <= COMFORTABLE * (memory ?? UNKNOWN_MEMORY) * GIB) return "fits";
  const isAllThereIs = memory !== null && memory < CAPPED;
  return isAllThereIs && bytes > MOST * memory * GIB ? "too-large" : "tight";
}

/** Bytes of weights and context that have room for certain. */
export function comfortableBytes(backend: "webgpu" | "cpu", memory: number | null): number {
  const bytes = COMFORTABLE * (memory ?? UNKNOWN_MEMORY) * GIB;
  return backend === "cpu" ? Math.min(bytes, WASM_LIMIT) : bytes;
}
