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
  await assert.rejects(model.prompt(long), dom("QuotaExceededError"));
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
  const running = model.prompt("3");
  model.destroy();
  await assert.rejects(running, (error) => /AbortError|InvalidStateError/.test((error as Error).name));
  await assert.rejects(model.prompt("4"), dom("InvalidStateError"));
  await assert.rejects(model.clone(), dom("InvalidStateError"));
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
  const wrong = { responseConstraint: { type: "json_object" } };
  assert.equal(await asked.measureContextUsage("four", wrong), 4);
});
