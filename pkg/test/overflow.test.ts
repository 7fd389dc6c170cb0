// What becomes of conversations that are longer than the context.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEngineWith } from "../src/engine.js";
import type { EngineOptions } from "../src/engine-types.js";
import { InvalidRequestError } from "../src/errors.js";
import { FakeWorker } from "./fake-worker.js";
import type { Script } from "./fakes.js";

const messages = [{ role: "user" as const, content: "Hi" }];

function engineOf(script: Script, options: Partial<EngineOptions> = {}) {
  const model = new File(["GGUF and more"], "m.gguf");
  return createEngineWith({ model, ...options }, () => new FakeWorker(script), "https://page.test/");
}

test("a request says it, and where it does not, the engine", async () => {
  const seen: unknown[] = [];
  const onStart = ({ context_overflow }: { context_overflow?: string }) => void seen.push(context_overflow);
  const engine = await engineOf({ onStart }, { contextOverflow: "truncate" });
  await engine.chat.completions.create({ messages });
  await engine.chat.completions.create({ messages, context_overflow: "shift" });
  await engine.completions.create({ prompt: "Hi" });
  const usual = await engineOf({ onStart });
  await usual.chat.completions.create({ messages });
  await usual.responses.create({ input: "Hi", truncation: "auto" });
  await usual.responses.create({ input: "Hi", truncation: "disabled" });
  assert.deepEqual(seen, ["truncate", "shift", "truncate", undefined, "truncate", "stop"]);
  await assert.rejects(
    engineOf({}, { contextOverflow: "drop" as "stop" }),
    (error) => error instanceof InvalidRequestError && error.param === "contextOverflow",
  );
});

test("the answer says how many messages are left out", async () => {
  for (const omittedMessages of [0, 4]) {
    const engine = await engineOf({ tokens: ["one"], omittedMessages });
    const expected = omittedMessages > 0 ? omittedMessages : undefined;
    const whole = await engine.chat.completions.create({ messages });
    assert.equal(whole.omitted_messages, expected);
    for (const n of [1, 2]) {
      const told: unknown[] = [];
      const stream = await engine.chat.completions.create({ messages, n, stream: true });
      for await (const chunk of stream) told.push(chunk.omitted_messages);
      assert.equal(told[0], expected);
      assert.equal(told.filter((count) => count !== undefined).length, expected === undefined ? 0 : n);
    }
  }
});
