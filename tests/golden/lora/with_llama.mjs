// Log-probabilities by llama.cpp with an adapter that Nomoat has exported, compared with PEFT's:
//
//     npm install --no-save --ignore-scripts --omit=optional --prefix tests/bench/llama.cpp
//     node tests/golden/lora/with_llama.mjs MODEL.gguf ADAPTER.gguf LOGPROBS.json
//
// with_peft.py writes LOGPROBS.json. Prints the mean absolute difference at each strength. llama.cpp rounds
// activations to 8 bits where weights are quantised, so the difference without the adapter is not 0 either.
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "../../bench/llama.cpp/node_modules/node-llama-cpp/dist/index.js";

const [modelPath, filePath, golden] = process.argv.slice(2);
const entries = JSON.parse(readFileSync(golden, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });

function logprob(logits, id) {
  const all = [...logits];
  const top = all.reduce((most, [, logit]) => Math.max(most, logit), -Infinity);
  const total = top + Math.log(all.reduce((sum, [, logit]) => sum + Math.exp(logit - top), 0));
  return all.find(([token]) => token === id)[1] - total;
}

async function difference(scale) {
  let [sum, count] = [0, 0];
  for (const entry of entries) {
    const context = await model.createContext({
      contextSize: 512,
      batchSize: 128,
      flashAttention: false,
      experimentalKvCacheKeyType: "F32",
      experimentalKvCacheValueType: "F32",
      ...(scale > 0 && { lora: { adapters: [{ filePath, scale }] } }),
    });
    const asked = { generateNext: { logits: true, options: { temperature: 0 } } };
    const results = await context.getSequence().controlledEvaluate(entry.ids.map((id) => [id, asked]));
    entry[`logprobs_scale_${scale.toFixed(1)}`].forEach((expected, i) => {
      sum += Math.abs(logprob(results[i].next.logits, entry.ids[i + 1]) - expected);
      count += 1;
    });
    await context.dispose();
  }
  return sum / count;
}

console.log(JSON.stringify({ "1.0": await difference(1), "0.0": await difference(0) }));
process.exit(0);
