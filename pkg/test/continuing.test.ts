/** Answers that are continued from their tokens. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChatCompletionChunk } from "../src/chat.js";
import type { RuntimeRequest } from "../src/runtime.js";
import { BASE, eventsOf, post } from "./api.js";
import { engineWith } from "./fake-worker.js";

const messages = [{ role: "user" as const, content: "Hi" }];
// The fake runtime numbers its tokens from 100 on, and ends answers with "!".
const tokens = ["one ", "", "two ", "three"];

const textOf = (chunks: ChatCompletionChunk[]) =>
  chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
const idsOf = (chunks: ChatCompletionChunk[]) => chunks.flatMap(({ choices }) => choices[0]?.token_ids ?? []);

test("a stream tells its tokens, also those without a text of their own, if that is asked for", async () => {
  const { engine } = await engineWith({ tokens, reasoning: ["hm ", "", ""] });
  const params = { messages, stream: true, return_token_ids: true } as const;
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of await engine.chat.completions.create(params)) chunks.push(chunk);
  assert.equal(textOf(chunks), "one two three!");
  assert.deepEqual(idsOf(chunks), [100, 101, 102, 103]);
  // The last chunk of a token has its id: then all of its text is there.
  const told = chunks.flatMap(({ choices }) => (choices[0]?.token_ids ? [choices[0].delta] : []));
  assert.deepEqual(told[0], { content: "one " });
  assert.deepEqual(told[1], { content: "" });
  const plain: ChatCompletionChunk[] = [];
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true }))
    plain.push(chunk);
  assert.ok(plain.every(({ choices }) => !choices[0] || !("token_ids" in choices[0])));
});

test("an answer in one piece tells its tokens", async () => {
  const { engine } = await engineWith({ tokens });
  const { choices } = await engine.chat.completions.create({ messages, return_token_ids: true });
  assert.deepEqual(choices[0]?.token_ids, [100, 101, 102, 103]);
  const two = await engine.chat.completions.create({ messages, n: 2, return_token_ids: true });
  assert.deepEqual(
    two.choices.map(({ token_ids }) => token_ids?.length),
    [4, 4],
  );
});

test("an answer goes on after the tokens that it has", async () => {
  const requests: RuntimeRequest[] = [];
  const { engine } = await engineWith({ tokens, onStart: (request) => requests.push(request) });
  const params = { messages, continue_ids: [100, 101], return_token_ids: true, max_tokens: 9 };
  const whole = await engine.chat.completions.create(params);
  assert.equal(whole.choices[0]?.message.content, "two three!");
  assert.deepEqual(whole.choices[0]?.token_ids, [102, 103]);
  // The counts are the whole answer's; its speed is that of the one token after the
  // first new one, in 20 ms.
  assert.equal(whole.usage.completion_tokens, 4);
  assert.equal(whole.timings.decode_tokens_per_second, 50);
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of await engine.chat.completions.create({ ...params, stream: true }))
    chunks.push(chunk);
  assert.equal(textOf(chunks), "two three!");
  assert.deepEqual(
    requests.map(({ continue_ids }) => continue_ids),
    [
      [100, 101],
      [100, 101],
    ],
  );
  // The runtime gets nothing that it does not know.
  assert.ok(requests.every((request) => !("return_token_ids" in request)));
});

test("a continued answer survives a lost device, too", async () => {
  const requests: RuntimeRequest[] = [];
  const onStart = (request: RuntimeRequest) => void requests.push(request);
  const failing = (generated: number) => {
    if (generated === 3) throw Object.assign(new Error("lost"), { code: "device_lost" });
  };
  const { engine } = await engineWith({ tokens, onStart, onNext: failing }, { tokens, onStart });
  const { choices } = await engine.chat.completions.create({ messages, continue_ids: [100, 101] });
  assert.equal(choices[0]?.message.content, "two three!");
  assert.deepEqual(
    requests.map(({ continue_ids }) => continue_ids),
    [
      [100, 101],
      [100, 101, 102],
    ],
  );
});

test("without tokens, an answer begins", async () => {
  const requests: RuntimeRequest[] = [];
  const { engine } = await engineWith({ tokens, onStart: (request) => requests.push(request) });
  for (const continue_ids of [null, []])
    await engine.chat.completions.create({ messages, continue_ids, return_token_ids: false });
  assert.ok(requests.every((request) => !("continue_ids" in request)));
});

test("the HTTP shapes have it, and wrong values are refused by their name", async () => {
  const { engine } = await engineWith({ tokens });
  const ask = (body: object, path = "chat/completions") => engine.fetch(`${BASE}/${path}`, post(body));
  const events = await eventsOf(
    await ask({ messages, stream: true, return_token_ids: true, continue_ids: [7] }),
  );
  assert.deepEqual(
    events.flatMap(({ data }) => idsOf([data as ChatCompletionChunk].filter(({ choices }) => choices))),
    [101, 102, 103],
  );
  for (const [wrong, param] of [
    [{ continue_ids: "7" }, "continue_ids"],
    [{ continue_ids: [-1] }, "continue_ids"],
    [{ continue_ids: [0.5] }, "continue_ids"],
    [{ continue_ids: [7], n: 2 }, "continue_ids"],
    [{ return_token_ids: 1 }, "return_token_ids"],
  ] as const) {
    const response = await ask({ messages, ...wrong });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.param, param);
  }
  for (const param of ["continue_ids", "return_token_ids"]) {
    const response = await ask(
      { prompt: "Hi", [param]: param === "continue_ids" ? [7] : true },
      "completions",
    );
    assert.equal((await response.json()).error.param, param);
  }
});

test("an engine tells the hashes of its model's files", async () => {
  const { engine } = await engineWith({ tokens });
  assert.ok(engine.model.sha256.length > 0);
  assert.ok(engine.model.sha256.every((hash) => /^[0-9a-f]{64}$/.test(hash)));
});
