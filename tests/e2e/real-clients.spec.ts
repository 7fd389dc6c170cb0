/** Official clients of OpenAI's API, unmodified, with SmolLM2 on the CPU. Others have a generated model. */
import { readFileSync } from "node:fs";
import { barePage, fromHub, open } from "../support/bare.ts";
import { serveBundle } from "../support/bundle.ts";
import { expect, test } from "../support/fixtures.ts";
import type { Golden } from "../support/golden.ts";
import { places } from "../support/places.ts";

const QUESTION = "What is the capital of France?";

test("SmolLM2 tells every client what llama.cpp says, calls tools and gives objects", async ({
  shared,
  bare,
}) => {
  const golden = JSON.parse(readFileSync(places.golden, "utf8")) as Golden[];
  const greedy = (name: string) => golden.find((entry) => entry.name === name)?.greedy_text ?? "";
  // Six tokens each.
  const text = "The capital of France is Paris";
  const continued = " with a quick brown bear.";
  expect(greedy("capital").startsWith(text)).toBe(true);
  expect(greedy("raw").startsWith(continued)).toBe(true);
  await serveBundle(bare, "real-clients");
  const page = await barePage(shared, bare);
  await open(page, { ...fromHub, device: "cpu", threads: 2 });
  const [answers, calls] = await page.evaluate(async (question) => {
    const address = "/real-clients.js";
    const { askAll, callBriefly } = (await import(address)) as typeof import("../support/real-clients.ts");
    const { fetch } = window.engine;
    return [await askAll(fetch, question), await callBriefly(fetch)];
  }, QUESTION);
  const place = { city: expect.stringMatching(/^(Paris|Rome)$/) };
  expect(calls).toEqual({
    openai: [place, place, "completed"],
    ai: [place, place, ["tool-calls", expect.stringMatching(/^(stop|length)$/)]],
    langchain: [place, place],
  });
  const openai = {
    streamed: text,
    whole: text,
    helper: text,
    response: text,
    json: expect.stringMatching(/^\{\s*"city"\s*:\s*"(Paris|Rome)"\s*\}$/),
    continued: `The quick brown fox${continued}`,
    responseStatus: "incomplete",
    responseStream: text,
    usage: [6, 6, 6],
  };
  for (const [client, answer] of Object.entries(answers))
    if (/^openai/.test(client)) expect(answer, client).toMatchObject(openai);
    else if (/^errors/.test(client)) expect(answer, client).toMatchObject({ aborted: true });
    else if (/^ai/.test(client))
      expect(answer, client).toEqual({ text, streamed: text, finishReason: "length", tokens: 6 });
    else expect(answer, client).toEqual({ whole: text, streamed: text });
  await page.close();
});
