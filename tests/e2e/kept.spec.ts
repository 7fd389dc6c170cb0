/** Conversations go on after a reload without being read again. */
import type { Page } from "@playwright/test";
import type { Answer } from "../../web/src/history/records.ts";
import { barePage, open } from "../support/bare.ts";
import { Chat, startChatSite, startHubSite } from "../support/chat.ts";
import { readHistory } from "../support/fake.ts";
import { expect, fromSite, onGpu, test } from "../support/fixtures.ts";

/** Long enough for several pages. */
const QUESTION = "Tell me a long story about a small boat on a wide sea. ".repeat(10);

/** Asks, and gives the text and how many tokens of the prompt were there already. */
function ask(page: Page, content: string): Promise<{ text: string | null; cached: number | undefined }> {
  return page.evaluate(async (question) => {
    const messages = [{ role: "user" as const, content: question }];
    const answer = await window.engine.chat.completions.create({ messages, temperature: 0, max_tokens: 12 });
    const cached = answer.usage?.prompt_tokens_details?.cached_tokens;
    return { text: answer.choices[0]?.message.content ?? null, cached };
  }, content);
}

/** The addresses of what is stored of conversations. */
function stored(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    if (!(await caches.has("nomoat-pages-v1"))) return [];
    const requests = await (await caches.open("nomoat-pages-v1")).keys();
    return requests.map(({ url }) => url);
  });
}

/** Waits until something is stored; the uses come last. */
async function keeps(page: Page): Promise<void> {
  await expect.poll(async () => (await stored(page)).some((url) => url.endsWith("/uses"))).toBe(true);
}

for (const options of [fromSite, onGpu]) {
  test(`a prompt is not read again after a reload, on ${options.device}`, async ({ shared, bare }) => {
    const page = await barePage(shared, bare);
    await page.evaluate(() => window.nomoat.deletePromptCache());
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    const first = await ask(page, QUESTION);
    expect(first.cached).toBe(0);
    await keeps(page);

    await page.reload();
    await page.waitForFunction(() => "nomoat" in window);
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    const again = await ask(page, QUESTION);
    expect(again.text).toBe(first.text);
    expect(again.cached).toBeGreaterThan(100);

    // Damaged pages are computed.
    await page.reload();
    await page.waitForFunction(() => "nomoat" in window);
    await page.evaluate(async () => {
      const cache = await caches.open("nomoat-pages-v1");
      for (const request of await cache.keys()) {
        const body = await (await cache.match(request))?.arrayBuffer();
        const bytes = new Uint8Array(body ?? new ArrayBuffer(0));
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        await cache.put(request, new Response(bytes));
      }
    });
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    expect(await ask(page, QUESTION)).toEqual(first);

    // Nothing is left of what is forgotten.
    await page.evaluate(() => window.engine.forget());
    expect(await stored(page)).toEqual([]);
    expect(await ask(page, QUESTION)).toEqual(first);
    await page.close();
  });
}

test("a deleted conversation leaves nothing in the page's storage", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.settings({ maxTokens: 5 });
  await chat.ask(QUESTION);
  await chat.answered();
  await keeps(chat.page);
  chat.page.on("dialog", (dialog) => void dialog.accept());
  await chat.page.getByRole("button", { name: "Delete all" }).click();
  await expect.poll(() => stored(chat.page)).toEqual([]);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("an answer that a reload interrupts goes on to the text that it would have had", async ({ shared }) => {
  const site = await startHubSite();
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  await chat.settings({ maxTokens: 64 });
  await chat.download.click();
  await chat.ready("cpu");
  const answers = async () => {
    const { messages } = await page.evaluate(readHistory);
    return messages
      .filter(({ role }) => role === "assistant")
      .map((message) => message as unknown as Answer)
      .sort((a, b) => a.createdAt - b.createdAt);
  };
  const begin = async () => {
    await chat.ask("What is the capital of France?");
    await expect(chat.answer).toHaveText(["The capital of France is Paris."]);
    await chat.answered();
    await keeps(page);
    await chat.ask("Tell me a story about a small boat on a wide sea.");
    await expect(chat.answer.first()).toContainText(/(\S+ ){5}/);
  };
  await begin();
  await chat.answered();
  await chat.newChat.click();
  await expect(chat.log.getByRole("article")).toHaveCount(0);
  await begin();
  await expect(chat.stop).toBeVisible();
  await page.reload();
  await expect(chat.log).toContainText("Goes on after an interruption");
  await chat.ready("cpu");
  await chat.answered();
  await expect.poll(async () => (await answers()).at(-1)?.ending).toBe("length");
  const [, whole, , continued, ...others] = await answers();
  expect(others).toEqual([]);
  expect(whole?.completionTokens).toBe(64);
  expect(continued?.content).toBe(whole?.content);
  expect(continued?.completionTokens).toBe(64);
  // The turns before it were not read again.
  expect(continued?.cachedTokens).toBeGreaterThan(0);
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});
