/** Formats of keys and values, chosen through the package. */
import { barePage, dispose, open, textOf } from "../support/bare.ts";
import { expect, fromSite, onGpu, SMALL_PATH, test } from "../support/fixtures.ts";

/** Bytes of 32 numbers in ggml's blocks, and how far log-probabilities may be from those with f16. */
const FORMATS = [
  { kvFormat: "f16", bytes: 64, off: 0 },
  { kvFormat: "q8_0", bytes: 34, off: 0.05 },
  { kvFormat: "q4_0", bytes: 18, off: 0.7 },
] as const;

const QUESTION = "Tell me a long story about a small boat on a wide sea. ".repeat(3);

for (const options of [fromSite, onGpu])
  test(`keys and values in each format, on ${options.device}`, async ({ shared, bare }) => {
    const page = await barePage(shared, bare);
    let exact: number[] = [];
    // A software adapter takes half a minute for each.
    const formats = options === onGpu ? FORMATS.filter(({ kvFormat }) => kvFormat !== "q8_0") : FORMATS;
    for (const { kvFormat, bytes, off } of formats) {
      // What is said before a download is what it takes.
      const inspected = await page.evaluate((given) => window.nomoat.inspectModel(given.model, given), {
        ...options,
        model: SMALL_PATH,
        kvFormat,
      });
      await open(page, { ...options, parallel: 1, kvFormat });
      const { kvBytes } = await page.evaluate(() => window.engine.model);
      // Two layers of three heads of 64 numbers, for keys and for values.
      expect([kvFormat, kvBytes]).toEqual([kvFormat, (512 * 2 * 2 * 3 * 64 * bytes) / 32]);
      expect(inspected.kvBytes).toBe(kvBytes);

      const { logprobs } = await page.evaluate(
        async (question) => window.engine.score(await window.engine.tokenize(question)),
        QUESTION,
      );
      const text = await textOf(page, QUESTION, 8);
      if (kvFormat === "f16") exact = logprobs;
      const apart =
        logprobs.reduce((sum, one, i) => sum + Math.abs(one - (exact[i] ?? NaN)), 0) / logprobs.length;
      console.log(
        `${options.device}, ${kvFormat}: log-probabilities are ${apart.toFixed(5)} from those with f16`,
      );
      expect(apart).toBeLessThanOrEqual(off);
      expect(apart > 0).toBe(kvFormat !== "f16");
      // The second time, the prompt's keys and values are there.
      expect(await textOf(page, QUESTION, 8)).toBe(text);
      await dispose(page);
    }
    await page.close();
  });
