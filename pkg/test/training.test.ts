import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChatMessage } from "../src/chat.js";
import { AbortedError, InvalidRequestError } from "../src/errors.js";
import { withEpochs } from "../src/checkpoint.js";
import { toTraining, type TrainingStep } from "../src/training.js";
import { engineWith } from "./fake-worker.js";
import { MemoryCache } from "./fake-browser.js";
import { type Script } from "./fakes.js";

const messages: ChatMessage[] = [
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Ahoy" },
];
const examples = [{ messages }];

/** Cache Storage and an address, as pages have them. */
function page(): MemoryCache {
  const cache = new MemoryCache();
  Object.assign(globalThis, {
    caches: { open: async () => cache },
    location: { origin: "https://page.test" },
  });
  return cache;
}

function seen(): { log: string[]; script: Script } {
  const log: string[] = [];
  return { log, script: { onTraining: (what) => log.push(what) } };
}

test("what is learnt is an adapter that can be used and exported", async () => {
  const cache = page();
  const { log, script } = seen();
  const { engine } = await engineWith(script);
  const steps: TrainingStep[] = [];
  const options = { name: "pirate", examples, rank: 4, schedule: "constant" as const };
  const result = await engine.train({ ...options, onStep: (step) => steps.push(step) });
  assert.deepEqual(
    result.curve.map(({ loss }) => loss),
    [3, 2, 1],
  );
  assert.deepEqual(
    steps.map(({ step, steps, secondsLeft }) => [step, steps, secondsLeft === 0]),
    [
      [1, 3, false],
      [2, 3, false],
      [3, 3, true],
    ],
  );
  const data = JSON.stringify({ messages });
  assert.equal(log[0], `begin {"dpo":false,"rank":4,"schedule":"constant"} ${data}`);
  assert.equal(log.at(-1), "end");
  assert.deepEqual(
    engine.adapters.list().map(({ name }) => name),
    ["pirate"],
  );
  assert.equal(engine.adapters.export("pirate", "gguf").size, 1);
  assert.equal(await engine.adapters.export("pirate", "peft").config.text(), "Fake");
  await engine.chat.completions.create({ messages, adapters: [{ name: "pirate" }] });
  assert.equal(cache.entries.size, 0);
  await assert.rejects(engine.train(options), /pirate already/);
});

test("what has no name in PEFT is an adapter as GGUF", async () => {
  page();
  let seen: unknown;
  const { engine } = await engineWith({ hasNoPeft: true });
  const { adapter } = await engine.train({
    name: "pirate",
    examples,
    onStep: ({ step }) => {
      if (step === 1) seen = engine.trainings.snapshot();
    },
  });
  assert.deepEqual(adapter.formats, ["gguf"]);
  assert.deepEqual([...new Uint8Array(await engine.adapters.export("pirate", "gguf").arrayBuffer())], [7]);
  assert.throws(() => engine.adapters.export("pirate", "peft"), InvalidRequestError);
  assert.ok((await seen) instanceof Blob);
  assert.deepEqual(await engine.trainings.resumable(), []);
});

test("an aborted training goes on from its checkpoint", async () => {
  page();
  const first = seen();
  const { engine } = await engineWith(first.script);
  const controller = new AbortController();
  const aborted = engine.train({
    name: "pirate",
    examples,
    signal: controller.signal,
    onStep: ({ step }) => step === 2 && controller.abort(),
  });
  await assert.rejects(aborted, AbortedError);
  assert.deepEqual(await engine.trainings.resumable(), ["pirate"]);
  await engine.dispose();

  const second = seen();
  const { engine: later } = await engineWith(second.script);
  const { curve } = await later.train({ name: "pirate", resume: true });
  assert.deepEqual(second.log, ["resume 2", "step", "end"]);
  assert.deepEqual(
    curve.map(({ loss }) => loss),
    [3, 2, 1],
  );
  assert.deepEqual(await later.trainings.resumable(), []);
  await assert.rejects(later.train({ name: "poet", resume: true }), /No training of poet/);
});

test("a training that keeps its checkpoint can go on with more epochs", async () => {
  page();
  const { engine } = await engineWith(seen().script);
  await engine.train({ name: "pirate", examples, keepCheckpoint: true });
  assert.deepEqual(await engine.trainings.resumable(), ["pirate"]);
  // This one is no safetensors file.
  const more = { name: "pirate", resume: true, epochs: 5 };
  await engine.adapters.unload("pirate");
  await assert.rejects(engine.train(more), /begin again/);
  await assert.rejects(engine.train({ ...more, epochs: -1 }), /`epochs` must be a whole number/);
  await engine.trainings.discard("pirate");
  assert.deepEqual(await engine.trainings.resumable(), []);

  // A file by safetensors' format: the length of the header, the header, the data.
  const state = {
    settings: { dpo: false, epochs: 3, learning_rate: 0.0005 },
    model: "m",
    step: 6,
    curve: [],
  };
  const header = {
    __metadata__: { format: "nomoat-training-1", state: JSON.stringify(state) },
    first: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
  };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + 4);
  new DataView(file.buffer).setUint32(0, text.length, true);
  file.set(text, 8);
  file.set([1, 2, 3, 4], 8 + text.length);
  const changed = new Uint8Array(await (await withEpochs(new Blob([file]), 1000)).arrayBuffer());
  const length = new DataView(changed.buffer).getUint32(0, true);
  assert.equal((8 + length) % 8, 0);
  const read = JSON.parse(new TextDecoder().decode(changed.slice(8, 8 + length))) as typeof header;
  assert.deepEqual(JSON.parse(read.__metadata__.state), {
    ...state,
    settings: { ...state.settings, epochs: 1000 },
  });
  assert.deepEqual(read.first, header.first);
  assert.deepEqual([...changed.slice(8 + length)], [1, 2, 3, 4]);
  for (const bad of [new Uint8Array(4), file.slice(0, 20), new Uint8Array(64).fill(255)])
    await assert.rejects(withEpochs(new Blob([bad]), 2), /begin again/);
});

