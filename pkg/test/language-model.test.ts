import assert from "node:assert/strict";
import { test } from "node:test";
import { languageModel } from "../src/language-model.js";
import type { RuntimeRequest } from "../src/runtime.js";
import { engineWith } from "./fake-worker.js";
import type { Script } from "./fakes.js";

async function session(script: Script = {}, options: Parameters<typeof create>[1] = {}) {
  const seen: RuntimeRequest[] = [];
  const onStart = (request: RuntimeRequest) => {
    seen.push(request);
    script.onStart?.(request);
  };
  const { engine } = await engineWith({ ...script, onStart });
  return { seen, model: await create(languageModel(engine), options) };
}

const create = (
  model: ReturnType<typeof languageModel>,
  options: Parameters<ReturnType<typeof languageModel>["create"]>[0],
) => model.create(options);

const dom = (name: string) => (error: unknown) => {
  assert.equal((error as Error).name, name);
  return true;
};

test("a session remembers; its first messages come first", async () => {
  const initialPrompts = [{ role: "system" as const, content: "S" }];
  const { seen, model } = await session({ tokens: ["a", "b"] }, { initialPrompts, samplingMode: "creative" });
  assert.equal(model.contextUsage, 1);
  assert.equal(await model.prompt("1"), "ab!");
  assert.equal(model.contextUsage, 5);
  await model.append([{ role: "user", content: [{ type: "text", value: "2" }] }]);
  let streamed = "";
  for await (const text of model.promptStreaming("3")) streamed += text;
  assert.equal(streamed, "ab!");
  assert.deepEqual(seen[1]?.messages, [
    { role: "system", content: "S" },
    { role: "user", content: "1" },
    { role: "assistant", content: "ab!" },
    { role: "user", content: "2" },
    { role: "user", content: "3" },
  ]);
  assert.equal(seen[1]?.temperature, 1);
  assert.equal(seen[1]?.top_k, 40);
});

test("prompts are answered one after the other; a copy goes its own way", async () => {
  const { seen, model } = await session({ tokens: ["a"] });
  const copy = await model.clone();
  assert.deepEqual(await Promise.all([model.prompt("1"), model.prompt("2")]), ["a!", "a!"]);
  assert.equal(seen[1]?.messages?.length, 3);
  await copy.prompt("3");
  assert.equal(seen[2]?.messages?.length, 1);
});

test("the oldest turns are left out when the context is full, and the page is told", async () => {
  const onStart = ({ messages }: RuntimeRequest) => {
    if ((messages?.length ?? 0) > 3)
      throw Object.assign(new Error("too long"), { code: "context_length_exceeded" });
  };
  const { seen, model } = await session(
    { tokens: ["a"], onStart },
    { initialPrompts: [{ role: "system", content: "S" }] },
  );
  let overflows = 0;
  model.oncontextoverflow = () => (overflows += 1);
  await model.prompt("1");
  await model.prompt("2");
  assert.equal(overflows, 1);
  assert.deepEqual(
    seen.at(-1)?.messages?.map(({ content }) => content),
    ["S", "2"],
  );
  const long = Array.from({ length: 5 }, () => ({ role: "user" as const, content: "x" }));
  const before = model.contextUsage;
  await assert.rejects(model.prompt(long), dom("QuotaExceededError"));
  assert.equal(overflows, 1, "nothing is left out for a prompt that cannot fit");
  assert.equal(model.contextUsage, before);
  await model.prompt("3");
  assert.equal(overflows, 2);
  await assert.rejects(model.append("more than eight letters"), dom("QuotaExceededError"));
});

test("constraints become a schema or an expression", async () => {
  const { seen, model } = await session();
  const schema = { type: "boolean" };
  await model.prompt("1", { responseConstraint: schema });
  await model.prompt("2", { responseConstraint: /^(yes|no)$/ });
  assert.deepEqual(seen[0]?.response_format, {
    type: "json_schema",
    json_schema: { name: "answer", schema },
  });
  assert.deepEqual(seen[1]?.grammar, { regex: "(yes|no)" });
  await assert.rejects(model.prompt("3", { responseConstraint: /a/i }), dom("NotSupportedError"));
});

