/** `cargo xtask bench large`: a model of over 7 GB, on WebGPU and on the CPU. Writes one JSON file. */
import { expect, test } from "@playwright/test";
import { statSync, writeFileSync } from "node:fs";
import { barePage, dispose, open, openingError, startBareSite } from "../support/bare.ts";
import { launch } from "../support/browser.ts";

/** The plan of `cargo xtask`, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  model: string;
  prompt: string;
  tokens: number;
  /** Path of the results. */
  out: string;
}

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;
const PATH = "/large.gguf";

test("bench large", async () => {
  test.setTimeout(3_600_000);
  if (!plan) throw new Error("run this as `cargo xtask bench large`");
  const site = await startBareSite();
  site.files.set(PATH, plan.model);
  const browser = await launch({ webgpu: true });
  const page = await barePage(browser.context, site);
  const model = `${site.origin}${PATH}`;

  const refusal = await openingError(page, { model, device: "cpu", contextLength: 64 });
  const refusedAfterBytes = site.asked(PATH).reduce((sum, { sent }) => sum + sent, 0);
  expect(refusal).not.toBeNull();

  const start = performance.now();
  await open(page, { model, device: "webgpu", contextLength: 64 });
  const loadMs = performance.now() - start;
  const answer = await page.evaluate(
    async ([prompt, maxTokens]) => {
      const began = performance.now();
      let first = 0;
      let text = "";
      for await (const { choices } of await window.engine.completions.create({
        model: "",
        prompt,
        temperature: 0,
        max_tokens: maxTokens,
        stream: true,
      })) {
        const piece = choices[0]?.text ?? "";
        if (piece && !first) first = performance.now();
        text += piece;
      }
      const { wasmBytes } = await window.engine.memory();
      const { name, maxBufferSize } = window.engine.device;
      return {
        text,
        firstMs: first - began,
        tokenMs: (performance.now() - first) / Math.max(1, maxTokens - 1),
        wasmBytes,
        gpuBytes: window.engine.model.gpuBytes,
        adapter: name,
        maxBufferSize,
      };
    },
    [plan.prompt, plan.tokens] as const,
  );
  const maxBindingBytes = await page.evaluate(async () => {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter?.limits.maxStorageBufferBindingSize ?? 0;
  });
  await dispose(page);
  await browser.close();
  await site.stop();
  const fileBytes = statSync(plan.model).size;
  const results = {
    ...answer,
    fileBytes,
    loadMs,
    maxBindingBytes,
    refusedAfterBytes,
    refusal: refusal?.message,
  };
  writeFileSync(plan.out, JSON.stringify(results, null, 1));
});
