// Several answers at once.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChatCompletionChunk } from "../src/chat.js";
import { AbortedError, DeviceLostError, InternalError, InvalidRequestError } from "../src/errors.js";
import type { RuntimeRequest } from "../src/runtime.js";
import { engineWith } from "./fake-worker.js";

const tokens = ["one ", "two ", "three"];
const lost = () => Object.assign(new Error("device lost"), { code: "device_lost" });
const say = (content: string) => ({ messages: [{ role: "user" as const, content }] });
const contentOf = (request: RuntimeRequest) => request.messages?.[0]?.content ?? "";

test("answers run together, and what needs the runtime alone comes between their steps", async () => {
  const steps: string[] = [];
  const { engine } = await engineWith({
    tokens,
    onNext: (generated, request) => void steps.push(`${contentOf(request)}${generated}`),
  });
  const [a, ids, b] = await Promise.all([
    engine.chat.completions.create(say("a")),
    engine.tokenize("x"),
    engine.chat.completions.create(say("b")),
  ]);
  assert.equal(a.choices[0]?.message.content, "one two three!");
  assert.equal(b.choices[0]?.message.content, "one two three!");
  assert.deepEqual(ids, [120]);
  // They take turns.
  assert.ok(steps.indexOf("b0") < steps.indexOf("a2"), steps.join());
});

test("a score waits for the answers before it, and answers wait for it", async () => {
  const ended: string[] = [];
  const { engine } = await engineWith({ tokens });
  await Promise.all([
    engine.chat.completions.create(say("a")).then(() => ended.push("a")),
    engine.chat.completions.create({ ...say("b"), max_tokens: 1 }).then(() => ended.push("b")),
    engine.score([1, 2]).then(() => ended.push("score")),
    engine.chat.completions.create({ ...say("c"), max_tokens: 1 }).then(() => ended.push("c")),
  ]);
  assert.deepEqual(ended, ["b", "a", "score", "c"]);
});

test("an abort ends one answer, an error of its own another; the rest goes on", async () => {
  let cancelled = 0;
  const controller = new AbortController();
  const { engine } = await engineWith({
    tokens,
    onCancel: () => cancelled++,
    onNext: (generated, request) => {
      if (contentOf(request) === "bad") throw Object.assign(new Error("no"), { code: "invalid_request" });
      if (contentOf(request) === "gone" && generated === 1) controller.abort();
    },
  });
  const [gone, bad, good] = await Promise.allSettled([
    engine.chat.completions.create(say("gone"), { signal: controller.signal }),
    engine.chat.completions.create(say("bad")),
    engine.chat.completions.create(say("good")),
  ]);
  assert.ok(gone.status === "rejected" && gone.reason instanceof AbortedError);
  assert.ok(bad.status === "rejected" && bad.reason instanceof InvalidRequestError);
  assert.ok(good.status === "fulfilled");
  assert.equal(good.value.choices[0]?.message.content, "one two three!");
  assert.equal(cancelled, 1);
});

test("after a lost device all answers go on, on one new worker", async () => {
  const resumed: Record<string, number[] | undefined> = {};
  let steps = 0;
  const onNext = () => {
    if (++steps === 5) throw lost();
  };
  const onStart = (request: RuntimeRequest) => void (resumed[contentOf(request)] = request.continue_ids);
  const { engine, workers } = await engineWith({ tokens, onNext }, { tokens, onStart });
  const answers = await Promise.all(["a", "b"].map((text) => engine.chat.completions.create(say(text))));
  for (const { choices } of answers) assert.equal(choices[0]?.message.content, "one two three!");
  assert.equal(workers.length, 2);
  assert.deepEqual(resumed, { a: [100, 101], b: [100, 101] });
});

