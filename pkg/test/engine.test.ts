import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChatCompletionChunk } from "../src/chat.js";
import { createEngineWith } from "../src/engine.js";
import {
  AbortedError,
  CorruptFileError,
  DeviceLostError,
  InternalError,
  InvalidRequestError,
  UnsupportedModelError,
} from "../src/errors.js";
import type { RuntimeRequest } from "../src/runtime.js";
import { FakeWorker, engineWith } from "./fake-worker.js";
import { FakeLockManager } from "./fake-browser.js";
import { type Script } from "./fakes.js";

const messages = [{ role: "user" as const, content: "Hi" }];
const lost = () => Object.assign(new Error("device lost"), { code: "device_lost" });

async function textOf(stream: AsyncIterable<ChatCompletionChunk>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

/** A promise and what resolves it. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

test("options of the model reach the runtime", async () => {
  const loads: object[] = [];
  const spawn = () => new FakeWorker({ onBegin: (options) => void loads.push(options) });
  const model = new File(["GGUF and more"], "m.gguf");
  const plain = {
    context_length: 64,
    template: null,
    fallback_template: null,
    response_template: null,
    parallel: null,
    // Node does not say how much there is.
    memory: 4 * 2 ** 30,
    kv_format: "f16",
  };
  for (const named of [
    { template: "vicuna" },
    { fallbackTemplate: "plain" },
    { responseTemplate: { start_anchor: "A:" } },
    { parallel: 3 },
    { kvFormat: "q8_0" as const },
  ]) {
    const options = { model, contextLength: 64, ...named };
    await (await createEngineWith(options, spawn, "https://page.test/")).dispose();
  }
  for (const parallel of [0, 9, 1.5])
    await assert.rejects(createEngineWith({ model, parallel }, spawn, "https://page.test/"), {
      param: "parallel",
    });
  for (const responseTemplate of ["{}", null, 1] as unknown[] as object[])
    await assert.rejects(createEngineWith({ model, responseTemplate }, spawn, "https://page.test/"), {
      param: "responseTemplate",
    });
  for (const kvFormat of ["q5_0", "F16", ""] as string[] as "f16"[])
    await assert.rejects(createEngineWith({ model, kvFormat }, spawn, "https://page.test/"), {
      param: "kvFormat",
    });
  assert.deepEqual(loads, [
    { ...plain, template: "vicuna" },
    { ...plain, fallback_template: "plain" },
    { ...plain, response_template: '{"start_anchor":"A:"}' },
    { ...plain, parallel: 3 },
    { ...plain, kv_format: "q8_0" },
  ]);
});

test("reasoning is apart from content, streamed and whole", async () => {
  const { engine } = await engineWith({ tokens: ["", "", "2"], reasoning: ["One ", "and one."] });
  const deltas = [];
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true }))
    deltas.push(chunk.choices[0]?.delta);
  assert.deepEqual(deltas, [
    { role: "assistant", content: "" },
    { reasoning_content: "One " },
    { reasoning_content: "and one." },
    { content: "2" },
    { content: "!" },
    {},
  ]);
  const { choices } = await engine.chat.completions.create({ messages });
  assert.deepEqual(choices[0]?.message, {
    role: "assistant",
    content: "2!",
    refusal: null,
    reasoning_content: "One and one.",
  });
});

test("tool calls have OpenAI's shapes, streamed and whole", async () => {
  const calls = [
    [{ index: 0, name: "add", arguments: "" }],
    [
      { index: 0, arguments: '{"a": 1}' },
      { index: 1, name: "now", arguments: "{}" },
    ],
  ];
  const { engine } = await engineWith({ tokens: ["", ""], calls });
  assert.equal(engine.model.tools, "template");
  const deltas = [];
  let finish = null;
  for await (const { choices } of await engine.chat.completions.create({ messages, stream: true })) {
    deltas.push(...(choices[0]?.delta.tool_calls ?? []));
    finish = choices[0]?.finish_reason ?? finish;
  }
  assert.equal(finish, "tool_calls");
  const ids = deltas.flatMap(({ id }) => id ?? []);
  assert.ok(
    ids.length === 2 && ids[0] !== ids[1] && ids.every((id) => /^[a-z0-9]{9}$/.test(id)),
    String(ids),
  );
  assert.deepEqual(deltas, [
    { index: 0, id: ids[0], type: "function", function: { name: "add", arguments: "" } },
    { index: 0, function: { arguments: '{"a": 1}' } },
    { index: 1, id: ids[1], type: "function", function: { name: "now", arguments: "{}" } },
  ]);
  const { choices } = await engine.chat.completions.create({ messages });
  const { content, tool_calls = [] } = choices[0]?.message ?? {};
  assert.equal(content, null);
  assert.deepEqual(
    tool_calls.map((call) => [call.type, call.function]),
    [
      ["function", { name: "add", arguments: '{"a": 1}' }],
      ["function", { name: "now", arguments: "{}" }],
    ],
  );
});

test("a streamed answer has OpenAI's chunks", async () => {
  const { engine } = await engineWith({});
  const stream = await engine.chat.completions.create({
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.deepEqual(
    chunks.map((chunk) => chunk.choices[0]?.delta),
    [
      { role: "assistant", content: "" },
      { content: "Hello" },
      { content: " world" },
      { content: "!" },
      {},
      undefined,
    ],
  );
  assert.deepEqual(
    chunks.map((chunk) => chunk.choices[0]?.finish_reason),
    [null, null, null, null, "stop", undefined],
  );
  const usage = {
    prompt_tokens: 3,
    completion_tokens: 2,
    total_tokens: 5,
    prompt_tokens_details: { cached_tokens: 1 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      accepted_prediction_tokens: 2,
      rejected_prediction_tokens: 1,
    },
  };
  assert.deepEqual(
    chunks.map((chunk) => chunk.usage),
    [null, null, null, null, null, usage],
  );
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.model === "Fake"));
  assert.deepEqual(chunks[4]?.timings, {
    prefill_ms: 10,
    decode_ms: 20,
    prefill_tokens_per_second: 200,
    decode_tokens_per_second: 50,
    dispatches_per_token: 5,
  });
  assert.throws(() => stream[Symbol.asyncIterator](), InvalidRequestError);
});

test("an answer in one piece has OpenAI's shape", async () => {
  const { engine } = await engineWith({});
  const completion = await engine.chat.completions.create({ messages, max_tokens: 1 });
  assert.equal(completion.object, "chat.completion");
  assert.deepEqual(completion.choices[0]?.message, {
    role: "assistant",
    content: "Hello!",
    refusal: null,
  });
  assert.equal(completion.choices[0]?.finish_reason, "length");
  assert.equal(completion.usage.total_tokens, 4);
});

test("the other calls", async () => {
  const { engine, workers } = await engineWith({});
  assert.equal(engine.model.contextLength, 8);
  assert.equal(engine.device.isFallback, true);
  assert.deepEqual(await engine.tokenize("ab"), [97, 98]);
  assert.equal(await engine.detokenize([97, 98]), "ab");
  assert.deepEqual(await engine.score([1, 2, 3]), { logprobs: [-1, -1], top: [2, 3] });
  assert.deepEqual(await engine.memory(), { wasmBytes: 2 * 65536, gpuBytes: 77 });
  await assert.rejects(engine.score([1.5]), InvalidRequestError);
  await engine.dispose();
  assert.ok(workers[0]?.terminated);
  await assert.rejects(engine.tokenize("a"), AbortedError);
});

test("calls run in order, and an aborted one that waits never starts", async () => {
  const hold = gate();
  const started: (string | null | undefined)[] = [];
  const { engine } = await engineWith({
    onStart: (request) => started.push(request.messages?.[0]?.content),
    onNext: () => hold.opened,
  });
  const ask = (content: string, signal?: AbortSignal) =>
    engine.chat.completions.create({ messages: [{ role: "user", content }] }, { signal });
  const controller = new AbortController();
  const first = ask("first");
  const second = ask("second", controller.signal);
  const third = ask("third");
  controller.abort();
  await assert.rejects(second, { name: "AbortError", code: "aborted" });
  hold.open();
  await Promise.all([first, third]);
  assert.deepEqual(started, ["first", "third"]);
});

test("an abort ends the stream and frees the queue", async () => {
  let cancelled = 0;
  const { engine } = await engineWith({
    tokens: Array.from({ length: 100_000 }, () => "x"),
    onCancel: () => cancelled++,
  });
  const controller = new AbortController();
  const stream = await engine.chat.completions.create(
    { messages, stream: true },
    { signal: controller.signal },
  );
  await assert.rejects(async () => {
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content === "x") controller.abort();
  }, AbortedError);
  await engine.tokenize("after");
  assert.equal(cancelled, 1);
});

test("leaving the loop early stops the generation", async () => {
  let cancelled = 0;
  const { engine } = await engineWith({
    tokens: Array.from({ length: 100_000 }, () => "x"),
    onCancel: () => cancelled++,
  });
  for await (const _ of await engine.chat.completions.create({ messages, stream: true })) break;
  await engine.tokenize("after");
  assert.equal(cancelled, 1);
});

test("after a lost device the answer goes on where it was", async () => {
  const requests: RuntimeRequest[] = [];
  const onStart = (request: RuntimeRequest) => void requests.push(request);
  const tokens = ["one ", "two ", "three"];
  const failing = (generated: number) => {
    if (generated === 2) throw lost();
  };
  const { engine, workers } = await engineWith({ tokens, onStart, onNext: failing }, { tokens, onStart });
  const text = await textOf(await engine.chat.completions.create({ messages, stream: true }));
  assert.equal(text, "one two three!");
  assert.deepEqual(
    requests.map((request) => request.continue_ids),
    [undefined, [100, 101]],
  );
  assert.deepEqual(
    workers.map((worker) => worker.terminated),
    [true, false],
  );
});

test("a device lost twice in one request is an error, and the next call works", async () => {
  const onNext = () => {
    throw lost();
  };
  const { engine, workers } = await engineWith({ onNext }, { onNext }, {});
  await assert.rejects(engine.chat.completions.create({ messages }), DeviceLostError);
  assert.equal(workers.length, 2);
  assert.equal(
    (await engine.chat.completions.create({ messages })).choices[0]?.message.content,
    "Hello world!",
  );
});

test("out of memory names the device that ran out", async () => {
  const onNext = () => {
    throw Object.assign(new Error("no room"), { code: "out_of_memory" });
  };
  const { engine } = await engineWith({ onNext });
  await assert.rejects(engine.chat.completions.create({ messages }), {
    name: "OutOfMemoryError",
    backend: "webgpu",
  });
});

test("a wasm trap fails its call only", async () => {
  const onNext = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  const { engine, workers } = await engineWith({ onNext }, {});
  await assert.rejects(engine.chat.completions.create({ messages }), InternalError);
  assert.equal(workers[0]?.terminated, true);
  assert.equal(
    (await engine.chat.completions.create({ messages })).choices[0]?.message.content,
    "Hello world!",
  );
});

test("a worker that dies unheard fails what runs", async () => {
  const { engine, workers } = await engineWith({ onNext: () => new Promise(() => {}) }, {});
  const answer = engine.chat.completions.create({ messages });
  setTimeout(() => workers[0]?.onerror?.({ message: "panic" } as ErrorEvent), 20);
  await assert.rejects(answer, InternalError);
});

test("a worker that vanishes is replaced, and the answer goes on", async (t) => {
  const seen: RuntimeRequest[] = [];
  const never = (generated: number) => (generated > 0 ? new Promise<void>(() => {}) : undefined);
  const locks = new FakeLockManager();
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "navigator"));
  const { engine, workers } = await engineWith(
    { onNext: never },
    { onStart: (request) => seen.push(request) },
  );
  const stream = await engine.chat.completions.create({ messages, stream: true });
  let text = "";
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    // It is gone: nothing is said, its lock is free.
    if (text === "Hello" && workers[0]) {
      workers[0].terminated = true;
      locks.release();
    }
  }
  assert.equal(text, "Hello world!");
  assert.deepEqual(
    seen.map((request) => request.continue_ids),
    [[100]],
  );
});

test("a worker that hangs is replaced, and the answer goes on", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const real = () => new Promise((resolve) => setImmediate(resolve));
  /** Seconds pass, with time for messages in each. */
  const pass = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      t.mock.timers.tick(1000);
      for (let turns = 0; turns < 5; turns++) await real();
    }
  };
  const seen: RuntimeRequest[] = [];
  let go = () => {};
  const slow = (generated: number) =>
    generated === 2 ? new Promise<void>((resolve) => (go = resolve)) : undefined;
  const tokens = ["Hello", " world", " and", " all"];
  const { engine, workers } = await engineWith(
    { onNext: slow, tokens },
    { onStart: (request) => seen.push(request), tokens },
  );
  let text = "";
  const read = (async () => {
    const stream = await engine.chat.completions.create({ messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  })();
  while (text !== "Hello world") await real();
  // It takes long, but it answers.
  await pass(60);
  assert.equal(workers[0]?.terminated, false);
  // It answers no more, and nothing else tells of it: here are no locks.
  if (workers[0]) workers[0].hangs = true;
  await pass(9);
  assert.equal(workers[0]?.terminated, false);
  await pass(4);
  assert.equal(workers[0]?.terminated, true);
  await read;
  assert.equal(text, "Hello world and all!");
  assert.deepEqual(
    seen.map((request) => request.continue_ids),
    [[100, 101]],
  );
  go();
});

