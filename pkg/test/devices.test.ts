import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chooseDeviceOn,
  defaultThreads,
  loadInspector,
  openDevice,
  type Build,
  type Platform,
} from "../src/devices.js";
import { InternalError, NoSimdError, NoWebGpuError } from "../src/errors.js";
import { FakeRuntime, fakeInspector, fakeParser } from "./fakes.js";

interface Machine {
  adapter?: "real" | "software" | "broken";
  isolated?: boolean;
  simd?: boolean;
}

/** A browser on a machine of 16 cores, and what was asked of it. */
function browser({ adapter, isolated = true, simd = true }: Machine) {
  const loaded: [Build, number][] = [];
  const warnings: string[] = [];
  /** Kernels that the GPU build was opened with, and whether it was to measure. */
  const opened: [string, boolean][] = [];
  const kept = new Map<string, string>();
  const platform: Platform = {
    adapter: async () =>
      adapter ? { name: "fake", isFallback: adapter === "software", subgroupSize: 8, packedDot: true } : null,
    wasm: async () => ({ simd, relaxedSimd: true, threads: true, isolated, cores: 16 }),
    load: async (build, threads) => {
      loaded.push([build, threads]);
      const open = async (options: string) => {
        if (build === "gpu" && adapter === "broken") throw new Error("no luck");
        const { kernels, measure } = JSON.parse(options) as { kernels: string; measure: boolean };
        if (build === "gpu") opened.push([kernels, measure]);
        if (kernels === "of old") throw new Error("there are no such kernels");
        return new FakeRuntime({ kernels: measure ? "fast" : kernels });
      };
      return {
        memory: new WebAssembly.Memory({ initial: 1 }),
        Runtime: { open },
        Inspector: fakeInspector(),
      };
    },
    openPages: async () => null,
    loadParser: async () => fakeParser(),
    kernels: {
      get: async (name) => kept.get(name) ?? null,
      put: async (name, kernels) => void kept.set(name, kernels),
    },
    warn: (message) => warnings.push(message),
  };
  return { platform, loaded, warnings, opened, kept };
}

test("auto takes WebGPU on a real adapter and loads nothing else", async () => {
  const { platform, loaded } = browser({ adapter: "real" });
  await openDevice({ device: "auto", threads: null, kernels: "" }, platform);
  assert.deepEqual(loaded, [["gpu", 1]]);
});

test("auto takes the CPU on a software adapter, without an adapter, and where WebGPU fails", async () => {
  for (const [machine, reason, why] of [
    [{ adapter: "software" }, "software-adapter", /software/],
    [{}, "no-adapter", /no WebGPU adapter/],
    [{ adapter: "broken" }, "webgpu-failed", /no luck/],
  ] as const) {
    const { platform, loaded } = browser(machine);
    const device = await openDevice({ device: "auto", threads: null, kernels: "" }, platform);
    assert.equal(device.backend, "cpu");
    assert.equal(device.reason, reason);
    assert.match(device.why, why);
    assert.deepEqual(loaded.at(-1), ["cpu-threads", 8]);
  }
});

test("what was asked for is taken or fails", async () => {
  const { platform, loaded } = browser({ adapter: "broken" });
  await assert.rejects(openDevice({ device: "webgpu", threads: null, kernels: "" }, platform), /no luck/);
  await openDevice({ device: "cpu", threads: 3, kernels: "" }, platform);
  assert.deepEqual(loaded, [
    ["gpu", 1],
    ["cpu-threads", 3],
  ]);
});

test("without isolation there is one thread, and a hint if more were wanted", async () => {
  const { platform, loaded, warnings } = browser({ isolated: false });
  await openDevice({ device: "cpu", threads: 1, kernels: "" }, platform);
  assert.equal(warnings.length, 0);
  await openDevice({ device: "cpu", threads: null, kernels: "" }, platform);
  assert.deepEqual(
    loaded.map(([build]) => build),
    ["cpu", "cpu"],
  );
  assert.match(warnings[0] ?? "", /Cross-Origin-Opener-Policy/);
});

test("a browser without what is needed is told so before a build is loaded", async () => {
  for (const [machine, device, error] of [
    [{ simd: false }, "auto", NoSimdError],
    [{ simd: false, adapter: "software" }, "auto", NoSimdError],
    [{ simd: false, adapter: "real" }, "cpu", NoSimdError],
    [{}, "webgpu", NoWebGpuError],
  ] as const) {
    const { platform, loaded } = browser(machine);
    await assert.rejects(chooseDeviceOn(device, platform), error);
    await assert.rejects(openDevice({ device, threads: null, kernels: "" }, platform), error);
    assert.deepEqual(loaded, []);
  }
});

test("a failed WebGPU leaves nothing where there is no SIMD either", async () => {
  const { platform } = browser({ simd: false, adapter: "broken" });
  await assert.rejects(openDevice({ device: "auto", threads: null, kernels: "" }, platform), NoSimdError);
});

test("a choice can be told without opening it, and whether isolation would help", async () => {
  for (const [machine, device, chosen] of [
    [
      { adapter: "real", isolated: false },
      "auto",
      { backend: "webgpu", reason: "adapter", isolationHelps: false },
    ],
    [{ adapter: "real", isolated: false }, "cpu", { backend: "cpu", reason: "asked", isolationHelps: true }],
    [{ isolated: false }, "auto", { backend: "cpu", reason: "no-adapter", isolationHelps: true }],
    [{}, "auto", { backend: "cpu", reason: "no-adapter", isolationHelps: false }],
  ] as const) {
    const { platform, loaded } = browser(machine);
    assert.deepEqual(await chooseDeviceOn(device, platform), chosen);
    assert.deepEqual(loaded, []);
  }
});

test("the usual number of threads", () => {
  const cores = [1, 2, 4, 6, 8, 12, 16, 128];
  assert.deepEqual(cores.map(defaultThreads), [1, 2, 4, 4, 4, 6, 8, 8]);
});

test("a build that does not load is an error of its own", async () => {
  const { platform } = browser({});
  platform.load = () => Promise.reject(new Error("404"));
  await assert.rejects(openDevice({ device: "cpu", threads: null, kernels: "" }, platform), InternalError);
});

test("kernels are measured on an adapter's first use, then kept", async () => {
  const { platform, opened, kept } = browser({ adapter: "real" });
  const open = (kernels: string) => openDevice({ device: "auto", threads: null, kernels }, platform);
  await open("");
  await open("");
  assert.deepEqual(opened, [
    ["", true],
    ["fast", false],
  ]);
  kept.set("fake", "of old");
  await open("");
  assert.deepEqual(opened.slice(2), [
    ["of old", false],
    ["", true],
  ]);
  assert.equal(kept.get("fake"), "fast");
  await open("int8");
  assert.deepEqual(opened.at(-1), ["int8", false]);
});

test("software adapters and named kernels are not measured", async () => {
  const { platform, opened, kept } = browser({ adapter: "software" });
  await openDevice({ device: "webgpu", threads: null, kernels: "" }, platform);
  assert.deepEqual(opened, [["", false]]);
  assert.equal(kept.size, 0);
});

test("headers are read by the build of the device, without opening it", async () => {
  const { platform, loaded, opened } = browser({ adapter: "real" });
  for (const backend of ["webgpu", "cpu"] as const)
    assert.equal(typeof (await loadInspector(platform, backend)), "function");
  assert.deepEqual(
    [loaded, opened],
    [
      [
        ["gpu", 1],
        ["cpu", 1],
      ],
      [],
    ],
  );
});
