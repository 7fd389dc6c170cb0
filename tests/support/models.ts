/** Models made from SmolLM2 for the tests, in a folder of theirs. */
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as gguf from "./gguf.ts";
import { places, smol } from "./places.ts";

/** Layers of the small model. */
const SMALL_LAYERS = 2;
const SPLIT_COUNT = 3;

/**
 * SmolLM2 with its first layers only: nonsense, but the same nonsense every time, several times faster and of
 * a third of the size.
 */
export function small(folder: string, name = "Small"): string {
  const { entries, tensors } = gguf.readHeader(places.model);
  const kept = tensors.filter(({ name }) => {
    const layer = /^blk\.(\d+)\./.exec(name)?.[1];
    return layer === undefined || Number(layer) < SMALL_LAYERS;
  });
  const changed = gguf.withEntries(entries, [
    gguf.entry.u32("llama.block_count", SMALL_LAYERS),
    gguf.entry.string("general.name", name),
  ]);
  const path = join(folder, `${name.toLowerCase()}.gguf`);
  gguf.writeFile(path, changed, kept, (_, index) => gguf.copied(places.model, kept[index] as gguf.Placed));
  return path;
}

/** Cuts a model into files with a share of the tensors each. Returns their paths. */
export function split(path: string): string[] {
  const { entries, tensors } = gguf.readHeader(path);
  const numbers = Array.from({ length: SPLIT_COUNT }, (_, number) => number);
  return numbers.map((number) => {
    const own = tensors.slice(
      Math.floor((number * tensors.length) / SPLIT_COUNT),
      Math.floor(((number + 1) * tensors.length) / SPLIT_COUNT),
    );
    const place = [
      gguf.entry.u16("split.no", number),
      gguf.entry.u16("split.count", SPLIT_COUNT),
      gguf.entry.i32("split.tensors.count", tensors.length),
    ];
    const five = (value: number) => String(value).padStart(5, "0");
    const part = path.replace(".gguf", `-${five(number + 1)}-of-${five(SPLIT_COUNT)}.gguf`);
    // All metadata is in the first file, as llama.cpp's splitter has it.
    const metadata = number === 0 ? gguf.withEntries(entries, place) : place;
    gguf.writeFile(part, metadata, own, (_, index) => gguf.copied(path, own[index] as gguf.Placed));
    return part;
  });
}

/**
 * A llama-family file with SmolLM2's vocabulary and at least five times its size. Its weights are one block,
 * repeated.
 */
export function big(folder: string): string {
  const { entries } = gguf.readHeader(places.model);
  const [width, heads, kvHeads, hidden] = [1280, 20, 5, 5120];
  const kvWidth = (width / heads) * kvHeads;
  const layer = (number: number): gguf.Tensor[] => {
    const matrix = (name: string, columns: number, rows: number): gguf.Tensor => ({
      name: `blk.${number}.${name}.weight`,
      shape: [columns, rows],
      format: "Q4_1",
    });
    const norm = (name: string): gguf.Tensor => ({
      name: `blk.${number}.${name}.weight`,
      shape: [width],
      format: "F32",
    });
    return [
      norm("attn_norm"),
      matrix("attn_q", width, width),
      matrix("attn_k", width, kvWidth),
      matrix("attn_v", width, kvWidth),
      matrix("attn_output", width, width),
      norm("ffn_norm"),
      matrix("ffn_gate", width, hidden),
      matrix("ffn_up", width, hidden),
      matrix("ffn_down", hidden, width),
    ];
  };
  const tensors: gguf.Tensor[] = [
    { name: "token_embd.weight", shape: [width, 49152], format: "Q8_0" },
    { name: "output_norm.weight", shape: [width], format: "F32" },
  ];
  const size = () => tensors.reduce((sum, tensor) => sum + gguf.tensorBytes(tensor), 0);
  let layers = 0;
  while (size() < 5 * smol.file.size) tensors.push(...layer(layers++));
  const changed = gguf.withEntries(entries, [
    gguf.entry.u32("llama.block_count", layers),
    gguf.entry.u32("llama.embedding_length", width),
    gguf.entry.u32("llama.feed_forward_length", hidden),
    gguf.entry.u32("llama.attention.head_count", heads),
    gguf.entry.u32("llama.attention.head_count_kv", kvHeads),
    gguf.entry.u32("llama.rope.dimension_count", width / heads),
    gguf.entry.string("general.name", "Big"),
  ]);
  const path = join(folder, "big.gguf");
  gguf.writeFile(path, changed, tensors, (tensor) => repeated(tensor));
  return path;
}

/** One block, repeated: numbers around zero, of a size that keeps activations finite. */
const BLOCKS: Record<gguf.Format, Buffer> = {
  // 1.0
  F32: Buffer.from([0x00, 0x00, 0x80, 0x3f]),
  // Scale 2^-8, minimum -2^-5 (f16), then 4-bit numbers.
  Q4_1: Buffer.from([0x00, 0x1c, 0x00, 0xa8, ...Array.from({ length: 16 }, (_, i) => (i * 37 + 91) & 255)]),
  // Scale 2^-10 (f16), then signed bytes.
  Q8_0: Buffer.from([0x00, 0x14, ...Array.from({ length: 32 }, (_, i) => (i * 53 + 17) & 255)]),
};

function* repeated(tensor: gguf.Tensor): Iterable<Buffer> {
  const block = BLOCKS[tensor.format];
  const piece = Buffer.alloc(block.length * 16384, block);
  for (let left = gguf.tensorBytes(tensor); left > 0; left -= piece.length)
    yield piece.subarray(0, Math.min(left, piece.length));
}

/** A sound file of an architecture that nobody implements. */
export function unknownArchitecture(folder: string): string {
  const path = join(folder, "unknown.gguf");
  const entries = [gguf.entry.string("general.architecture", "moatnet")];
  const tensors: gguf.Tensor[] = [{ name: "token_embd.weight", shape: [32, 4], format: "F32" }];
  gguf.writeFile(path, entries, tensors, (tensor) => repeated(tensor));
  return path;
}

/** The first part of a file. */
export function truncated(path: string, folder: string, bytes: number): string {
  const cut = join(folder, `cut-${bytes}.gguf`);
  copyFileSync(path, cut);
  truncateSync(cut, bytes);
  return cut;
}

/** No GGUF at all. */
export function notGguf(folder: string): string {
  const path = join(folder, "page.gguf");
  writeFileSync(path, "<!doctype html><title>Sign in</title>".padEnd(4096));
  return path;
}

export function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
