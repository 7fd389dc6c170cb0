// What llama.cpp makes of `texts.json` with the vocabularies that `make.py` has written, through
// node-llama-cpp:
//
//     npm ci --ignore-scripts --prefix tests/bench/llama.cpp
//     node tests/vocab/llama.cpp/golden.mjs
//
// Writes `golden.json.gz`: for each vocabulary the ids of each text. Byte-level BPE is tried with each
// pre-tokenizer; those with equal results share an entry.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { getLlama, LlamaLogLevel } from "../../bench/llama.cpp/node_modules/node-llama-cpp/dist/index.js";

const folder = import.meta.dirname;
const MODELS = ["t5", "rwkv"];
const texts = JSON.parse(readFileSync(join(folder, "texts.json"), "utf8"));
const names = JSON.parse(readFileSync(join(folder, "names.json"), "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const scratch = mkdtempSync(join(tmpdir(), "vocab-"));

async function tokenize(bytes) {
  const path = join(scratch, "vocab.gguf");
  writeFileSync(path, bytes);
  const model = await llama.loadModel({ modelPath: path, vocabOnly: true, gpuLayers: 0 });
  const ids = texts.map((text) => (text === "" ? [] : Array.from(model.tokenize(text, false))));
  await model.dispose();
  return ids;
}

/** The file with another string as `tokenizer.ggml.pre`. */
function withPre(bytes, pre) {
  const key = Buffer.from("tokenizer.ggml.pre");
  const at = bytes.indexOf(key) + key.length + 4;
  const length = Number(bytes.readBigUInt64LE(at));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(Buffer.byteLength(pre)));
  return Buffer.concat([bytes.subarray(0, at), size, Buffer.from(pre), bytes.subarray(at + 8 + length)]);
}

const read = (name) => gunzipSync(readFileSync(join(folder, `${name}.gguf.gz`)));
const golden = [];
for (const name of MODELS) golden.push({ vocabulary: name, pre: [], ids: await tokenize(read(name)) });
for (const pre of names) {
  let ids;
  try {
    ids = await tokenize(withPre(read("bpe"), pre));
  } catch (error) {
    console.error(`${pre}: ${error.message}`);
    continue;
  }
  const equal = golden.find((entry) => entry.pre.length && JSON.stringify(entry.ids) === JSON.stringify(ids));
  if (equal) equal.pre.push(pre);
  else golden.push({ vocabulary: "bpe", pre: [pre], ids });
}
rmSync(scratch, { recursive: true });
writeFileSync(join(folder, "golden.json.gz"), gzipSync(JSON.stringify(golden), { level: 9 }));
console.log(golden.map((entry) => [entry.vocabulary, ...entry.pre].join(" ")).join("\n"));
