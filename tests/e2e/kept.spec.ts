/** Conversations go on after a reload without being read again. */
import type { Page } from "@playwright/test";
import type { Answer } from "../../web/src/history/records.ts";
import { barePage, dispose, open, reloaded, startBareSite } from "../support/bare.ts";
import { Chat, startChatSite, startHubSite } from "../support/chat.ts";
import { readHistory } from "../support/fake.ts";
import { expect, fromSite, onGpu, SMALL_PATH, test } from "../support/fixtures.ts";

/** Long enough for several pages. */
const QUESTION = "Tell me a long story about a small boat on a wide sea. ".repeat(10);

/** Keeps pages in the browser's storage. */
const KEEPING = { ...fromSite, promptCacheBytes: 2 ** 26 };

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

/** Changes the bytes of all that is stored; those of another entry come with them. */
function damage(
  page: Page,
  change: (bytes: Uint8Array<ArrayBuffer>, other: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>,
): Promise<void> {
  return page.evaluate(async (source) => {
    const changed = eval(source) as typeof change;
    const cache = await caches.open("nomoat-pages-v1");
    const keys = await cache.keys();
    const bodies = await Promise.all(
      keys.map(async (key) => new Uint8Array(await (await cache.match(key))!.arrayBuffer())),
    );
    for (const [index, key] of keys.entries()) {
      const other = bodies[(index + 1) % keys.length] ?? new Uint8Array();
      await cache.put(key, new Response(changed(bodies[index] ?? other, other)));
    }
  }, change.toString());
}

for (const options of [fromSite, onGpu]) {
  test(`a prompt is not read again after a reload, on ${options.device}`, async ({ shared, bare }) => {
    const page = await barePage(shared, bare);
    await page.evaluate(() => window.nomoat.deletePromptCache());
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    const first = await ask(page, QUESTION);
    expect(first.cached).toBe(0);
    await keeps(page);

    await reloaded(page);
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    const again = await ask(page, QUESTION);
    expect(again.text).toBe(first.text);
    expect(again.cached).toBeGreaterThan(100);

    // Damaged pages are computed.
    await reloaded(page);
    await damage(page, (bytes) => bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 1 : byte)));
    await open(page, { ...options, promptCacheBytes: 2 ** 26 });
    expect(await ask(page, QUESTION)).toEqual(first);

    // Nothing is left of what is forgotten.
    await page.evaluate(() => window.engine.forget());
    expect(await stored(page)).toEqual([]);
    expect(await ask(page, QUESTION)).toEqual(first);
    await page.close();
  });
}

/** Faults of stored pages: what becomes of their bytes. */
const FAULTS = {
  "cut in the middle": (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, bytes.length >> 1),
  "cut by a byte": (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, -1),
  empty: () => new Uint8Array(),
  "longer than they were": (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array([...bytes, 0]),
  "of another page": (_: Uint8Array<ArrayBuffer>, other: Uint8Array<ArrayBuffer>) => other,
};

test("pages with wrong bytes are computed, and stored again", async ({ shared, bare }) => {
  const page = await barePage(shared, bare);
  await page.evaluate(() => window.nomoat.deletePromptCache());
  await open(page, KEEPING);
  const first = await ask(page, QUESTION);
  await keeps(page);
  const n = (await stored(page)).length;
  for (const [fault, change] of Object.entries(FAULTS)) {
    await reloaded(page);
    await damage(page, change);
    await open(page, KEEPING);
    expect(await ask(page, QUESTION), fault).toEqual(first);
    await expect.poll(async () => (await stored(page)).length, fault).toBe(n);
  }
  await reloaded(page);
  await open(page, KEEPING);
  const again = await ask(page, QUESTION);
  expect(again.text).toBe(first.text);
  // Each restart finds the first wrong page of a prompt, and puts it right.
  expect(again.cached).toBeGreaterThan(0);
  await page.close();
});

test("a full storage changes no text", async ({ shared, small }) => {
  const site = await startBareSite();
  site.files.set(SMALL_PATH, small);
  const page = await barePage(shared, site);
  await open(page, KEEPING);
  const devtools = await shared.newCDPSession(page);
  // Less than the model takes: nothing more can be stored.
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.origin, quotaSize: 1000 });
  const first = await ask(page, QUESTION);
  expect(await ask(page, `Please. ${QUESTION}`)).toMatchObject({ cached: expect.any(Number) });
  expect((await ask(page, QUESTION)).text).toBe(first.text);
  expect(await stored(page)).toEqual([]);
  await dispose(page);
  await open(page, KEEPING);
  expect(await ask(page, QUESTION)).toEqual(first);
  // Once there is room, pages are stored.
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.origin });
  expect((await ask(page, QUESTION)).text).toBe(first.text);
  await keeps(page);
  await page.close();
  await site.stop();
});

test("a tab that is closed while it stores pages leaves nothing wrong", async ({ shared, bare }) => {
  const begin = async () => {
    const page = await barePage(shared, bare);
    await open(page, KEEPING);
    return page;
  };
  let page = await begin();
  await page.evaluate(() => window.nomoat.deletePromptCache());
  // Closed before a page is stored, and when there are some.
  for (const pages of [0, 1, 3]) {
    const question = `${pages}: ${QUESTION}`;
    const first = await ask(page, question);
    const before = (await stored(page)).length;
    while ((await stored(page)).length < before + pages);
    await page.close();
    page = await begin();
    expect((await ask(page, question)).text).toBe(first.text);
  }
  await page.close();
});

test("two tabs that store pages at once keep to the limit, and to their texts", async ({ shared, bare }) => {
  // Some ten pages: fewer than the conversations have.
  const options = { ...fromSite, promptCacheBytes: 500_000 };
  const tabs = await Promise.all([barePage(shared, bare), barePage(shared, bare)]);
  await tabs[0].evaluate(() => window.nomoat.deletePromptCache());
  const questions = ["one", "two", "three"].map((word) => `${word}. ${QUESTION}`);
  const round = async () => {
    await Promise.all(tabs.map((tab) => open(tab, options)));
    return Promise.all(
      tabs.map(async (tab, index) => {
        const texts = new Map<string, string | null>();
        // The same ones, in another order.
        for (const each of index === 0 ? questions : questions.toReversed())
          texts.set(each, (await ask(tab, each)).text);
        return questions.map((question) => texts.get(question));
      }),
    );
  };
  const [first, second] = await round();
  expect(second).toEqual(first);
  for (let rounds = 0; rounds < 2; rounds++) {
    await keeps(tabs[0]);
    await Promise.all(tabs.map((tab) => tab.reload()));
    await Promise.all(tabs.map((tab) => tab.waitForFunction(() => "nomoat" in window)));
    expect(await round()).toEqual([first, first]);
  }
  // An address ends with the bytes of its page.
  const total = async () => {
    const sizes = (await stored(tabs[0])).map((url) => Number(url.split("/").at(-1)));
    return sizes.filter(Number.isFinite).reduce((sum, bytes) => sum + bytes, 0);
  };
  await expect.poll(total).toBeLessThanOrEqual(500_000);
  expect(await total()).toBeGreaterThan(100_000);
  await Promise.all(tabs.map((tab) => tab.close()));
});

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
