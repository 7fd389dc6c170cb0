/** Makes models for the tests from SmolLM2, in a given folder. */
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as gguf from "./gguf.ts";
import { places, smol } from "./places.ts";

/** Layers of the small model. */
const SMALL_LAYERS = 2;
const SPLIT_COUNT = 3;

/**
 * SmolLM2 with only its first layers. Its answers are nonsense, but always the same. It is several times
 * faster and a third of the size.
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

/** Splits a model into files, each with a part of the tensors. Returns their paths. */
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
    // Like llama.cpp's splitter, this puts all metadata into the first file.
    const metadata = number === 0 ? gguf.withEntries(entries, place) : place;
    gguf.writeFile(part, metadata, own, (_, index) => gguf.copied(path, own[index] as gguf.Placed));
    return part;
  });
}

/** A llama model with SmolLM2's vocabulary and five times its size. Its weights repeat one block. */
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

/** A llama model of one small layer with a vocabulary of `tests/vocab`. */
export function ofVocabulary(folder: string, name: string): string {
  const path = join(folder, `vocabulary-${name}.gguf`);
  writeFileSync(path, gunzipSync(readFileSync(join(places.vocabularies, `ggml-vocab-${name}.gguf.gz`))));
  const entries = gguf.readHeader(path).entries.filter(({ key }) => key.startsWith("tokenizer."));
  const tokens = entries.find(({ key }) => key === "tokenizer.ggml.tokens");
  if (!tokens) throw new Error(`${name} has no tokens`);
  // After the types of the value and its elements.
  const vocabulary = Number(tokens.value.readBigUInt64LE(8));
  const width = 32;
  const matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
  const layer = (part: string, shape: number[]): gguf.Tensor => ({
    name: `blk.0.${part}.weight`,
    shape,
    format: "F32",
  });
  const tensors: gguf.Tensor[] = [
    { name: "token_embd.weight", shape: [width, vocabulary], format: "Q8_0" },
    { name: "output_norm.weight", shape: [width], format: "F32" },
    ...["attn_norm", "ffn_norm"].map((part) => layer(part, [width])),
    ...matrices.map((part) => layer(part, [width, width])),
  ];
  const changed = gguf.withEntries(entries, [
    gguf.entry.string("general.architecture", "llama"),
    gguf.entry.u32("llama.context_length", 64),
    gguf.entry.u32("llama.block_count", 1),
    gguf.entry.u32("llama.embedding_length", width),
    gguf.entry.u32("llama.feed_forward_length", width),
    gguf.entry.u32("llama.attention.head_count", 1),
    gguf.entry.f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
  ]);
  gguf.writeFile(path, changed, tensors, (tensor) => repeated(tensor));
  return path;
}

/** The texts of a vocabulary of `tests/vocab`, and the ids that llama.cpp publishes for them. */
export function vectorsOf(name: string): { texts: string[]; ids: number[][] } {
  const read = (kind: string) =>
    readFileSync(join(places.vocabularies, `ggml-vocab-${name}.gguf.${kind}`), "utf8");
  const separator = "\n__ggml_vocab_test__\n";
  const texts = read("inp").split(separator);
  if (texts.at(-1) === "") texts.pop();
  const lines = read("out").split("\n").slice(0, -1);
  const ids = lines.map((line) => line.split(" ").filter(Boolean).map(Number));
  return { texts, ids };
}

/** The repeated blocks: numbers around zero, of a size that keeps activations finite. */
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

/** A valid file of an unknown architecture. */
export function unknownArchitecture(folder: string): string {
  const path = join(folder, "unknown.gguf");
  const entries = [gguf.entry.string("general.architecture", "moatnet")];
  const tensors: gguf.Tensor[] = [{ name: "token_embd.weight", shape: [32, 4], format: "F32" }];
  gguf.writeFile(path, entries, tensors, (tensor) => repeated(tensor));
  return path;
}

/** The first `bytes` bytes of a file. */
export function truncated(path: string, folder: string, bytes: number): string {
  const cut = join(folder, `cut-${bytes}.gguf`);
  copyFileSync(path, cut);
  truncateSync(cut, bytes);
  return cut;
}

/** A file that is not GGUF. */
export function notGguf(folder: string): string {
  const path = join(folder, "page.gguf");
  writeFileSync(path, "<!doctype html><title>Sign in</title>".padEnd(4096));
  return path;
}

export function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
