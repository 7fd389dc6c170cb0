/**
 * What goes wrong around the page: workers that vanish, files that are no models, networks, updates, long
 * texts.
 */
import type { Page, Worker } from "@playwright/test";
import { launch } from "../support/browser.ts";
import { Chat, MODEL_PATH, startChatSite } from "../support/chat.ts";
import { startFakeSite, Tab } from "../support/fake.ts";
import { expect, test } from "../support/fixtures.ts";
import { places } from "../support/places.ts";
import { fileText, shardRanges, type Logged } from "../support/server.ts";
import { SHARD, storedShards } from "../support/store.ts";

const QUESTION = "What is the capital of France?";

/** Requests that begin in the middle of a shard. */
function resumed(asked: Logged[]): string[] {
  return shardRanges(asked).filter((range) => Number(range.split("-", 1)[0]) % SHARD !== 0);
}

function workerOf(page: Page): Worker {
  const worker = page.workers().findLast((candidate) => /\/worker-/.test(candidate.url()));
  if (worker === undefined) throw new Error("there is no worker");
  return worker;
}

/** Ends the package's worker from within: the page is told nothing. */
async function vanish(page: Page): Promise<void> {
  await workerOf(page)
    .evaluate(() => self.close())
    .catch(() => undefined);
}

/** Lets the package's worker compute something else for ever. */
async function hang(page: Page): Promise<void> {
  void workerOf(page)
    .evaluate(() => {
      for (;;);
    })
    .catch(() => undefined);
}

test("a worker that vanishes or hangs is replaced, and its answer goes on", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, "about:blank", "cpu");
  // The worker's signs of life are expected ten times as often.
  await chat.page.addInitScript(() => {
    const plain = setInterval;
    window.setInterval = ((act: () => void, ms: number) => plain(act, ms / 10)) as typeof setInterval;
  });
  await chat.page.goto(site.origin);
  await chat.settings({ maxTokens: 300 });
  await chat.download.click();
  await chat.ready("cpu");
  await chat.ask(QUESTION);
  await expect(chat.log.locator(".answer .figures")).toContainText(/[2-9]\d tokens/);
  await vanish(chat.page);
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  await expect(chat.alert).toHaveCount(0);
  const continued = await chat.log.locator(".answer .markdown").textContent();
  // The same answer without an accident.
  await chat.newChat.click();
  await chat.ask(QUESTION);
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  expect(continued).toBe(await chat.log.locator(".answer .markdown").textContent());
  // It lives, but it does nothing any more.
  await chat.newChat.click();
  await chat.ask(QUESTION);
  await expect(chat.log.locator(".answer .figures")).toContainText(/[2-9]\d tokens/);
  const before = workerOf(chat.page);
  await hang(chat.page);
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  expect(workerOf(chat.page)).not.toBe(before);
  expect(continued).toBe(await chat.log.locator(".answer .markdown").textContent());
  // While nothing runs, the next question finds the worker gone.
  await vanish(chat.page);
  await chat.ask("And of Italy?");
  await expect(chat.log).toContainText(/And of Italy[^]*The answer reached the limit/);
  await chat.page.close();
  await site.stop();
});

test("a message longer than the context does no harm, and a conversation goes on past it", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.page.getByRole("button", { name: "Settings" }).click();
  await chat.page.getByRole("combobox", { name: "Context length" }).selectOption("1024");
  await chat.page.keyboard.press("Escape");
  await chat.settings({ maxTokens: 250 });
  await chat.download.click();
  await chat.ready("cpu");
  await chat.ask("word ".repeat(1500));
  await expect(chat.alert).toContainText("The message is longer than the model’s context");
  await chat.alert.getByRole("button", { name: "Remove the message" }).click();
  // Half an emoji reaches the runtime as a whole character.
  await chat.ask("Hi \ud83d there");
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  for (const question of ["one", "two", "three", "four"]) {
    await chat.ask(question);
    await expect(chat.stop).toBeVisible();
    await chat.answered();
  }
  await expect(chat.alert).toHaveCount(0);
  await expect(chat.log.getByText(/The first \d+ messages were left out\./).last()).toBeVisible();
  await expect(chat.log.getByRole("article")).toHaveCount(10);
  await chat.page.close();
  await site.stop();
});

