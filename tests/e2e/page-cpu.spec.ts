/** The built page on the CPU: without a GPU, after a GPU failed, and on hosts without isolating headers. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DEVICE_HOOK } from "../support/bare.ts";
import { launch } from "../support/browser.ts";
import { Chat, MODEL_PATH, startChatSite, startHubSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import { fileText } from "../support/server.ts";
import { places, smol } from "../support/places.ts";

const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";

test("without WebGPU the page answers on the CPU, and without the server", async () => {
  const site = await startHubSite();
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin, "auto");
  await chat.settings({ maxTokens: 32 });
  await chat.download.click();
  await chat.ready("auto");
  await expect(chat.device).toContainText(/[2-8] threads.*no GPU found/);
  await chat.ask(QUESTION);
  await expect(chat.answer).toHaveText([ANSWER]);
  await chat.answered();
  expect(site.asked(smol.hubPath).length).toBeGreaterThan(0);
  await chat.page.evaluate(() => navigator.serviceWorker.ready);
  expect(chat.faults).toEqual([]);

  await site.stop();
  await chat.page.reload();
  await chat.ready("auto");
  await chat.newChat.click();
  await chat.ask(QUESTION);
  await chat.answered();
  await expect(chat.answer).toHaveText([ANSWER]);
  await browser.close();
});

test("a software adapter leaves it to the CPU; the settings choose another device", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "auto");
  await chat.download.click();
  await chat.ready("auto");
  await expect(chat.device).toContainText("no real GPU found");
  const since = site.log.length;
  await chat.choose("GPU (WebGPU)");
  await chat.ready("webgpu");
  await chat.choose("CPU");
  await chat.ready("cpu");
  await chat.page.reload();
  await chat.ready("cpu");
  expect(site.asked(MODEL_PATH, since)).toEqual([]);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("after a GPU that is lost for good the conversation goes on on the CPU", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const worker = readdirSync(join(places.page, "assets")).find((name) => /^worker-.*\.js$/.test(name)) ?? "";
  site.texts.set(`/assets/${worker}`, fileText(join(places.page, "assets"), worker) + DEVICE_HOOK);
  const chat = await Chat.open(shared, site.origin);
  await chat.settings({ maxTokens: 24 });
  await chat.download.click();
  await chat.ready();
  await chat.ask(QUESTION);
  await expect(chat.answer.first()).toContainText(/\S{2}/);
  // The first time it is rebuilt.
  await expect(async () => {
    for (const thread of chat.page.workers())
      await thread.evaluate(() => (self as unknown as { device?: GPUDevice }).device?.destroy());
    await expect(chat.alert).toBeVisible({ timeout: 500 });
  }).toPass();
  await expect(chat.alert).toContainText("The connection to the graphics device was lost");

  const since = site.log.length;
  await chat.page.getByRole("button", { name: "Continue on the CPU" }).click();
  await chat.ready("cpu");
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  await expect(chat.alert).toBeHidden();
  await expect(chat.log.getByRole("article", { name: "You" })).toHaveText([QUESTION]);
  await expect(chat.log.getByRole("article")).toHaveCount(2);
  expect(site.asked(MODEL_PATH, since)).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("on a host without the headers the page reloads itself once and has threads", async ({ small }) => {
  const site = await startChatSite(small);
  site.open.add("/");
  const browser = await launch({ webgpu: false });
  await browser.context.addInitScript(() => {
    const visits = Number(sessionStorage.getItem("visits") ?? 0);
    sessionStorage.setItem("visits", String(visits + 1));
  });
  const chat = await Chat.open(browser.context, site.origin, "auto");
  const visits = () => chat.page.evaluate(() => Number(sessionStorage.getItem("visits")));
  await chat.isolated();
  await chat.download.click();
  await chat.ready("auto");
  await expect(chat.device).toContainText(/[2-8] threads/);
  await chat.settings({ maxTokens: 4 });
  await chat.ask(QUESTION);
  await expect(chat.log).toContainText("The answer reached the limit of tokens set in Settings.");
  expect(await visits()).toBe(2);
  await chat.page.reload();
  await chat.ready("auto");
  await chat.isolated();
  expect(await visits()).toBe(3);
  expect(chat.faults).toEqual([]);
  await browser.close();
  await site.stop();
});

test("a download that the reload interrupts goes on by itself", async ({ small }) => {
  const site = await startChatSite(small);
  site.open.add("/");
  site.faults.set("/sw.js", { delay: 2000 });
  site.faults.set(MODEL_PATH, { delay: 2500 });
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin, "auto");
  await chat.download.click();
  await chat.isolated();
  site.faults.delete(MODEL_PATH);
  await chat.ready("auto");
  await expect(chat.device).toContainText(/[2-8] threads/);
  await browser.close();
  await site.stop();
});

test("a person who has begun to write is not interrupted", async ({ small }) => {
  const site = await startChatSite(small);
  site.open.add("/");
  site.faults.set("/sw.js", { delay: 2000 });
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin, "auto");
  await chat.message.fill(QUESTION);
  await chat.page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await expect(chat.message).toHaveValue(QUESTION);
  expect(await chat.page.evaluate(() => crossOriginIsolated)).toBe(false);
  await browser.close();
  await site.stop();
});

test("without isolation and a service worker it runs on one thread, and says how to get more", async () => {
  const site = await startHubSite();
  site.open.add("/");
  const browser = await launch({ webgpu: false, serviceWorkers: "block" });
  const chat = await Chat.open(browser.context, site.origin, "auto");
  const warnings: string[] = [];
  chat.page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
  await chat.settings({ maxTokens: 32 });
  await chat.download.click();
  await chat.ready("auto");
  await expect(chat.device).toContainText("1 thread ");
  await chat.ask(QUESTION);
  await expect(chat.answer).toHaveText([ANSWER]);
  expect(warnings.some((text) => text.includes("Cross-Origin-Opener-Policy"))).toBe(true);
  await browser.close();
  await site.stop();
});
