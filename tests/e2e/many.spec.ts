/** Many requests at once, through the package. */
import { barePage, open } from "../support/bare.ts";
import { expect, fromSite, test } from "../support/fixtures.ts";

/** Requests at once. Each is of one of so many kinds, so that few have to be asked alone. */
const [REQUESTS, KINDS] = [64, 12];

test("of 64 requests at once, those that are not aborted or invalid have the texts they have alone", async ({
  shared,
  bare,
}) => {
  const page = await barePage(shared, bare);
  await open(page, { ...fromSite, parallel: 2 });
  const seen = await page.evaluate(
    async ([requests, kinds]) => {
      const { engine } = window;
      const long = "Tell me a long story about a small boat on a wide sea. ".repeat(12);
      const params = (kind: number) => ({
        messages: [
          { role: "user" as const, content: kind % 4 === 3 ? `${kind}: ${long}` : `What is ${kind}?` },
        ],
        // Some are greedy, the others the same each time by their seed.
        temperature: kind % 2,
        seed: kind,
        max_tokens: 3 + (kind % 6),
      });
      const ask = async (request: number): Promise<string> => {
        const own = params(request % kinds);
        if (request % 8 === 5) {
          const tooLong = [{ role: "user" as const, content: long.repeat(10) }];
          const invalid = request % 16 === 5 ? { temperature: -1 } : { messages: tooLong };
          const answer = await engine.chat.completions.create({ ...own, ...invalid });
          return `not refused: ${answer.choices[0]?.message.content}`;
        }
        if (request % 8 !== 2) {
          const answer = await engine.chat.completions.create(own);
          return answer.choices[0]?.message.content ?? "";
        }
        const controller = new AbortController();
        // While it waits for its turn, or after its first word.
        if (request % 16 === 2) setTimeout(() => controller.abort());
        const options = { signal: controller.signal };
        const stream = await engine.chat.completions.create(
          { ...own, max_tokens: 99, stream: true },
          options,
        );
        for await (const chunk of stream) if (chunk.choices[0]?.delta.content) controller.abort();
        return "not aborted";
      };
      const all = async () => {
        const settled = await Promise.allSettled(Array.from({ length: requests }, (_, i) => ask(i)));
        return settled.map((one) =>
          one.status === "fulfilled" ? one.value : `${(one.reason as Error).name}`,
        );
      };
      const together = await all();
      const { wasmBytes } = await engine.memory();
      const again = await all();
      const growth = (await engine.memory()).wasmBytes - wasmBytes;
      const alone: string[] = [];
      for (let kind = 0; kind < kinds; kind++) {
        await engine.forget();
        const answer = await engine.chat.completions.create(params(kind));
        alone.push(answer.choices[0]?.message.content ?? "");
      }
      return { together, again, growth, alone };
    },
    [REQUESTS, KINDS] as const,
  );
  const expected = Array.from({ length: REQUESTS }, (_, request) => {
    if (request % 16 === 5) return "InvalidRequestError";
    if (request % 16 === 13) return "ContextLengthError";
    return request % 8 === 2 ? "AbortError" : (seen.alone[request % KINDS] ?? "");
  });
  expect(new Set(seen.alone).size).toBeGreaterThan(KINDS / 2);
  expect(seen.together).toEqual(expected);
  expect(seen.again).toEqual(expected);
  expect(seen.growth).toBe(0);
  await page.close();
});