test("several choices have OpenAI's shape, each with a seed of its own", async () => {
  const seeds: (number | null)[] = [];
  const { engine } = await engineWith({ tokens, onStart: ({ seed }) => void seeds.push(seed) });
  const whole = await engine.chat.completions.create({ ...say("a"), n: 3, seed: 7 });
  assert.deepEqual(
    whole.choices.map(({ index, message, finish_reason }) => [index, message.content, finish_reason]),
    [0, 1, 2].map((index) => [index, "one two three!", "stop"]),
  );
  // The prompt counts once.
  const usage = {
    prompt_tokens: 3,
    completion_tokens: 9,
    total_tokens: 12,
    prompt_tokens_details: { cached_tokens: 1 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      accepted_prediction_tokens: 6,
      rejected_prediction_tokens: 3,
    },
  };
  assert.deepEqual(whole.usage, usage);
  assert.deepEqual(seeds, [7, 8, 9]);

  for (const include_usage of [false, true]) {
    const stream = await engine.chat.completions.create({
      ...say("a"),
      n: 2,
      stream: true,
      stream_options: { include_usage },
    });
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    const texts = ["", ""];
    for (const { choices } of chunks)
      for (const { index, delta } of choices) texts[index] += delta.content ?? "";
    assert.deepEqual(texts, ["one two three!", "one two three!"]);
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    const counts = chunks.filter((chunk) => chunk.usage);
    assert.equal(counts.length, include_usage ? 1 : 0);
    assert.equal(counts[0]?.usage?.completion_tokens, include_usage ? 6 : undefined);
    assert.deepEqual(counts[0]?.choices, include_usage ? [] : undefined);
    assert.equal("usage" in (chunks[0] ?? {}), include_usage);
  }
});

test("if one choice fails, the request does, and the others end", async () => {
  let cancelled = 0;
  let steps = 0;
  const onNext = () => {
    if (++steps === 4) throw Object.assign(new Error("no"), { code: "invalid_request" });
  };
  const script = { tokens: Array.from({ length: 1000 }, () => "x"), onCancel: () => cancelled++, onNext };
  const { engine } = await engineWith(script);
  await assert.rejects(engine.chat.completions.create({ ...say("a"), n: 3 }), InvalidRequestError);
  await engine.score([1, 2]);
  assert.equal(cancelled, 2);
  steps = 0;
  const stream = await engine.chat.completions.create({ ...say("a"), n: 3, stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream) void _;
  }, InvalidRequestError);
  await engine.score([1, 2]);
  assert.equal(cancelled, 4);
  // Whoever leaves the loop ends all choices.
  steps = 10;
  for await (const _ of await engine.chat.completions.create({ ...say("a"), n: 3, stream: true })) break;
  await engine.score([1, 2]);
  assert.equal(cancelled, 7);
});

test("a device that is lost again ends all answers, and the next call works", async () => {
  const onNext = () => {
    throw lost();
  };
  const { engine, workers } = await engineWith({ onNext }, { onNext }, {});
  const answers = await Promise.allSettled([1, 2].map((i) => engine.chat.completions.create(say(String(i)))));
  for (const answer of answers)
    assert.ok(answer.status === "rejected" && answer.reason instanceof DeviceLostError);
  assert.equal(workers.length, 2);
  assert.equal((await engine.chat.completions.create(say("c"))).choices.length, 1);
});

test("the parser for constraints is loaded for the first, and asked for again if that fails", async () => {
  let loads = 0;
  const { engine } = await engineWith({
    tokens,
    onParser: () => {
      loads += 1;
      if (loads === 1) throw new TypeError("Failed to fetch");
    },
  });
  const ask = (rest: object = {}) => engine.chat.completions.create({ ...say("a"), ...rest });
  const asObject = { response_format: { type: "json_object" } } as const;
  await ask();
  assert.equal(loads, 0);
  await assert.rejects(ask(asObject), (error) => {
    assert.ok(error instanceof InternalError, String(error));
    assert.match(error.message, /parser for constraints could not be loaded: TypeError: Failed to fetch/);
    return true;
  });
  for (const n of [2, 2]) {
    assert.equal((await ask(asObject)).choices[0]?.message.content, "one two three!");
    assert.equal(loads, n);
  }
});