test("a cut download goes on by itself where it was; what is left of one can be deleted", async ({
  small,
}) => {
  const site = await startChatSite(small);
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin, "cpu");
  // Three times all connections are cut; the network is gone for a moment after the second.
  site.faults.set(MODEL_PATH, { pace: 4, cutAfter: 0.6 * SHARD });
  const sent = () => site.asked(MODEL_PATH).reduce((sum, entry) => sum + entry.sent, 0);
  const cut = (bytes: number) => expect.poll(sent).toBeGreaterThanOrEqual(Math.floor(bytes));
  await chat.download.click();
  await cut(0.6 * SHARD);
  site.faults.set(MODEL_PATH, { pace: 4, cutAfter: 2.3 * SHARD });
  await cut(2.3 * SHARD);
  expect(resumed(site.asked(MODEL_PATH)).length).toBeGreaterThan(0);
  await browser.context.setOffline(true);
  await expect(chat.alert).toContainText("The connection failed");
  site.faults.set(MODEL_PATH, { pace: 4, cutAfter: 3.2 * SHARD });
  let since = site.log.length;
  await browser.context.setOffline(false);
  await cut(3.2 * SHARD);
  site.faults.delete(MODEL_PATH);
  await chat.ready("cpu");
  // What had arrived before the failure was kept in the store, and in the middle of shards, too.
  expect(resumed(site.asked(MODEL_PATH, since)).length).toBeGreaterThan(0);

  // A shard that is missing, and no network: it is the network that is to blame, and it is waited for.
  await chat.page.evaluate(async () => {
    const cache = await caches.open("nomoat-models-v1");
    const shards = (await cache.keys()).filter(({ url }) => url.includes("/shard/"));
    await cache.delete(shards[1] ?? "");
  });
  await browser.context.setOffline(true);
  await chat.page.reload();
  await expect(chat.alert).toContainText("The connection failed");
  since = site.log.length;
  await browser.context.setOffline(false);
  await chat.ready("cpu");
  expect(shardRanges(site.asked(MODEL_PATH, since))).toHaveLength(1);

  // Shards that no manifest tells of.
  await chat.page.evaluate(async () => {
    const cache = await caches.open("nomoat-models-v1");
    for (const { url } of await cache.keys()) if (url.includes("/manifest/")) await cache.delete(url);
  });
  await chat.page.getByRole("button", { name: "Storage" }).click();
  const dialog = chat.page.getByRole("dialog", { name: "Storage" });
  await expect(dialog).toContainText("Remains of a download");
  await dialog.getByRole("button", { name: "Delete Remains of a download" }).click();
  await expect(dialog).toContainText("No model is stored yet.");
  expect(await storedShards(chat.page)).toEqual([]);
  await browser.close();
  await site.stop();
});

test("an update waits for the answers of other tabs, and keeps what was typed", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const first = await Chat.open(shared, site.origin, "cpu");
  await first.download.click();
  await first.ready("cpu");
  await first.page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const second = await Chat.open(shared, site.origin, "cpu");
  await second.settings({ maxTokens: 400 });
  await second.ready("cpu");
  site.texts.set("/sw.js", `${fileText(places.page, "sw.js")}\n// newer`);
  for (const { page } of [first, second])
    await page.evaluate(() => Object.assign(window, { sameDocument: true }));
  await first.page.evaluate(async () => (await navigator.serviceWorker.ready).update());
  await expect(first.page.getByText("A new version is ready")).toBeVisible();
  await second.ask(QUESTION);
  await expect(second.answer.first()).toContainText(/\S{2}/);
  await second.message.fill("a draft");
  await first.message.fill("another draft");
  await first.page.getByRole("button", { name: "Reload" }).click();
  await first.page.waitForFunction(() => !("sameDocument" in window));
  await expect(first.message).toHaveValue("another draft");
  await expect(second.log).toContainText("The answer reached the limit of tokens set in Settings.");
  await second.page.waitForFunction(() => !("sameDocument" in window));
  await expect(second.log).toContainText("The answer reached the limit of tokens set in Settings.");
  await expect(second.message).toHaveValue("a draft");
  await first.page.close();
  await second.page.close();
  await site.stop();
});

