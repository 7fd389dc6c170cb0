/** `cargo xtask bench reload`: how soon a long conversation goes on after a reload. Writes one JSON file. */
import { expect, test } from "@playwright/test";
import type { Page } from "@playwright/test";
import { writeFileSync } from "node:fs";
import type { ChatMessage } from "nomoat";
import { barePage, open, reloaded, startBareSite, type PlainOptions } from "../support/bare.ts";
import { launch } from "../support/browser.ts";
import { smol } from "../support/places.ts";

/** The plan of `cargo xtask`, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  rounds: number;
  /** Path of the results. */
  out: string;
}

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;

/** Sentences that differ, so that the text is no repetition; about 2,000 tokens. */
const STORY = Array.from(
  { length: 85 },
  (_, day) =>
    `On day ${day + 1} the boat sailed ${(day * 37) % 101} miles, and saw ${(day * 53) % 67} birds. `,
).join("");

/** Asks; gives the text, the time to the first token, and what of the prompt was there. */
function ask(page: Page, messages: ChatMessage[]) {
  return page.evaluate(async (conversation) => {
    const start = performance.now();
    let first = 0;
    let text = "";
    let usage;
    for await (const chunk of await window.engine.chat.completions.create({
      messages: conversation,
      temperature: 0,
      max_tokens: 32,
      stream: true,
      stream_options: { include_usage: true },
    })) {
      const piece = chunk.choices[0]?.delta.content ?? "";
      if (piece && !first) first = performance.now() - start;
      text += piece;
      usage = chunk.usage ?? usage;
    }
    const cached = usage?.prompt_tokens_details.cached_tokens ?? 0;
    return { text, firstMs: first, tokens: usage?.prompt_tokens ?? 0, cached };
  }, messages);
}

/** Whether everything that the engine keeps is stored. */
async function keeps(page: Page): Promise<void> {
  const count = () =>
    page.evaluate(async () => (await (await caches.open("nomoat-pages-v1")).keys()).map(({ url }) => url));
  await expect.poll(async () => (await count()).some((url) => url.endsWith("/uses"))).toBe(true);
}

test("bench reload", async () => {
  if (!plan) throw new Error("run this as `cargo xtask bench reload`");
  const site = await startBareSite();
  const browser = await launch({ webgpu: false });
  const page = await barePage(browser.context, site);
  const options: PlainOptions = {
    model: `${site.origin}${smol.hubPath}`,
    device: "cpu",
    contextLength: 4096,
    promptCacheBytes: 2 ** 28,
  };
  const question: ChatMessage[] = [{ role: "user", content: `${STORY}How long was the journey?` }];
  const rounds = [];
  for (let round = 0; round < plan.rounds; round++) {
    await page.evaluate(() => window.nomoat.deletePromptCache());
    await reloaded(page);
    await open(page, options);
    const begun = await ask(page, question);
    const messages: ChatMessage[] = [
      ...question,
      { role: "assistant", content: begun.text },
      { role: "user", content: "And what did the crew see on the first day?" },
    ];
    await keeps(page);
    const reload = async (isKept: boolean) => {
      if (!isKept) await page.evaluate(() => window.nomoat.deletePromptCache());
      await reloaded(page);
      await open(page, options);
      return ask(page, messages);
    };
    const kept = await reload(true);
    const anew = await reload(false);
    expect(kept.text).toBe(anew.text);
    expect(anew.cached).toBe(0);
    rounds.push({ kept, anew });
  }
  const device = await page.evaluate(() => window.engine.device.name);
  await browser.close();
  await site.stop();
  writeFileSync(plan.out, JSON.stringify({ device, rounds }));
});
