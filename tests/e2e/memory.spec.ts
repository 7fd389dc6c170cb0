/** The wasm memory that loading takes. It only ever grows, so its size afterwards is its peak. */
import { statSync } from "node:fs";
import { barePage, open } from "../support/bare.ts";
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
  await page.evaluate(async () => {
    await window.engine.dispose();
    for (const { key, name } of await window.nomoat.listStoredModels())
      if (name === "big") await window.nomoat.deleteStoredModel(key);
  });
  await page.close();
});
