/** Official clients of OpenAI's API, unmodified, through `engine.fetch`. */
import { join } from "node:path";
import { build } from "vite";
import { textOf } from "../support/bare.ts";
import { expect, test } from "../support/fixtures.ts";
import { root } from "../support/places.ts";

const QUESTION = "What is the capital of France?";

/** The clients as one module. */
async function bundle(): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: "warn",
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      write: false,
      minify: false,
      target: "es2022",
      lib: { entry: join(root, "tests/support/clients.ts"), formats: ["es"] },
    },
  });
  const [output] = Array.isArray(result) ? result : [result];
  if (!output || !("output" in output)) throw new Error("vite made no bundle");
  return output.output[0].code;
}

test("openai, the AI SDK and LangChain ask the engine as they ask a server", async ({ bare, smallPage }) => {
  bare.texts.set("/clients.js", await bundle());
  const text = await textOf(smallPage, QUESTION, 6);
  const model = await smallPage.evaluate(() => window.engine.model.name);
  const continuation = await smallPage.evaluate(async () => {
    const params = { prompt: "The quick brown fox", temperature: 0, max_tokens: 6 };
    return (await window.engine.completions.create(params)).choices[0]?.text;
  });
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
    responseStatus: "incomplete",
    responseStream: text,
    usage: [6, 6, 6],
    models: [model],
  };
  const bad = { class: "BadRequestError", status: 400, code: "invalid_request" };
  const errors = {
    aborted: true,
    temperature: { ...bad, param: "temperature" },
    previous: { ...bad, param: "previous_response_id" },
    files: { class: "NotFoundError", status: 404, code: "unknown_url", param: null },
    model: { class: "NotFoundError", status: 404, code: "model_not_found", param: null },
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
    "langchain 1.5": { whole: text, streamed: text },
  });
});
