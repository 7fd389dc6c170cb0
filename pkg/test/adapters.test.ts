import assert from "node:assert/strict";
import { test } from "node:test";
import { usesOf } from "../src/adapters.js";
import { CorruptFileError, InvalidRequestError, NetworkError } from "../src/errors.js";
import type { RuntimeRequest } from "../src/runtime.js";
import { engineWith } from "./fake-worker.js";

const messages = [{ role: "user" as const, content: "Hi" }];
const gguf = new Blob(["GGUF of an adapter"]);

test("adapters are loaded, listed, used and unloaded", async () => {
  const started: RuntimeRequest[] = [];
  const seen: string[] = [];
  const { engine } = await engineWith({
    onStart: (request) => started.push(request),
    onAdapter: (what, name) => seen.push(`${what} ${name}`),
  });
  const info = await engine.adapters.load(gguf, { name: "pirate" });
  assert.deepEqual(info, { name: "pirate", rank: 8, parameters: 18, tensors: 1 });
  const peft = { config: new Blob(["{}"]), weights: new Blob(["12345"]) };
  assert.equal((await engine.adapters.load(peft, { name: "poet" })).tensors, 2);
  assert.deepEqual(
    engine.adapters.list().map(({ name }) => name),
    ["pirate", "poet"],
  );
  const adapters = [{ name: "poet", scale: 0.5 }, { name: "pirate" }];
  await engine.chat.completions.create({ messages, adapters });
  await engine.chat.completions.create({ messages, model: "Fake:pirate" });
  await engine.chat.completions.create({ messages, model: "gpt-4o:any" });
  assert.deepEqual(
    started.map((request) => request.adapters),
    [
      [
        { name: "poet", scale: 0.5 },
        { name: "pirate", scale: 1 },
      ],
      [{ name: "pirate", scale: 1 }],
      undefined,
    ],
  );
  await engine.adapters.unload("pirate");
  assert.deepEqual(seen, ["load pirate", "load poet", "unload pirate"]);
  await assert.rejects(engine.chat.completions.create({ messages, model: "Fake:pirate" }), (error) => {
    return error instanceof InvalidRequestError && error.message.includes("no adapter pirate; loaded: poet");
  });
  await assert.rejects(engine.score([1, 2], { adapters: [{ name: "pirate" }] }), InvalidRequestError);
});

test("a new worker has the adapters of the one before", async () => {
  const seen: string[] = [];
  const lost = () => {
    throw Object.assign(new Error("device lost"), { code: "device_lost" });
  };
  const { engine, workers } = await engineWith(
    { onNext: lost },
    { onAdapter: (what, name) => seen.push(`${what} ${name}`) },
  );
  await engine.adapters.load(gguf, { name: "pirate" });
  const answer = await engine.chat.completions.create({ messages, adapters: [{ name: "pirate" }] });
  assert.equal(answer.choices[0]?.message.content, "Hello world!");
  assert.equal(workers.length, 2);
  assert.deepEqual(seen, ["load pirate"]);
});

test("adapters that cannot be loaded are errors, and are not listed", async () => {
  const { engine } = await engineWith({});
  const load = (source: unknown, name: unknown = "x") =>
    engine.adapters.load(source as Blob, { name: name as string });
  await assert.rejects(load(new Blob([])), CorruptFileError);
  await assert.rejects(load(gguf, "a:b"), InvalidRequestError);
  await assert.rejects(load(gguf, ""), InvalidRequestError);
  await assert.rejects(load(7), InvalidRequestError);
  await assert.rejects(load("http://"), InvalidRequestError);
  await assert.rejects(load("http://127.0.0.1:9/adapter.gguf"), NetworkError);
  assert.deepEqual(engine.adapters.list(), []);
});

test("requests that name adapters wrongly", () => {
  for (const [params, words] of [
    [{ adapters: {} }, "must be a list"],
    [{ adapters: [{}] }, "adapters[0]"],
    [{ adapters: [{ name: "a", scale: "much" }] }, "adapters[0].scale"],
    [{ adapters: [{ name: "b" }] }, "no adapter b"],
    [{ adapters: [{ name: "a" }], model: "base:a" }, "either"],
    [{ model: "base:b" }, "no adapter b; loaded: a"],
  ] as const)
    assert.throws(
      () => usesOf(params, "base", ["a"]),
      (error) => error instanceof InvalidRequestError && error.message.includes(words),
      words,
    );
  // A base with a colon in its name is no adapter; neither is another model's name.
  assert.deepEqual(usesOf({ model: "llama:8b" }, "llama:8b", ["8b"]), []);
  assert.deepEqual(usesOf({ model: "other:a" }, "base", ["a"]), [{ name: "a", scale: 1 }]);
  assert.deepEqual(usesOf({ model: "other:c" }, "base", ["a"]), []);
});
