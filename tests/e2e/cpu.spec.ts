/** The CPU builds in Chromium: on threads, and on one where the page is not cross-origin isolated. */
import { readFileSync } from "node:fs";
import { barePage, complete, dispose, fromHub, open } from "../support/bare.ts";
import { expect, fromSite, test } from "../support/fixtures.ts";
import { agreement, type Golden } from "../support/golden.ts";
import { places } from "../support/places.ts";

const QUESTION = "What is the capital of France?";

test("auto takes the CPU where the adapter is software, and says why", async ({ shared, bare }) => {
  const page = await barePage(shared, bare);
  await open(page, { ...fromSite, device: "auto" });
  const device = await page.evaluate(() => window.engine.device);
  expect(device).toMatchObject({ backend: "cpu", driver: "wasm relaxed SIMD" });
  expect(device.why).toContain("software");
  await page.close();
});

test("any number of threads gives the same text", async ({ shared, bare }) => {
  const page = await barePage(shared, bare);
  const texts = new Set<string | null>();
  for (const threads of [1, 2, 3]) {
    await open(page, { ...fromSite, device: "cpu", threads });
    expect(await page.evaluate(() => window.engine.device.threads)).toBe(threads);
    texts.add((await complete(page, QUESTION, { max_tokens: 40 })).choices[0]?.message.content ?? null);
    await dispose(page);
  }
  expect(texts.size).toBe(1);
  await page.close();
});

for (const [how, isolated, kernels, top1, meanOff] of [
  ["on threads", true, "exact", 0.99, 0.01],
  ["on threads, with 8-bit activations", true, "int8", 0.97, 0.04],
  ["without isolation", false, "exact", 0.99, 0.01],
] as const) {
  test(`scores agree with llama.cpp's ${how}`, async ({ shared, bare }) => {
    const page = await barePage(shared, bare, isolated ? "/" : "/open/");
    const warnings: string[] = [];
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await open(page, { ...fromHub, device: "cpu", threads: 2, kernels });
    const device = await page.evaluate(() => window.engine.device);
    expect(device).toMatchObject({ backend: "cpu", threads: isolated ? 2 : 1, kernels });
    expect(warnings.some((text) => text.includes("Cross-Origin-Opener-Policy"))).toBe(!isolated);
    const golden = JSON.parse(readFileSync(places.golden, "utf8")) as Golden[];
    const result = await agreement(page, golden, false);
    console.log(`score parity, ${device.driver}, ${kernels}:`, JSON.stringify(result));
    expect(result.steps).toBeGreaterThan(100);
    expect(result.top1).toBeGreaterThanOrEqual(top1);
    expect(result.meanOff).toBeLessThanOrEqual(meanOff);
    await page.close();
  });
}