test("a long step is no hang: a score, or the first step of a slow device", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { engine, workers } = await engineWith({});
  const [worker] = workers;
  assert.ok(worker);
  for (const [call, seconds] of [
    [() => engine.score([1, 2]), 500],
    [() => engine.chat.completions.create({ messages }), 100],
  ] as const) {
    worker.hangs = true;
    const answer = call();
    await new Promise((resolve) => setImmediate(resolve));
    for (let second = 0; second < seconds; second++) t.mock.timers.tick(1000);
    assert.equal(worker.terminated, false);
    worker.hangs = false;
    worker.flush();
    await answer;
  }
});

test("dispose fails what runs and what waits", async () => {
  const { engine } = await engineWith({ onNext: () => new Promise(() => {}) });
  const running = engine.chat.completions.create({ messages });
  const waiting = engine.tokenize("x");
  await engine.dispose();
  await assert.rejects(running, AbortedError);
  await assert.rejects(waiting, AbortedError);
});

test("memory is taken once the page has made room, and after the header was found sound", async () => {
  const steps: string[] = [];
  const options = { model: new File(["GGUF and more"], "m.gguf") };
  const loading = (script: Script, onHeader: () => void | Promise<void>) =>
    createEngineWith({ ...options, onHeader }, () => new FakeWorker(script), "https://page.test/");
  const onLoad: Script["onLoad"] = (step) => void steps.push(step);
  await loading({ onLoad }, async () => {
    steps.push("asked");
    await new Promise((resolve) => setTimeout(resolve, 20));
    steps.push("room");
  });
  assert.deepEqual(steps, ["header", "check", "asked", "room", "prepare", "data", "finish"]);

  let asked = false;
  const damaged = () => {
    throw Object.assign(new Error("damaged"), { code: "corrupt_file" });
  };
  await assert.rejects(
    loading({ onLoad: damaged }, () => void (asked = true)),
    CorruptFileError,
  );
  // What the headers say cannot be run takes no memory either.
  const unsupported: Script["onLoad"] = (step) => {
    if (step === "check") throw Object.assign(new Error("no"), { code: "unsupported_feature" });
  };
  await assert.rejects(
    loading({ onLoad: unsupported }, () => void (asked = true)),
    UnsupportedModelError,
  );
  assert.equal(asked, false);
  await assert.rejects(
    loading({}, () => Promise.reject(new Error("no room"))),
    /onHeader failed: Error: no room/,
  );
});

test("an abort while loading ends the worker", async () => {
  const controller = new AbortController();
  const worker = new FakeWorker({});
  const options = { model: new File(["x"], "m.gguf"), signal: controller.signal };
  const engine = createEngineWith(options, () => worker, "https://page.test/");
  controller.abort();
  await assert.rejects(engine, AbortedError);
  assert.ok(worker.terminated);
});
