// llama.cpp on a GGUF file, through node-llama-cpp: `node measure.mjs MODEL [vulkan|cpu]`. Prints JSON.
// Prefill of 512 tokens; then, after a prompt of one token, 128 more, greedily. The best of three rounds.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [model, device = "vulkan"] = process.argv.slice(2);
if (!model) throw new Error("which model?");

const PROMPT = 512;
const ANSWER = 128;
const ROUNDS = 3;

const llama = await getLlama({
  gpu: device === "cpu" ? false : device,
  build: "never",
  logLevel: LlamaLogLevel.error,
});
const loaded = await llama.loadModel({ modelPath: model, gpuLayers: llama.gpu ? "max" : 0 });
const context = await loaded.createContext({
  contextSize: PROMPT + ANSWER + 1,
  batchSize: PROMPT,
  flashAttention: true,
  // Its own choice may be more than there are cores, and they wait for each other by spinning.
  threads: availableParallelism(),
});
const sequence = context.getSequence();
const prompt = Array.from({ length: PROMPT }, (_, i) => 300 + (i % 50));

async function seconds(run) {
  await sequence.clearHistory();
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

const prefill = () => seconds(() => sequence.evaluateWithoutGeneratingNewTokens(prompt));

const decode = () =>
  seconds(async () => {
    let left = ANSWER;
    for await (const _ of sequence.evaluate(prompt.slice(0, 1), { temperature: 0, yieldEogToken: true })) {
      if (--left === 0) return;
    }
    throw new Error(`the answer ended ${left} tokens early`);
  });

// The first of each warms up.
await prefill();
await decode();
let best = [Infinity, Infinity];
for (let i = 0; i < ROUNDS; i++) {
  best = [Math.min(best[0], await prefill()), Math.min(best[1], await decode())];
}
const own = new URL("./node_modules/node-llama-cpp/package.json", import.meta.url);
console.log(
  JSON.stringify({
    version: JSON.parse(await readFile(own, "utf8")).version,
    backend: llama.gpu || "cpu",
    devices: llama.gpu ? await llama.getGpuDeviceNames() : [],
    prefill: { tokens: PROMPT, tokensPerSecond: PROMPT / best[0] },
    decode: { tokens: ANSWER, tokensPerSecond: ANSWER / best[1] },
  }),
);
process.exit(0);
