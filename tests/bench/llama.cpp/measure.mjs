// llama.cpp on a GGUF file, through node-llama-cpp: `node measure.mjs MODEL [vulkan|cpu]`. Prints JSON.
// Prefill of 512 tokens; then, after a prompt of one token, 128 more, greedily. The best of up to three
// rounds.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [model, device = "vulkan"] = process.argv.slice(2);
if (!model) throw new Error("which model?");

const PROMPT = 512;
const ANSWER = 128;
const ROUNDS = 3;
const PATIENCE_MS = 30_000;

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

// The first round warms up, unless it takes so long that it is the only one.
const start = performance.now();
let best = [Infinity, Infinity];
for (let round = 0; round <= ROUNDS; round++) {
  const times = [await prefill(), await decode()];
  best = round === 1 ? times : best.map((time, i) => Math.min(time, times[i]));
  if (performance.now() - start > PATIENCE_MS) break;
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
