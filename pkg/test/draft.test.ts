import assert from "node:assert/strict";
import { test } from "node:test";
import { createEngineWith } from "../src/engine.js";
import { InvalidRequestError, ModelNotFoundError } from "../src/errors.js";
import type { LoadProgress } from "../src/protocol.js";
import { FakeWorker } from "./fake-worker.js";
import type { Script } from "./fakes.js";

const model = new File(["GGUF and more"], "large.gguf");
const draft = new File(["GGUF and a little"], "small.gguf");
const page = "https://page.test/";

test("a draft model is loaded after the model, and its memory counts", async () => {
  const steps: string[] = [];
  const script: Script = {
    onBegin: (options) => steps.push("draft" in options ? "draft" : "model"),
    onLoad: (step) => steps.push(step),
  };
  const reports: LoadProgress[] = [];
  const onProgress = (report: LoadProgress) => void reports.push(report);
  const engine = await createEngineWith({ model, draft, onProgress }, () => new FakeWorker(script), page);
  const one = ["header", "check", "prepare", "data", "finish"];
  // The fake says by `prepare` what the model is.
  assert.deepEqual(steps, ["model", ...one, "draft", ...one, "prepare"]);
  assert.deepEqual([engine.model.draft, engine.model.gpuBytes, engine.model.kvBytes], ["Small", 100, 11]);
  assert.equal((await engine.memory()).gpuBytes, 100);
  const ready = reports.filter(({ phase }) => phase === "ready");
  assert.deepEqual(ready.length, 1);
  assert.deepEqual([ready[0]?.isDraft, ready[0]?.total], [true, draft.size]);
  assert.ok(reports.some(({ isDraft, total }) => !isDraft && total === model.size));
  await engine.dispose();
});

test("without a draft model there is none", async () => {
  const engine = await createEngineWith({ model }, () => new FakeWorker({}), page);
  assert.equal(engine.model.draft, null);
  await engine.dispose();
});

test("a draft model with another vocabulary is refused by its header", async () => {
  const steps: string[] = [];
  let loads = 0;
  const script: Script = {
    onBegin: () => void loads++,
    onLoad: (step) => {
      steps.push(step);
      if (loads === 2 && step === "check")
        throw Object.assign(new Error("another vocabulary"), { code: "invalid_request" });
    },
  };
  const workers: FakeWorker[] = [];
  const spawn = () => {
    workers.push(new FakeWorker(script));
    return workers.at(-1) as FakeWorker;
  };
  await assert.rejects(createEngineWith({ model, draft }, spawn, page), (error) => {
    assert.ok(error instanceof InvalidRequestError);
    assert.deepEqual([error.param, error.message], ["draft", "another vocabulary"]);
    return true;
  });
  assert.equal(steps.filter((step) => step === "data").length, 1);
  assert.ok(workers[0]?.terminated);
});

test("a draft model comes back with a new worker", async () => {
  let loads = 0;
  const lost = () => {
    throw Object.assign(new Error("device lost"), { code: "device_lost" });
  };
  const scripts: Script[] = [{ onNext: lost }, { onBegin: () => void loads++ }];
  const spawn = () => new FakeWorker(scripts.shift() ?? {});
  const engine = await createEngineWith({ model, draft }, spawn, page);
  const messages = [{ role: "user" as const, content: "Hi" }];
  const answer = await engine.chat.completions.create({ messages });
  assert.equal(answer.choices[0]?.message.content, "Hello world!");
  assert.equal(loads, 2);
  await engine.dispose();
});

test("errors in the option name it", async () => {
  const spawn = () => new FakeWorker({});
  for (const [wrong, param] of [
    [{ url: [] }, "draft"],
    [{ url: "ftp://a/b.gguf" }, "draft.url"],
    [{ url: "/a.gguf", sha256: "1" }, "draft.sha256"],
    [[], "draft"],
  ] as const)
    await assert.rejects(createEngineWith({ model, draft: wrong as [] }, spawn, page), (error) => {
      assert.ok(error instanceof InvalidRequestError && !error.message.includes("`model"), String(error));
      return error.param === param;
    });
  await assert.rejects(createEngineWith({ model, draft: "unknown" }, spawn, page), ModelNotFoundError);
});
