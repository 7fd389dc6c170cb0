/** The arena with two models that really run, on the CPU: beside each other, and in turns. */
import { statSync } from "node:fs";
import { launch } from "../support/browser.ts";
import { Chat, MODEL_PATH, startChatSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";

const OTHER_PATH = "/models/other.gguf";

for (const [memory, words] of [
  [8, "There is room for two"],
  // Half a gigabyte has room for one of them and its context.
  [1, "no room for two"],
] as const)
  test(`two models on this device with ${memory} GB`, async ({ small }) => {
    const site = await startChatSite(small);
    site.files.set(OTHER_PATH, small);
    const entry = (id: string, url: string) => ({ id, name: id, url, size: statSync(small).size });
    const models = [entry("first", MODEL_PATH), entry("other", OTHER_PATH)];
    site.texts.set("/config.json", JSON.stringify({ models, default_model: "first" }));
    const browser = await launch({ webgpu: false });
    await browser.context.addInitScript(
      (gigabytes) =>
        Object.defineProperty(navigator, "deviceMemory", { value: gigabytes, configurable: true }),
      memory,
    );
    const chat = await Chat.open(browser.context, site.origin, "cpu");
    const { page } = chat;
    await chat.settings({ maxTokens: 8 });
    await chat.model.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("option", { name: /^other/ }).click();
    await dialog.getByRole("button", { name: "Download for later" }).click();
    await expect(dialog.getByRole("option", { name: /^other/ })).toContainText("on this device");
    await page.keyboard.press("Escape");
    await chat.download.click();
    await chat.ready("cpu");

    await page.getByRole("button", { name: "Arena" }).click();
    const arena = page.getByRole("dialog", { name: "Arena" });
    await arena.getByText(/^Taking part/).click();
    await arena.getByRole("checkbox", { name: "other", exact: true }).check();
    // Of the model in use it takes part as it is, and with another temperature.
    await arena.getByRole("checkbox", { name: "first @ temperature 0.7" }).uncheck();
    await expect(arena).toContainText(words);
    for (let round = 0; round < 2; round += 1) {
      await arena.getByRole("textbox", { name: "Question to both" }).fill("Who are you?");
      await arena.getByRole("button", { name: "Ask both" }).click();
      await arena.getByRole("button", { name: "Both are equally good" }).click();
      // The same file gives the same answer.
      const [a, b] = await arena.getByRole("article").locator(".markdown").allTextContents();
      expect(a).toBe(b);
      expect(a?.trim()).not.toBe("");
      await arena.getByRole("button", { name: "Next question" }).click();
    }
    await page.keyboard.press("Escape");
    await chat.ask("And you?");
    await chat.answered();
    await expect(chat.answer.first()).not.toHaveText("");
    expect(chat.faults).toEqual([]);
    await browser.close();
    await site.stop();
  });
