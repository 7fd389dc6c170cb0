import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChatMessage } from "../src/chat.js";
import { AbortedError, InvalidRequestError, UnsupportedModelError } from "../src/errors.js";
import { toTraining, type TrainingStep } from "../src/training.js";
import { engineWith } from "./fake-worker.js";
import { MemoryCache, type Script } from "./fakes.js";

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

test("a GPU says that training needs the CPU", async () => {
  page();
  const { engine } = await engineWith({});
  await assert.rejects(
    engine.train({ name: "pirate", examples }),
    (error) => error instanceof UnsupportedModelError && error.message.includes('device: "cpu"'),
  );
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