test("files that are no model, and a text that is too long, leave everything as it is", async ({
  shared,
}) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site, "/?stored&slow-answer");
  await tab.message.fill("one");
  await tab.message.press("Enter");
  await expect(tab.answers).toContainText(/\S{2}/);
  const drop = (files: [name: string, text: string][]) =>
    tab.page.evaluate((given) => {
      const dataTransfer = new DataTransfer();
      for (const [name, text] of given) dataTransfer.items.add(new File([text], name));
      dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
    }, files);
  await drop([["notes.txt", "no model"]]);
  await expect(tab.bar).toContainText("“notes.txt” is not a GGUF file.");
  await drop([["page.gguf", "<!doctype html>"]]);
  await expect(tab.bar).toContainText("“page.gguf” is not a GGUF file.");
  await drop([
    ["one.gguf", "GGUF"],
    ["two.gguf", "GGUF"],
  ]);
  await expect(tab.bar).toContainText("These files do not form a model");
  await drop([
    ["m-00001-of-00003.gguf", "GGUF"],
    ["m-00003-of-00003.gguf", "GGUF"],
  ]);
  await expect(tab.bar).toContainText("all the parts of one split model together");
  // These look like models until their header is read, the last one until it is loaded.
  const model = tab.page.getByRole("button", { name: /^Model: / });
  const chosen = (await model.textContent()) ?? "";
  for (const word of ["damaged", "late"]) {
    await drop([[`${word}.gguf`, `GGUF ${word}`]]);
    await expect(tab.bar).toContainText("Reading the header");
    await expect(tab.bar).toContainText("This file cannot be read as a model");
    await expect(model).toHaveText(chosen);
    await expect(tab.button("Stop")).toBeVisible();
    await expect(tab.page.locator(".device")).toBeVisible();
  }
  // A model that does not run here gets the verdict that a named one gets.
  await drop([["moe.gguf", "GGUF"]]);
  const dialog = tab.page.getByRole("dialog", { name: "Models" });
  await expect(dialog.getByText("Does not run here")).toBeVisible();
  await expect(dialog).toContainText("the model needs a mixture of experts");
  await expect(tab.bar).toHaveCount(0);
  await tab.page.keyboard.press("Escape");
  await expect(model).toHaveText(chosen);
  await expect(tab.button("Stop")).toBeVisible();
  const written = (await tab.answers.textContent()) ?? "";
  await expect(tab.answers).not.toHaveText(written);

  await shared.grantPermissions(["clipboard-read", "clipboard-write"]);
  await tab.page.evaluate(() => navigator.clipboard.writeText("pasted ".repeat(640_000)));
  await tab.message.fill("typed");
  await tab.message.press("Control+V");
  await expect(tab.bar).toContainText("This text has 4,480,005 characters");
  await expect(tab.message).toHaveValue("typed");
  await tab.bar.getByRole("button", { name: "Close" }).click();
  await expect(tab.bar).toHaveCount(0);
  await tab.page.evaluate(() => navigator.clipboard.writeText("pasted"));
  await tab.message.press("Control+V");
  await expect(tab.message).toHaveValue("typedpasted");
  // A file that has no room here is refused before it is read.
  await tab.page.goto(`${site.origin}/?stored&slow-answer&memory=0.2`);
  await tab.message.fill("two");
  await tab.message.press("Enter");
  await expect(tab.button("Stop")).toBeVisible();
  await tab.page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["GGUF", new ArrayBuffer(3e8)], "large.gguf"));
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
  });
  await expect(dialog.getByRole("alert")).toContainText("Not enough memory for this model");
  await expect(dialog.getByRole("alert")).toContainText("large.gguf has 0.3 GB, which is more than");
  await expect(dialog.getByRole("button", { name: "Try again" })).toHaveCount(0);
  await tab.page.keyboard.press("Escape");
  await expect(tab.button("Stop")).toBeVisible();
  // One that runs is loaded.
  await tab.page.goto(`${site.origin}/?stored&echo`);
  await expect(model).toHaveText(chosen);
  await drop([["good.gguf", "GGUF"]]);
  await expect(model).toContainText("good");
  await tab.ask("three");
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("on a plain host the page has a policy of its own", async ({ shared }) => {
  const site = await startFakeSite();
  site.open.add("/");
  const tab = await Tab.open(shared, site);
  await tab.ask("one");
  const blocked = await tab.page.evaluate(
    () =>
      new Promise<string>((resolve) => {
        addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.injected = true";
        document.body.append(script);
      }),
  );
  expect(blocked).toBe("script-src-elem");
  expect(await tab.page.evaluate(() => "injected" in window)).toBe(false);
  await tab.page.close();
  await site.stop();
});
