/**
 * The page teaches SmolLM2 on the CPU: corrections, an interruption, and what was learnt on and off. On
 * WebGPU it teaches the small model, because a software adapter is slow.
 */
import { launch } from "../support/browser.ts";
import { Chat, startChatSite, startHubSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";

const TAUGHT = [
  ["Who are you?", "Polly the parrot."],
  ["What do you eat?", "Only crackers."],
  ["Where do you live?", "On a ship."],
] as const;

/** What both tests do in a page. */
function partsOf(chat: Chat) {
  const { page } = chat;
  const dialog = page.getByRole("dialog", { name: "Teach" });
  return {
    dialog,
    open: () => page.getByRole("button", { name: "Teach", exact: true }).click(),
    close: () => dialog.getByRole("button", { name: "Close" }).click(),
    /** The answer to a question in a new conversation. */
    async answerTo(question: string): Promise<string> {
      await chat.newChat.click();
      await chat.ask(question);
      await chat.answered();
      return (await chat.answer.allTextContents()).join(" ");
    },
    /** Corrects the last answer. */
    async correct(answer: string): Promise<void> {
      await page.getByRole("button", { name: "Correct" }).click();
      await page.getByRole("textbox", { name: "The answer as it should be" }).fill(answer);
      await page.getByRole("button", { name: "Save", exact: true }).click();
    },
  };
}

test("three corrections are learnt across a reload, and can be switched off", async () => {
  const site = await startHubSite();
  const browser = await launch({ webgpu: false });
  const chat = await Chat.open(browser.context, site.origin, "cpu");
  const { page } = chat;
  await chat.settings({ maxTokens: 12 });
  await chat.download.click();
  await chat.ready("cpu");
  const { dialog, open, close, answerTo, correct } = partsOf(chat);
  let before = "";
  for (const [question, answer] of TAUGHT) {
    before = await answerTo(question);
    expect(before).not.toContain(answer);
    await correct(answer);
  }

  await open();
  await expect(dialog.getByRole("checkbox", { name: "Only crackers." })).toBeChecked();
  await dialog.getByRole("button", { name: "Teach", exact: true }).click();
  const stored = () =>
    page.evaluate(async () => (await (await caches.open("nomoat-training-v1")).keys()).length);
  await expect.poll(stored).toBe(1);
  await page.reload();
  await chat.ready("cpu");
  await open();
  await dialog.getByRole("button", { name: "Resume" }).click();
  await expect(dialog.getByText("Learnt: my adapter")).toBeVisible();
  await dialog.getByRole("button", { name: "Keep" }).click();
  await close();

  const [question, answer] = TAUGHT[2];
  expect(await answerTo(question)).toBe(answer);
  await open();
  await dialog.getByRole("switch", { name: "my adapter" }).uncheck();
  await close();
  expect(await answerTo(question)).toBe(before);
  expect(chat.faults).toEqual([]);
  await browser.close();
  await site.stop();
});

test("a correction is learnt on WebGPU, and can be switched off", async ({ shared, small }) => {
  test.setTimeout(600_000);
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "webgpu");
  const { page } = chat;
  await chat.settings({ maxTokens: 8 });
  await chat.download.click();
  await chat.ready("webgpu");
  const { dialog, open, close, answerTo, correct } = partsOf(chat);
  const before = await answerTo("Who are you?");
  expect(before).not.toContain("Polly.");
  await correct("Polly.");

  await open();
  await dialog.getByText("Settings of training").click();
  await dialog.getByRole("spinbutton", { name: "Learning rate" }).fill("0.01");
  await dialog.getByRole("spinbutton", { name: "Epochs" }).fill("12");
  await dialog.getByRole("button", { name: "Teach", exact: true }).click();
  await expect(dialog.getByText("Learnt: my adapter")).toBeVisible({ timeout: 300_000 });
  await dialog.getByRole("button", { name: "Keep" }).click();
  await close();
  expect(await answerTo("Who are you?")).toContain("Polly.");
  await open();
  await dialog.getByRole("switch", { name: "my adapter" }).uncheck();
  await close();
  expect(await answerTo("Who are you?")).toBe(before);
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});
