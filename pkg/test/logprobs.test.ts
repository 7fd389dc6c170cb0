import assert from "node:assert/strict";
import { test } from "node:test";
import type { RuntimeRequest } from "../src/runtime.js";
import { BASE, eventsOf, post } from "./api.js";
import { engineWith } from "./fake-worker.js";

test("how likely tokens were, of a chat", async () => {
  const { engine } = await engineWith({ tokens: ["Hel", "lo"] });
  const params = { messages: [{ role: "user", content: "Hi" }], logprobs: true, top_logprobs: 2 };
  const ask = async (more = {}) => engine.fetch(`${BASE}/chat/completions`, post({ ...params, ...more }));
  const { logprobs } = (await (await ask()).json()).choices[0];
  assert.equal(logprobs.refusal, null);
  assert.deepEqual(
    logprobs.content.map(({ token }: { token: string }) => token),
    ["Hel", "lo"],
  );
  assert.equal(logprobs.content[0].logprob, -0.5);
  assert.deepEqual(logprobs.content[0].top_logprobs, [
    { token: "t0", bytes: [116, 48], logprob: -1 },
    { token: "t1", bytes: [116, 49], logprob: -2 },
  ]);
  const events = await eventsOf(await ask({ stream: true }));
  const streamed = events.flatMap(({ data }) => {
    const { choices } = data as { choices?: { logprobs: { content: unknown[] } | null }[] };
    return choices?.[0]?.logprobs?.content ?? [];
  });
  assert.deepEqual(streamed, logprobs.content);
  assert.equal((await (await ask({ logprobs: false, top_logprobs: null })).json()).choices[0].logprobs, null);
  for (const [wrong, param] of [
    [{ logprobs: null }, "top_logprobs"],
    [{ top_logprobs: 21 }, "top_logprobs"],
    [{ logprobs: 2, top_logprobs: null }, "logprobs"],
  ] as const) {
    const response = await ask(wrong);
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.param, param);
  }
});

test("how likely tokens were, of a completion and its prompt", async () => {
  const { engine } = await engineWith({ tokens: ["Hel", "lo"] });
  const params = { prompt: "Ok", logprobs: 1, echo: true };
  const ask = async (more = {}) => engine.fetch(`${BASE}/completions`, post({ ...params, ...more }));
  const whole = (await (await ask()).json()).choices[0];
  assert.deepEqual(whole.logprobs, {
    tokens: ["O", "k", "Hel", "lo"],
    token_logprobs: [null, -1.5, -0.5, -0.5],
    top_logprobs: [null, { t0: -1, k: -1.5 }, { t0: -1, Hel: -0.5 }, { t0: -1, lo: -0.5 }],
    text_offset: [0, 1, 2, 5],
  });
  const events = await eventsOf(await ask({ stream: true }));
  type Piece = { choices?: { text: string; logprobs: { tokens: string[]; text_offset: number[] } | null }[] };
  const pieces = events.flatMap(({ data }) => (data as Piece).choices ?? []);
  assert.equal(pieces.map(({ text }) => text).join(""), "OkHello!");
  for (const name of ["tokens", "text_offset"] as const)
    assert.deepEqual(
      pieces.flatMap(({ logprobs }): unknown[] => logprobs?.[name] ?? []),
      whole.logprobs[name],
    );
  const alone = (await (await ask({ echo: false, logprobs: 0 })).json()).choices[0];
  assert.deepEqual(alone.logprobs.tokens, ["Hel", "lo"]);
  assert.deepEqual(alone.logprobs.top_logprobs[0], { Hel: -0.5 });
  const response = await ask({ logprobs: true });
  assert.equal((await response.json()).error.param, "logprobs");
});

test("embeddings: texts and tokens, floats and base64", async () => {
  const seen: RuntimeRequest[] = [];
  const { engine } = await engineWith({ onStart: (request) => seen.push(request) });
  const ask = (body: object) => engine.fetch(`${BASE}/embeddings`, post(body));
  const { data, ...rest } = await (await ask({ input: ["abcde", "xyz"], model: "m" })).json();
  assert.deepEqual(data, [
    { object: "embedding", index: 0, embedding: [97, 98, 99, 100] },
    { object: "embedding", index: 1, embedding: [120, 121, 122] },
  ]);
  const usage = { prompt_tokens: 8, total_tokens: 8 };
  assert.deepEqual(rest, { object: "list", model: "Fake", usage });
  const packed = await (await ask({ input: "ab", encoding_format: "base64", dimensions: 1 })).json();
  const bytes = Buffer.from(packed.data[0].embedding, "base64");
  assert.deepEqual([bytes.length, bytes.readFloatLE()], [4, 97]);
  await ask({ input: [5, 6] });
  await ask({ input: [[5], [6, 7]] });
  assert.deepEqual(
    seen.map(({ prompt, embedding }) => [prompt, embedding]),
    [
      ["abcde", 0],
      ["xyz", 0],
      ["ab", 1],
      [[5, 6], 0],
      [[5], 0],
      [[6, 7], 0],
    ],
  );
  for (const [wrong, param] of [
    [{}, "input"],
    [{ input: [] }, "input"],
    [{ input: ["a", ""] }, "input"],
    [{ input: [-1] }, "input"],
    [{ input: "a", encoding_format: "int8" }, "encoding_format"],
    [{ input: "a", dimensions: 0 }, "dimensions"],
    [{ input: "a", pooling: "mean" }, "pooling"],
  ] as const) {
    const response = await ask(wrong);
    assert.deepEqual([response.status, (await response.json()).error.param], [400, param]);
  }
});
