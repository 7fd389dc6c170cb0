/** Checkpoints of trainings: safetensors files whose metadata has the settings. */
import { InvalidRequestError } from "./errors.js";

/** Bytes of the header's length, and the largest header that is read. */
const LENGTH_BYTES = 8;
const MOST_BYTES = 2 ** 26;

/** The same checkpoint for so many epochs in all; the weights are not read. */
export async function withEpochs(checkpoint: Blob, epochs: number): Promise<Blob> {
  const start = new DataView(await checkpoint.slice(0, LENGTH_BYTES).arrayBuffer());
  const length = start.byteLength === LENGTH_BYTES ? Number(start.getBigUint64(0, true)) : Infinity;
  const end = LENGTH_BYTES + length;
  if (length > MOST_BYTES || end > checkpoint.size) throw unusable();
  let header: { __metadata__: { state: string } };
  try {
    header = JSON.parse(await checkpoint.slice(LENGTH_BYTES, end).text()) as typeof header;
    const state = JSON.parse(header.__metadata__.state) as { settings: { epochs: number } };
    state.settings.epochs = epochs;
    header.__metadata__.state = JSON.stringify(state);
  } catch {
    throw unusable();
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  // What follows is aligned to eight bytes.
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  const size = new DataView(new ArrayBuffer(LENGTH_BYTES));
  size.setBigUint64(0, BigInt(padded.length), true);
  return new Blob([size, padded, checkpoint.slice(end)]);
}

function unusable(): InvalidRequestError {
  return new InvalidRequestError("The stored training cannot be used; begin again.", "resume");
}
