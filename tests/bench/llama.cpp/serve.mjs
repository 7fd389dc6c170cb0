/**
 * llama.cpp natively, for the bench in the browser to compare with: `node serve.mjs MODEL CONTEXT THREADS`.
 * Answers each line of JSON, `{messages, maxTokens}`, with one.
 */
import { createInterface } from "node:readline";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [path, contextSize, threads] = process.argv.slice(2);
const llama = await getLlama({
  gpu: false,
  build: "never",
  maxThreads: Number(threads),
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: path });
const context = await model.createContext({
  contextSize: Number(contextSize),
  threads: Number(threads),
  batchSize: Number(contextSize),
});
const sequence = context.getSequence();
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface(process.stdin)) {
  const { messages, maxTokens } = JSON.parse(line);
  await sequence.clearHistory();
  const start = performance.now();
  // ChatML, which the model's template writes.
  const text = messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("");
  const prompt = model.tokenize(`${text}<|im_start|>assistant\n`, true);
  const ids = [];
  let firstMs = 0;
  for await (const id of sequence.evaluate(prompt, { temperature: 0 })) {
    if (ids.length === 0) firstMs = performance.now() - start;
    ids.push(id);
    if (ids.length >= maxTokens || model.isEogToken(id)) break;
  }
  const answer = {
    firstMs,
    endMs: performance.now() - start,
    promptTokens: prompt.length,
    computedTokens: prompt.length,
    tokens: ids.length,
    text: model.detokenize(ids),
  };
  console.log(JSON.stringify(answer));
}
