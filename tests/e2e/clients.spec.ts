/** Official clients of OpenAI's API, unmodified, through `engine.fetch`. */
import { textOf } from "../support/bare.ts";
import { serveBundle } from "../support/bundle.ts";
import { expect, test } from "../support/fixtures.ts";

const QUESTION = "What is the capital of France?";

test("openai, the AI SDK and LangChain ask the engine as they ask a server", async ({ bare, smallPage }) => {
  await serveBundle(bare, "clients");
  const text = await textOf(smallPage, QUESTION, 6);
  const model = await smallPage.evaluate(() => window.engine.model.name);
  const continuation = await smallPage.evaluate(async () => {
    const params = { prompt: "The quick brown fox", temperature: 0, max_tokens: 6 };
    return (await window.engine.completions.create(params)).choices[0]?.text;
  });
  const embeddings = await smallPage.evaluate(async (question) => {
    const { data } = await window.engine.embeddings.create({ input: [question, "The sea"] });
    return data.map(({ embedding }) => embedding as number[]);
  }, QUESTION);
  expect(embeddings.map((embedding) => embedding.length)).toEqual([576, 576]);
  const answers = await smallPage.evaluate(async (question) => {
    const address = "/clients.js";
    const { askAll } = (await import(address)) as typeof import("../support/clients.ts");
    return askAll(window.engine.fetch, question);
  }, QUESTION);
  const openai = {
    streamed: text,
    whole: text,
    helper: text,
    response: text,
    json: expect.stringMatching(/^\{\s*"city"\s*:\s*"(Paris|Rome)"\s*\}$/),
    continued: `The quick brown fox${continuation}`,
    // What base64 has of them: 32 bits.
    embeddings: embeddings.map((embedding) => Array.from(Float32Array.from(embedding))),
    responseStatus: "incomplete",
    responseStream: text,
    usage: [6, 6, 6],
    models: [model],
  };
  const bad = { class: "BadRequestError", status: 400 };
  const errors = {
    aborted: true,
    temperature: { ...bad, code: "decimal_above_max_value", param: "temperature" },
    previous: { ...bad, code: "unsupported_parameter", param: "previous_response_id" },
    files: { class: "NotFoundError", status: 404, code: "unknown_url", param: null },
    model: { class: "NotFoundError", status: 404, code: "model_not_found", param: "model" },
  };
  const sdk = { text, streamed: text, finishReason: "length", tokens: 6 };
  expect(answers).toEqual({
    openai,
    "openai 6": openai,
    errors,
    "errors 6": errors,
    "ai, openai-compatible": sdk,
    "ai, openai": sdk,
    "ai 6, openai-compatible": sdk,
    "ai 6, openai": sdk,
    langchain: { whole: text, streamed: text },
    "langchain 0": { whole: text, streamed: text },
  });
});
