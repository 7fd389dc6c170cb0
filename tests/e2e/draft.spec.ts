/** A draft model beside the model, in a browser. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { barePage, open } from "../support/bare.ts";
import { expect, SMALL_PATH, test } from "../support/fixtures.ts";
import { root } from "../support/places.ts";

const TINY = join(root, "tests/golden/tiny");
const [golden] = JSON.parse(readFileSync(join(TINY, "llama.json"), "utf8")) as {
  text: string;
  greedy_text: string;
}[];

for (const device of ["cpu", "webgpu"] as const)
  test(`a draft model changes no text, on ${device}`, async ({ shared, bare }) => {
    for (const name of ["llama", "mistral3"]) bare.files.set(`/${name}.gguf`, join(TINY, `${name}.gguf`));
    const page = await barePage(shared, bare);
    const answer = () =>
      page.evaluate(
        (prompt) => window.engine.completions.create({ model: "", prompt, max_tokens: 24, temperature: 0 }),
        golden?.text ?? "",
      );
    await open(page, { model: "/llama.gguf", device });
    const { gpuBytes, kvBytes } = await page.evaluate(() => window.engine.model);
    await page.evaluate(() => window.engine.dispose());
    // The model itself as its draft and, on the device that is not slow, one that knows nothing of what it
    // says.
    const drafts = [
      ["/llama.gguf", true],
      ["/mistral3.gguf", false],
    ] as const;
    for (const [draft, isRight] of device === "cpu" ? drafts : drafts.slice(0, 1)) {
      await open(page, { model: "/llama.gguf", draft, device });
      const model = await page.evaluate(() => window.engine.model);
      expect(model.draft).toBeTruthy();
      expect(model.kvBytes).toBeGreaterThan(kvBytes);
      expect(model.gpuBytes > gpuBytes).toBe(device === "webgpu");
      let [right, wrong] = [0, 0];
      // The draft model may read only a little of the prompt each time, until it has saved some.
      for (let round = 0; round < 100 && right + wrong === 0; round++) {
        const { choices, usage } = await answer();
        expect(choices[0]?.text).toBe(golden?.greedy_text);
        right += usage?.completion_tokens_details?.accepted_prediction_tokens ?? 0;
        wrong += usage?.completion_tokens_details?.rejected_prediction_tokens ?? 0;
      }
      if (isRight) expect(right).toBeGreaterThan(0);
      else expect(wrong).toBeGreaterThan(right);
      await page.evaluate(() => window.engine.dispose());
    }
    await page.close();
  });

test("a draft model with another vocabulary is refused", async ({ shared, bare }) => {
  bare.files.set("/llama.gguf", join(TINY, "llama.gguf"));
  const page = await barePage(shared, bare);
  const error = await page.evaluate(async (draft) => {
    const { createEngine, InvalidRequestError } = window.nomoat;
    try {
      await createEngine({ model: "/llama.gguf", draft, device: "cpu" });
    } catch (thrown) {
      return thrown instanceof InvalidRequestError ? [thrown.param, thrown.message] : String(thrown);
    }
    return null;
  }, SMALL_PATH);
  expect(error).toEqual(["draft", expect.stringContaining("its vocabulary has")]);
  await page.close();
});