test("an answer goes on after a prefix, and both are the session's", async () => {
  const { seen, model } = await session({ tokens: ["a", "b", "c"] });
  const begun = { role: "assistant" as const, content: "ab", prefix: true };
  assert.equal(await model.prompt([{ role: "user", content: "1" }, begun]), "c!");
  assert.deepEqual(seen[0]?.messages, [{ role: "user", content: "1" }]);
  // The fake tokens are code points.
  assert.deepEqual(seen[0]?.continue_ids, [97, 98]);
  await model.prompt("2");
  assert.deepEqual(seen[1]?.messages?.[1], { role: "assistant", content: "abc!" });
  assert.equal(seen[1]?.continue_ids, undefined);
  let streamed = "";
  for await (const text of model.promptStreaming([{ ...begun, content: [{ type: "text", value: "a" }] }]))
    streamed += text;
  assert.equal(streamed, "bc!");
  // An empty one begins nothing.
  assert.equal(
    await model.prompt([
      { role: "user", content: "3" },
      { ...begun, content: "" },
    ]),
    "abc!",
  );
  await assert.rejects(model.prompt([begun, { role: "user", content: "4" }]), dom("SyntaxError"));
  await assert.rejects(model.prompt([begun, begun]), dom("SyntaxError"));
  await assert.rejects(model.append([begun, { role: "user", content: "4" }]), dom("SyntaxError"));
});

test("a signal ends a prompt, which is forgotten; a destroyed session answers nothing", async () => {
  const { seen, model } = await session({ tokens: Array.from({ length: 50 }, () => "a") });
  const controller = new AbortController();
  const reason = new Error("enough");
  const texts = model.promptStreaming("1", { signal: controller.signal }).getReader();
  await texts.read();
  controller.abort(reason);
  await assert.rejects(
    async () => {
      while (!(await texts.read()).done);
    },
    (error) => error === reason,
  );
  await model.prompt("2");
  assert.equal(seen[1]?.messages?.length, 1);
  const waits = new AbortController();
  const running = model.prompt("3");
  const waiting = model.prompt("4", { signal: waits.signal });
  waits.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  let ended = false;
  void running.catch(() => undefined).finally(() => (ended = true));
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(ended, false, "the one before still runs");
  model.destroy();
  await assert.rejects(running, dom("AbortError"));
  await assert.rejects(model.prompt("5"), dom("AbortError"));
  await assert.rejects(model.append("5"), dom("AbortError"));
  await assert.rejects(model.measureContextUsage("5"), dom("AbortError"));
  await assert.rejects(model.clone(), dom("AbortError"));
  assert.throws(() => model.promptStreaming("5"), dom("AbortError"));
});

test("the signal of a creation destroys the session", async () => {
  const controller = new AbortController();
  const { model } = await session({}, { signal: controller.signal });
  const copy = await model.clone();
  const reason = new Error("leaving");
  controller.abort(reason);
  await assert.rejects(model.prompt("1"), (error) => error === reason);
  assert.equal(await copy.prompt("1"), "Hello world!");
});

test("what there is not is refused by the names of the specification", async () => {
  const { engine } = await engineWith({});
  const model = languageModel(engine);
  assert.equal(await model.availability(), "available");
  assert.equal(await model.availability({ expectedInputs: [{ type: "image" }] }), "unavailable");
  await assert.rejects(model.create({ expectedInputs: [{ type: "audio" }] }), dom("NotSupportedError"));
  await assert.rejects(model.create({ signal: AbortSignal.abort() }), dom("AbortError"));
  const user = { role: "user" as const, content: "1" };
  const system = { role: "system" as const, content: "S" };
  await assert.rejects(model.create({ initialPrompts: [user, system] }), dom("TypeError"));
  const asked = await model.create();
  await assert.rejects(asked.prompt([{ ...user, prefix: true }]), dom("SyntaxError"));
  const image = [{ role: "user" as const, content: [{ type: "image", value: {} }] }];
  await assert.rejects(asked.prompt(image), dom("NotSupportedError"));
  const number = [{ role: "user" as const, content: [{ type: "text", value: 1 }] }];
  await assert.rejects(asked.prompt(number), dom("TypeError"));
  const constrained = { responseConstraint: { type: "boolean" } };
  assert.equal(await asked.measureContextUsage("four", constrained), 4);
  await assert.rejects(
    asked.measureContextUsage("four", { omitResponseConstraintInput: true }),
    dom("TypeError"),
  );
  await assert.rejects(asked.prompt("1", { responseConstraint: [] }), dom("TypeError"));
  await assert.rejects(model.create({ samplingMode: "creative", topK: 3 }), dom("TypeError"));
});
