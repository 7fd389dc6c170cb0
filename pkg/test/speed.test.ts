import assert from "node:assert/strict";
import { test } from "node:test";
import { AbortedError, NoWebGpuError } from "../src/errors.js";
import { expectedSpeed, keptSpeed, measureSpeedWith, type SpeedPlatform } from "../src/speed.js";
import { FakeWorker } from "./fake-worker.js";
import type { Script } from "./fakes.js";

interface Machine {
  adapter?: string;
  isolated?: boolean;
  script?: Script;
}

/** A browser on a machine of 16 cores, what it keeps, and the workers it has started. */
function browser({ adapter, isolated = true, script = {} }: Machine = {}) {
  const kept = new Map<string, string>();
  const workers: FakeWorker[] = [];
  let last: Promise<unknown> = Promise.resolve();
  const platform: SpeedPlatform = {
    adapter: async () =>
      adapter === undefined ? null : { name: adapter, isFallback: false, subgroupSize: 0, packedDot: false },
    wasm: async () => ({ simd: true, relaxedSimd: true, threads: true, isolated, cores: 16 }),
    spawn: () => {
      const worker = new FakeWorker(script);
      workers.push(worker);
      return worker;
    },
    kept: {
      get: async (name) => kept.get(name) ?? null,
      put: async (name, text) => void kept.set(name, text),
    },
    alone: (call) => {
      const result = last.then(call);
      last = result.catch(() => undefined);
      return result;
    },
  };
  return { platform, kept, workers };
}

const FOUND = { backend: "webgpu", bytesPerSecond: 4e9, secondsPerToken: 0.001 };

test("a device is measured once, and its worker ends", async () => {
  const { platform, workers, kept } = browser({ adapter: "Arc" });
  assert.equal(await keptSpeed("webgpu", platform), null);
  // At the same time, and later.
  const both = await Promise.all([measureSpeedWith({}, platform), measureSpeedWith({}, platform)]);
  assert.deepEqual([...both, await measureSpeedWith({}, platform)], [FOUND, FOUND, FOUND]);
  assert.deepEqual(await keptSpeed("webgpu", platform), FOUND);
  assert.equal(workers.length, 1);
  assert.ok(workers[0]?.terminated);
  assert.deepEqual([...kept.keys()], ["webgpu Arc"]);
});

test("another device is another measurement: adapter, threads", async () => {
  const names: string[] = [];
  for (const machine of [{ adapter: "Arc" }, {}, { isolated: false }] as Machine[]) {
    const { platform } = browser(machine);
    platform.kept.get = async (name) => {
      names.push(name);
      return null;
    };
    await keptSpeed(machine.adapter ? "webgpu" : "cpu", platform);
  }
  assert.deepEqual(names, ["webgpu Arc", "cpu 8 relaxed", "cpu 1 relaxed"]);
});

test("what was kept and makes no sense is measured again", async () => {
  for (const text of [
    "",
    "null",
    "[]",
    '{"bytesPerSecond":-1,"secondsPerToken":0}',
    '{"bytesPerSecond":1}',
  ]) {
    const { platform, kept, workers } = browser({ adapter: "Arc" });
    kept.set("webgpu Arc", text);
    assert.deepEqual(await measureSpeedWith({}, platform), FOUND, text);
    assert.equal(workers.length, 1);
  }
});

test("a measurement can be stopped, and fails without a device", async () => {
  const { platform, workers, kept } = browser({ adapter: "Arc" });
  await assert.rejects(measureSpeedWith({ signal: AbortSignal.abort() }, platform), AbortedError);
  assert.equal(workers.length, 0);
  const controller = new AbortController();
  const { spawn } = platform;
  platform.spawn = () => {
    const worker = spawn();
    setImmediate(() => controller.abort());
    return worker;
  };
  await assert.rejects(measureSpeedWith({ signal: controller.signal }, platform), AbortedError);
  assert.ok(workers[0]?.terminated);
  assert.equal(kept.size, 0);
  await assert.rejects(measureSpeedWith({ device: "webgpu" }, browser().platform), NoWebGpuError);
});

test("a failure is told, and the next measurement starts anew", async () => {
  let isBroken = true;
  const onMeasure = () => {
    if (isBroken) throw Object.assign(new Error("lost"), { code: "device_lost" });
  };
  const { platform, workers } = browser({ adapter: "Arc", script: { onMeasure } });
  await assert.rejects(measureSpeedWith({}, platform), /lost/);
  isBroken = false;
  assert.deepEqual(await measureSpeedWith({}, platform), FOUND);
  assert.ok(workers.length === 2 && workers.every(({ terminated }) => terminated));
});

test("a token takes its own time and that of reading", () => {
  const speed = { backend: "cpu", bytesPerSecond: 10e9, secondsPerToken: 0.01 } as const;
  // 1 GB: 0.1 s + 0.01 s.
  assert.ok(Math.abs((expectedSpeed(speed, 1e9) ?? 0) - 1 / 0.11) < 1e-9);
  assert.equal(expectedSpeed(speed, 0), null);
  assert.equal(expectedSpeed(null, 1e9), null);
});
