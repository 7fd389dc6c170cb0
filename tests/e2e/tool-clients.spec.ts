/**
 * Official clients of OpenAI's API that call tools and ask for objects: of an engine through its `fetch`,
 * and of `nomoat serve`.
 */
import { serveBundle } from "../support/bundle.ts";
import { expect, test } from "../support/fixtures.ts";
import { API_KEY } from "../support/native.ts";
import { callAll, type Got } from "../support/tool-clients.ts";

/** Whether the clients got what they should. */
function expectRight(got: Record<string, Got>, only?: readonly string[]): void {
  const fits = (value: unknown) => {
    expect(value).toEqual({ city: expect.stringMatching(/^(Paris|Rome)$/), days: expect.any(Number) });
    expect([1, 2, 3, 4, 5, 6, 7]).toContain((value as { days: number }).days);
  };
  const counted = Object.entries(got).map(([client, { calls, objects, rest }]) => {
    [...calls, ...objects].forEach(fits);
    return [client, { calls: calls.length, objects: objects.length, ...rest }];
  });
  const chat = {
    calls: 7,
    objects: 2,
    finish: "tool_calls",
    content: null,
    id: true,
    name: "weather",
    streamed: [1, true, true, "tool_calls"],
    helper: true,
    result: "sunny",
    ran: 2,
    roles: ["user", "assistant", "tool", "assistant", "tool"],
  };
  const responses = {
    calls: 3,
    objects: 1,
    status: ["completed", "completed"],
    ids: [true, true],
    name: "weather",
    deltas: true,
    answer: ["message"],
  };
  const sdk = {
    calls: 2,
    objects: 2,
    steps: [
      ["tool-calls", ["weather"], ["sunny"], false],
      [expect.stringMatching(/^(stop|length)$/), [], [], true],
    ],
    streamed: ["tool-input-start", "tool-input-delta", "tool-input-end", "tool-call", "tool-result"],
    input: true,
    partial: true,
    more: true,
  };
  const chain = { calls: 2, objects: 2, call: ["weather", true], result: "sunny", answered: true };
  const expected = {
    "openai, chat": chat,
    "openai, responses": responses,
    "openai 6, chat": chat,
    "openai 6, responses": responses,
    "ai, openai-compatible": sdk,
    "ai, openai": sdk,
    "ai, openai.chat": sdk,
    "ai 6, openai-compatible": sdk,
    "ai 6, openai": sdk,
    langchain: chain,
    "langchain, responses": chain,
    "langchain 0": chain,
    "langchain 0, responses": chain,
  };
  const asked = Object.entries(expected).filter(([client]) => only?.includes(client) ?? true);
  expect(Object.fromEntries(counted)).toEqual(Object.fromEntries(asked));
}

test("openai, the AI SDK and LangChain call tools and get objects", async ({ bare, smallPage }) => {
  await serveBundle(bare, "tool-clients");
  const got = await smallPage.evaluate(async () => {
    const address = "/tool-clients.js";
    const { callAll } = (await import(address)) as typeof import("../support/tool-clients.ts");
    return callAll(window.engine.fetch);
  });
  expectRight(got);
});

// In `server.spec.ts` they ask it from a page.
test("by responses they call tools of `nomoat serve`, in Node and without the package", async ({
  native: { baseURL },
}) => {
  const only = ["openai, responses", "ai, openai", "langchain, responses"];
  expectRight(await callAll(fetch, { baseURL, apiKey: API_KEY }, only), only);
});
