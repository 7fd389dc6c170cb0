// What llama.cpp computes on the tiny models, through node-llama-cpp:
//
//     npm install --no-save --ignore-scripts --omit=optional --prefix tests/bench/llama.cpp
//     node tests/golden/tiny/golden.mjs [NAME]
//
// Writes a golden file beside each model that `make.py` has written; see ../README.md. All numbers are
// float32: the weights, for which it reads the models' copies in F32, the KV cache, the sums.
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getLlama, LlamaLogLevel } from "../../bench/llama.cpp/node_modules/node-llama-cpp/dist/index.js";

// A token for each character, and one for the beginning: 40.
const TEXT = "Pack my box with 50 dozen jugs of water";
const ANSWER = 24;
const LIKELIEST = 10;
// How far the likeliest token of the answer is ahead of the next at least.
const MARGIN = 0.1;

const folder = import.meta.dirname;
const f32Folder = join(folder, "../../../target/golden-f32");
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });

/** Natural-log probabilities of all tokens, likeliest first. */
function logprobs(logits) {
  const entries = [...logits].toSorted(([, a], [, b]) => b - a);
  const top = entries[0][1];
  const total = top + Math.log(entries.reduce((sum, [, logit]) => sum + Math.exp(logit - top), 0));
  return entries.map(([id, logit]) => [id, Math.round((logit - total) * 1e6) / 1e6]);
}

const likeliest = (all) => {
  const top = all.slice(0, LIKELIEST);
  return { ids: top.map(([id]) => id), logprobs: top.map(([, logprob]) => logprob) };
};

async function golden(path) {
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: model.trainContextSize,
    batchSize: 128,
    threads: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
  });
  const sequence = context.getSequence();
  const evaluate = async (ids) => {
    const results = await sequence.controlledEvaluate(
      ids.map((id) => [id, { generateNext: { logits: true, options: { temperature: 0 } } }]),
    );
    return results.map((result) => logprobs(result.next.logits));
  };

  const prompt = [model.tokens.bos, ...model.tokenize(TEXT, false, "trimLeadingSpace")];
  const read = await evaluate(prompt);
  const steps = [read.pop()];
  const answer = [];
  for (;;) {
    answer.push(steps.at(-1)[0][0]);
    if (answer.length === ANSWER || model.isEogToken(answer.at(-1))) break;
    steps.push(...(await evaluate([answer.at(-1)])));
  }
  const of = (all, id) => all.find(([token]) => token === id)[1];
  const entry = {
    name: "tiny",
    text: TEXT,
    prompt_ids: prompt,
    greedy_ids: answer,
    greedy_text: model.detokenize(answer, true),
    steps: steps.map(likeliest),
    prompt_steps: read.map(likeliest),
    prompt_logprobs: read.map((all, i) => of(all, prompt[i + 1])),
  };
  const margin = Math.min(...steps.map((all) => all[0][1] - all[1][1]));
  if (margin < MARGIN) throw new Error(`${path}: two tokens of the answer are ${margin} apart`);
  await model.dispose();
  return entry;
}

// llama.cpp has no GPT-J: see gptj.py.
const wanted = process.argv[2];
const isOurs = (name) =>
  name.endsWith(".gguf") && name !== "gptj.gguf" && (!wanted || name === `${wanted}.gguf`);
for (const file of readdirSync(folder).filter(isOurs)) {
  const lines = Object.entries(await golden(join(f32Folder, file))).map(([key, value]) => {
    const isList = Array.isArray(value) && typeof value[0] === "object";
    const text = isList
      ? `[\n${value.map((item) => JSON.stringify(item)).join(",\n")}\n]`
      : JSON.stringify(value);
    return `${JSON.stringify(key)}: ${text}`;
  });
  writeFileSync(join(folder, file.replace(/gguf$/, "json")), `[{\n${lines.join(",\n")}\n}]\n`);
}
process.exit(0);
