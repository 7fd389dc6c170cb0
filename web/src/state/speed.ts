/**
 * How fast models answer on this device: from the speed of answers that have been written here, and before
 * the first one from what the package has measured.
 */
import { signal } from "@preact/signals";
import { expectedSpeed as measuredSpeed, type DeviceSpeed } from "nomoat";
import { isRecord, persisted } from "../lib/persisted";

type Backend = "webgpu" | "cpu";

/** An answer of fewer tokens says too little about the speed. */
const LEAST_TOKENS = 16;

/** Bytes of weights that each device reads in a second, as last measured. */
const bandwidth = persisted<Partial<Record<Backend, number>>>("nomoat-bandwidth", (stored) => {
  if (!isRecord(stored)) return {};
  const known = (value: unknown) => (typeof value === "number" && value > 0 && value < 1e14 ? value : null);
  const [webgpu, cpu] = [known(stored.webgpu), known(stored.cpu)];
  return { ...(webgpu !== null && { webgpu }), ...(cpu !== null && { cpu }) };
});

/** What the package has measured: see `measure.ts`. */
export const measured = signal<DeviceSpeed | null>(null);

/** Whether something is known of a device's speed. */
export function isSpeedKnown(backend: Backend): boolean {
  return bandwidth.value[backend] !== undefined || measured.value?.backend === backend;
}

/** Learns from an answer. `bytesPerToken` is what its model reads for each token. */
export function learnSpeed(
  backend: Backend,
  bytesPerToken: number,
  tokens: number,
  tokensPerSecond: number,
): void {
  if (tokens < LEAST_TOKENS || !(bytesPerToken * tokensPerSecond > 0)) return;
  bandwidth.value = { ...bandwidth.value, [backend]: bytesPerToken * tokensPerSecond };
}

/**
 * Tokens per second that a model can be expected to write here: reading its weights takes most of the time.
 * Null while nothing is known of this device.
 */
export function expectedSpeed(backend: Backend | null, bytesPerToken: number | null): number | null {
  if (backend === null || bytesPerToken === null || bytesPerToken <= 0) return null;
  const known = bandwidth.value[backend];
  if (known !== undefined) return known / bytesPerToken;
  return measured.value?.backend === backend ? measuredSpeed(measured.value, bytesPerToken) : null;
}