test("a lost worker is replaced, and the training goes on", async () => {
  page();
  const { log, script } = seen();
  const lost = (what: string) => {
    if (what === "step" && log.filter((entry) => entry === "step").length === 1)
      throw Object.assign(new Error("lost"), { code: "device_lost" });
    log.push(what);
  };
  const { engine, workers } = await engineWith({ onTraining: lost }, script);
  const { curve } = await engine.train({ name: "pirate", examples });
  assert.equal(workers.length, 2);
  assert.equal(curve.length, 3);
  await assert.rejects(
    (
      await engineWith({
        onTraining: (what) => {
          if (what === "step") throw Object.assign(new Error("lost"), { code: "device_lost" });
        },
      })
    ).engine.train({ name: "poet", examples }),
    /lost/,
  );
});

test("what is learnt so far can be used while the training goes on", async () => {
  page();
  const { engine } = await engineWith(seen().script);
  await assert.rejects(engine.trainings.snapshot(), /not being taught now/);
  const looks: Promise<void>[] = [];
  await engine.train({
    name: "pirate",
    examples,
    onStep({ step }) {
      if (step !== 1) return;
      const look = async () => {
        await engine.adapters.load(await engine.trainings.snapshot(), { name: "so far" });
        await engine.chat.completions.create({ messages, adapters: [{ name: "so far" }] });
        await engine.adapters.unload("so far");
      };
      looks.push(look());
    },
  });
  await Promise.all(looks);
  assert.equal(looks.length, 1);
  assert.deepEqual(
    engine.adapters.list().map(({ name }) => name),
    ["pirate"],
  );
});

test("requests are answered between steps", async () => {
  page();
  const order: string[] = [];
  const { engine } = await engineWith({
    onTraining: (what) => order.push(what.split(" ")[0] ?? ""),
    onStart: () => order.push("answer"),
  });
  const training = engine.train({ name: "pirate", examples });
  await engine.chat.completions.create({ messages });
  await training;
  const at = order.indexOf("answer");
  assert.ok(at > 0 && order.slice(at).includes("step"), order.join());
});

test("an estimate measures two parts and keeps nothing", async () => {
  page();
  const { log, script } = seen();
  const { engine } = await engineWith(script);
  const { plan, seconds } = await engine.trainings.estimate({ examples });
  assert.equal(plan.bytes, 99);
  assert.ok(seconds > 0);
  assert.deepEqual(log.slice(1), ["step", "step", "end"]);
  assert.deepEqual(engine.adapters.list(), []);
});

test("a plan takes no step, and a training waits for it", async () => {
  page();
  const { log, script } = seen();
  const { engine } = await engineWith(script);
  const planned = engine.trainings.plan({ examples });
  const trained = engine.train({ name: "pirate", examples });
  // While the model is taught there is no other plan.
  const late = assert.rejects(engine.trainings.plan({ examples }), /being taught already/);
  assert.equal((await planned).bytes, 99);
  await Promise.all([trained, late]);
  const ends = log.flatMap((what, at) => (what === "end" ? [at] : []));
  assert.equal(ends[0], 1, log.join());
  assert.equal(ends.length, 2, log.join());
  await assert.rejects(engine.trainings.plan({ examples: [] }), /nothing to learn from/);
  // One that could not be made holds nothing up.
  assert.equal((await engine.trainings.plan({ examples })).bytes, 99);
});

test("what is wrong is named", () => {
  const wrong: [object, string][] = [
    [{}, "examples"],
    [{ examples: [] }, "examples"],
    [{ examples, preferences: [] }, "examples"],
    [{ examples: [{ messages: [{ role: "user" }] }] }, "examples[0].messages[0]"],
    [{ preferences: [{ messages, chosen: "a" }] }, "preferences[0].rejected"],
    [{ examples, rank: 1.5 }, "rank"],
    [{ examples, learningRate: NaN }, "learningRate"],
    [{ examples, targets: [1] }, "targets"],
    [{ examples, schedule: "linear" }, "schedule"],
  ];
  for (const [options, param] of wrong)
    assert.throws(
      () => toTraining(options as never),
      (error) => error instanceof InvalidRequestError && error.param === param,
      param,
    );
});
