/**
 * The built page in Chromium: from a first visit to a chat without a server. Where the device does not
 * matter, it is the CPU, because a software adapter needs seconds to open.
 */
import { statSync } from "node:fs";
import { Chat, MODEL_PATH, startChatSite } from "../support/chat.ts";
import { launch } from "../support/browser.ts";
import { expect, test } from "../support/fixtures.ts";
import { truncated } from "../support/models.ts";
import { shardRanges } from "../support/server.ts";
import { corruptShard, SHARD, shardsOf, storedShards } from "../support/store.ts";
import { startChat } from "../support/xtask.ts";

const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";

test("from a first visit to an answer without the server", async ({ shared }) => {
  // The server may have to build first.
  test.setTimeout(600_000);
  const server = await startChat();
  try {
    const chat = await Chat.open(shared, server.url);
    await expect(chat.model).toContainText("SmolLM2 135M Instruct");
    await chat.settings({ maxTokens: 32 });
    await chat.download.click();
    await expect(chat.progress).toHaveAttribute("aria-valuetext", /\d+% – [\d.]+\s\wB of 98.4\sMB/);
    await chat.ready();
    await expect(chat.progress).toBeHidden();
    await chat.ask(QUESTION);
    await expect(chat.stop).toBeVisible();
    await expect(chat.answer).toHaveText([ANSWER]);
    await chat.answered();
    await expect(chat.answer).toHaveText([ANSWER]);
    await expect(chat.log).toContainText(/8 tokens.*tokens\/s.*prompt 37/);
    await chat.page.evaluate(() => navigator.serviceWorker.ready);
    expect(chat.faults).toEqual([]);

    await server.kill();
    await expect(fetch(server.url)).rejects.toThrow();
    await chat.page.reload();
    await expect(chat.answer).toHaveText([ANSWER]);
    await chat.ready();
    await chat.newChat.click();
    await expect(chat.log.getByRole("article")).toHaveCount(0);
    await chat.ask(QUESTION);
    await expect(chat.answer).toHaveText([ANSWER]);
    await chat.answered();
    await expect(
      chat.page.getByRole("navigation").getByRole("button", { name: QUESTION, exact: true }),
    ).toHaveCount(2);
    await chat.page.close();
  } finally {
    await server.kill();
  }
});

test("Stop keeps what is there; a second visit shows it and downloads nothing", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.settings({ maxTokens: 2000 });
  // A question may come before the model: it waits, and Stop takes it back.
  await chat.ask(QUESTION);
  await expect(chat.log).toContainText("Your message will be answered as soon as the model is ready.");
  await chat.stop.click();
  await expect(chat.message).toHaveValue(QUESTION);
  await expect(chat.log.getByRole("article")).toHaveCount(0);
  await chat.send.click();
  await expect(chat.answer.first()).toContainText(/\S{2}/);
  await chat.stop.click();
  await expect(chat.log).toContainText("You stopped this answer.");
  const partial = await chat.answer.allTextContents();
  await chat.answered();
  await chat.page.evaluate(() => navigator.serviceWorker.ready);

  const since = site.log.length;
  await chat.page.reload();
  await expect(chat.answer).toHaveText(partial);
  await chat.ready("cpu");
  expect(site.asked(MODEL_PATH, since)).toEqual([]);

  await chat.newChat.click();
  await expect(chat.log.getByRole("article")).toHaveCount(0);
  await chat.page.getByRole("button", { name: QUESTION, exact: true }).first().click();
  await expect(chat.answer).toHaveText(partial);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("an interrupted download goes on after a reload; a damaged shard is fetched again", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  site.faults.set(MODEL_PATH, { cutAfter: 4.1 * SHARD, thenBusy: true });
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.download.click();
  await expect(chat.alert).toContainText("The connection failed");
  const kept = await storedShards(chat.page, MODEL_PATH);
  expect(kept.length).toBeGreaterThan(0);

  site.faults.delete(MODEL_PATH);
  await chat.page.reload();
  await expect(chat.model).toContainText("% downloaded");
  let since = site.log.length;
  await chat.download.click();
  await chat.ready("cpu");
  const fetched = shardRanges(site.asked(MODEL_PATH, since));
  expect(fetched).toHaveLength(shardsOf(small) - kept.length);
  for (const shard of kept) expect(fetched).not.toContain(shard);

  await corruptShard(chat.page, MODEL_PATH, 2);
  since = site.log.length;
  await chat.page.reload();
  await chat.ready("cpu");
  expect(shardRanges(site.asked(MODEL_PATH, since))).toEqual([`${2 * SHARD}-${3 * SHARD - 1}`]);
  await chat.page.close();
  await site.stop();
});

