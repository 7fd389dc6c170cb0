/** How fast models answer on this device, from the speed of answers that have been written here. */
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
 * Null while no answer has been written on this device.
 */
export function expectedSpeed(backend: Backend | null, bytesPerToken: number | null): number | null {
  const known = backend === null ? undefined : bandwidth.value[backend];
  return known === undefined || bytesPerToken === null || bytesPerToken <= 0 ? null : known / bytesPerToken;
}
