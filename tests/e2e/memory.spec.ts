/**
 * The wasm memory that models take. It only ever grows, so its size afterwards is its peak. The models are
 * opened as files, which saves a download and a copy in the store.
 */
import { statSync } from "node:fs";
import { barePage, dispose, openFile } from "../support/bare.ts";
import { expect, test as base } from "../support/fixtures.ts";
import * as models from "../support/models.ts";
import { places } from "../support/places.ts";

const MIB = 1024 * 1024;

const test = base.extend<object, { big: string }>({
  big: [async ({ folder }, use) => use(models.big(folder)), { scope: "worker" }],
});

test("loading takes little wasm memory, for a file five times as large too", async ({
  shared,
  bare,
  big,
  smol,
}) => {
  expect(statSync(big).size).toBeGreaterThanOrEqual(5 * statSync(places.model).size);
  const page = await barePage(shared, bare);
  await openFile(page, big, { device: "webgpu" });
  const { wasmBytes } = await page.evaluate(() => window.engine.memory());
  console.log(`wasm memory: SmolLM2 ${smol.wasmBytes / MIB} MiB, five times as large ${wasmBytes / MIB} MiB`);
  expect(smol.wasmBytes).toBeGreaterThan(0);
  expect(smol.wasmBytes).toBeLessThanOrEqual(96 * MIB);
  expect(wasmBytes - smol.wasmBytes).toBeLessThanOrEqual(8 * MIB);
  // It computes.
  const { logprobs } = await page.evaluate(() => window.engine.score([1, 2683]));
  expect(logprobs).toHaveLength(1);
  expect(Number.isFinite(logprobs[0])).toBe(true);
  await page.close();
});

test("on the CPU, memory holds the weights once, the context and little else", async ({
  shared,
  bare,
  big,
}) => {
  const page = await barePage(shared, bare);
  for (const file of [places.model, big]) {
    await openFile(page, file, { device: "cpu", threads: 2 });
    // It computes, in chunks of prefill and one by one.
    for (const oneByOne of [false, true]) {
      const { logprobs } = await page.evaluate(
        (each) => window.engine.score([1, 2683, 198], { oneByOne: each }),
        oneByOne,
      );
      expect(logprobs.every(Number.isFinite)).toBe(true);
    }
    const { name, tensorBytes, kvBytes } = await page.evaluate(() => window.engine.model);
    const { wasmBytes } = await page.evaluate(() => window.engine.memory());
    const sizes = [wasmBytes, tensorBytes, kvBytes].map((bytes) => Math.round(bytes / MIB));
    console.log(`wasm memory on the CPU, ${name}: %d MiB; tensors %d MiB, keys and values %d MiB`, ...sizes);
    expect(wasmBytes).toBeGreaterThan(tensorBytes + kvBytes);
    expect(wasmBytes).toBeLessThanOrEqual(1.1 * tensorBytes + kvBytes + 64 * MIB);
    await dispose(page);
  }
  await page.close();
});
