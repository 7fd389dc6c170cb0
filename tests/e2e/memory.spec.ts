/** The wasm memory that models take. It only ever grows, so its size afterwards is its peak. */
import type { Page } from "@playwright/test";
import { statSync } from "node:fs";
import { barePage, dispose, fromHub, open } from "../support/bare.ts";
import { expect, test } from "../support/fixtures.ts";
import * as models from "../support/models.ts";
import { places } from "../support/places.ts";

const MIB = 1024 * 1024;

test("loading takes little wasm memory, for a file five times as large too", async ({
  shared,
  bare,
  folder,
  smol,
}) => {
  const big = models.big(folder);
  expect(statSync(big).size).toBeGreaterThanOrEqual(5 * statSync(places.model).size);
  bare.files.set("/models/big.gguf", big);
  const page = await barePage(shared, bare);
  await open(page, { model: "/models/big.gguf", contextLength: 512, device: "webgpu" });
  const { wasmBytes } = await page.evaluate(() => window.engine.memory());
  console.log(`wasm memory: SmolLM2 ${smol.wasmBytes / MIB} MiB, five times as large ${wasmBytes / MIB} MiB`);
  expect(smol.wasmBytes).toBeGreaterThan(0);
  expect(smol.wasmBytes).toBeLessThanOrEqual(96 * MIB);
  expect(wasmBytes - smol.wasmBytes).toBeLessThanOrEqual(8 * MIB);
  // It computes.
  const { logprobs } = await page.evaluate(() => window.engine.score([1, 2683]));
  expect(logprobs).toHaveLength(1);
  expect(Number.isFinite(logprobs[0])).toBe(true);
  await forget(page);
});

test("on the CPU, memory holds the weights once, the context and little else", async ({
  shared,
  bare,
  folder,
}) => {
  bare.files.set("/models/big.gguf", models.big(folder));
  const page = await barePage(shared, bare);
  for (const options of [fromHub, { model: "/models/big.gguf", contextLength: 512 }]) {
    await open(page, { ...options, device: "cpu", threads: 2 });
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
  await forget(page);
});

/** Ends the engine and deletes the large model. */
async function forget(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await window.engine.dispose();
    for (const { key, name } of await window.nomoat.listStoredModels())
      if (name === "big") await window.nomoat.deleteStoredModel(key);
  });
  await page.close();
}
