/** Reads and writes little-endian GGUF v3 files, for models that tests need: cut, split, large, broken. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";

/** Block formats: the id in files, numbers per block, bytes per block. */
export const FORMATS = {
  F32: { id: 0, numbers: 1, bytes: 4 },
  Q4_1: { id: 3, numbers: 32, bytes: 20 },
  Q8_0: { id: 8, numbers: 32, bytes: 34 },
} as const;

export type Format = keyof typeof FORMATS;

/** A tensor's entry in the header. */
export interface Tensor {
  name: string;
  /** In GGUF's order: `ne[0]`, the fastest dimension, comes first. */
  shape: number[];
  format: Format;
}

/** A metadata entry; `value` holds the bytes of its type and value in a file. */
export interface Entry {
  key: string;
  value: Buffer;
}

/** A tensor with its place in the file. */
export interface Placed extends Tensor {
  /** Where its data begins, from the start of the file. */
  offset: number;
}

/** A file's header. */
export interface Header {
  entries: Entry[];
  tensors: Placed[];
}

const ALIGNMENT = 32;
const VALUE_SIZES: Record<number, number> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const [U16, U32, I32, F32, STRING, ARRAY] = [2, 4, 5, 6, 8, 9];
/** More bytes than the header of any model that tests read. */
const HEADER_LIMIT = 8 << 20;

export function tensorBytes({ shape, format }: Tensor): number {
  const { numbers, bytes } = FORMATS[format];
  return (shape.reduce((product, n) => product * n, 1) / numbers) * bytes;
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}

/** Reads the header of a valid file. */
export function readHeader(path: string): Header {
  const bytes = Buffer.alloc(HEADER_LIMIT);
  const file = openSync(path, "r");
  readSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);

  let at = 8;
  const u32 = () => bytes.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = () => {
    const length = u64();
    return bytes.toString("utf8", at, (at += length));
  };
  const skip = (type: number) => {
    if (type === STRING) text();
    else if (type === ARRAY) {
      const inner = u32();
      for (let left = u64(); left > 0; left--) skip(inner);
    } else at += VALUE_SIZES[type] ?? NaN;
  };
  const [tensorCount, entryCount] = [u64(), u64()];
  const entries = Array.from({ length: entryCount }, (): Entry => {
    const key = text();
    const start = at;
    skip(u32());
    return { key, value: bytes.subarray(start, at) };
  });
  const tensors = Array.from({ length: tensorCount }, (): Placed => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64);
    const id = u32();
    const format = (Object.keys(FORMATS) as Format[]).find((candidate) => FORMATS[candidate].id === id);
    if (!format) throw new Error(`${name} has the type ${id}, which is not in FORMATS`);
    return { name, shape, format, offset: u64() };
  });
  const data = aligned(at);
  return { entries, tensors: tensors.map((tensor) => ({ ...tensor, offset: data + tensor.offset })) };
}

/** Writes a file; `data` returns the bytes of each tensor, in pieces. */
export function writeFile(
  path: string,
  entries: Entry[],
  tensors: Tensor[],
  data: (tensor: Tensor, index: number) => Iterable<Buffer>,
): void {
  const parts: Buffer[] = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(entries.length)];
  for (const { key, value } of entries) parts.push(string(key), value);
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape, format } = tensor;
    parts.push(string(name), u32(shape.length), ...shape.map(u64), u32(FORMATS[format].id), u64(offset));
    offset = aligned(offset + tensorBytes(tensor));
  }
  const file = openSync(path, "w");
  let written = 0;
  const write = (bytes: Buffer) => (written += writeSync(file, bytes));
  const pad = () => write(Buffer.alloc(aligned(written) - written));
  write(Buffer.concat(parts));
  pad();
  for (const [index, tensor] of tensors.entries()) {
    const end = written + tensorBytes(tensor);
    for (const piece of data(tensor, index)) write(piece);
    if (written !== end) throw new Error(`${tensor.name} got ${written - end} bytes too many`);
    pad();
  }
  closeSync(file);
}

/** The bytes of a tensor in a file, in pieces. */
export function* copied(path: string, tensor: Placed): Iterable<Buffer> {
  const file = openSync(path, "r");
  try {
    const piece = Buffer.alloc(1 << 20);
    for (let at = 0, size = tensorBytes(tensor); at < size;) {
      const length = readSync(file, piece, 0, Math.min(piece.length, size - at), tensor.offset + at);
      yield piece.subarray(0, length);
      at += length;
    }
  } finally {
    closeSync(file);
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

/** Makes metadata entries, by type. */
export const entry = {
  u16: (key: string, value: number): Entry => {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value);
    return { key, value: Buffer.concat([u32(U16), bytes]) };
  },
  u32: (key: string, value: number): Entry => ({ key, value: Buffer.concat([u32(U32), u32(value)]) }),
  f32: (key: string, value: number): Entry => {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return { key, value: Buffer.concat([u32(F32), bytes]) };
  },
  i32: (key: string, value: number): Entry => ({ key, value: Buffer.concat([u32(I32), u32(value)]) }),
  string: (key: string, value: string): Entry => ({
    key,
    value: Buffer.concat([u32(STRING), string(value)]),
  }),
};

/** `entries` with some replaced or added. */
export function withEntries(entries: Entry[], changes: Entry[]): Entry[] {
  const changed = new Set(changes.map(({ key }) => key));
  return [...entries.filter(({ key }) => !changed.has(key)), ...changes];
}