test("a file from the disk answers, by keyboard alone, and a damaged one leaves it there", async ({
  shared,
  small,
  folder,
}) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.settings({ maxTokens: 4 });
  const choose = async (file: string) => {
    await chat.model.click();
    const choosing = chat.page.waitForEvent("filechooser");
    await chat.page.getByRole("button", { name: "Open a GGUF file" }).click();
    await (await choosing).setFiles(file);
  };
  await choose(small);
  await chat.ready("cpu");
  expect(site.asked(MODEL_PATH)).toEqual([]);

  await chat.message.focus();
  await chat.page.keyboard.type("Hi");
  await chat.page.keyboard.press("Shift+Enter");
  await chat.page.keyboard.type("there");
  await expect(chat.message).toHaveValue("Hi\nthere");
  await chat.page.keyboard.press("Enter");
  await expect(chat.log.getByRole("article", { name: "You" })).toHaveText("Hi\nthere");
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  await expect(chat.message).toBeFocused();

  await choose(truncated(small, folder, 1_000_000));
  await expect(chat.page.locator(".bar")).toContainText("This file cannot be read as a model");
  await chat.ask("And now?");
  await expect(chat.log.getByRole("article")).toHaveCount(4);
  await chat.answered();
  await expect(chat.page.locator(".bar")).toHaveCount(0);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("everything has its name, in English and in Chinese, on a phone too", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  for (const part of [chat.message, chat.send, chat.newChat, chat.model, chat.log])
    await expect(part).toHaveCount(1);
  await expect(chat.send).toBeDisabled();
  await expect(chat.model).toContainText(
    `Small · ${Math.round(statSync(small).size / 1e6)} MB · not downloaded`,
  );
  expect(await nameless(chat)).toEqual([]);

  await chat.page.setViewportSize({ width: 390, height: 844 });
  for (const part of [chat.message, chat.send, chat.newChat, chat.model]) await expect(part).toBeInViewport();
  expect(await chat.page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  await chat.page.getByRole("button", { name: "Show conversations" }).click();
  await expect(chat.page.getByRole("dialog", { name: "Conversations" })).toBeVisible();
  await chat.page.keyboard.press("Escape");

  await chat.page.getByRole("button", { name: "Settings" }).click();
  await chat.page.getByRole("combobox", { name: "Language" }).selectOption("zh");
  await chat.page.keyboard.press("Escape");
  await expect(chat.page.locator("html")).toHaveAttribute("lang", "zh-Hans");
  await chat.page.reload();
  await expect(chat.page.getByRole("textbox", { name: "消息" })).toBeVisible();
  await expect(chat.page.getByRole("button", { name: "新对话" })).toBeVisible();
  // Only the model's own name is not translated.
  await expect(chat.page.getByText(/[A-Za-z]{4,}/).filter({ visible: true })).toHaveText(["Small"]);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("without the WebGPU that was chosen the page says so, before any download, and offers the CPU", async ({
  small,
}) => {
  const site = await startChatSite(small);
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin);
  await expect(chat.alert).toContainText("This browser offers no WebGPU");
  await chat.page.getByRole("button", { name: "Continue on the CPU" }).click();
  await expect(chat.download).toBeVisible();
  expect(site.asked(MODEL_PATH)).toEqual([]);
  await chat.download.click();
  await chat.ready("cpu");
  await browser.close();
  await site.stop();
});

/** Controls without an accessible name. */
function nameless(chat: Chat): Promise<string[]> {
  return chat.page.evaluate(() => {
    const controls = document.querySelectorAll<HTMLElement>(
      "button, input, select, textarea, [role=progressbar]",
    );
    const name = (control: HTMLElement) =>
      control.getAttribute("aria-label") ??
      (control.textContent || (control as HTMLInputElement).labels?.[0]?.textContent);
    return [...controls].filter((control) => !name(control)?.trim()).map((control) => control.outerHTML);
  });
}
