/** Chat templates that a person chooses in the page: for one model each. */
import { Chat, MODEL_PATH, startChatSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import { readHistory } from "../support/fake.ts";

/** What the page keeps of its settings. */
const keptTemplates = () => {
  const { template, templates } = JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}") as Record<
    string,
    unknown
  >;
  return { template, templates };
};

test("a chat template that is chosen changes the prompts of its model, and of no other", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  const [first, second] = ["/models/first.gguf", "/models/second.gguf"];
  site.files.delete(MODEL_PATH);
  for (const path of [first, second]) site.files.set(path, small);
  const models = [
    { id: "first", name: "First", url: first },
    { id: "second", name: "Second", url: second },
  ];
  site.texts.set("/config.json", JSON.stringify({ models, default_model: "first" }));
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  const template = page.getByRole("combobox", { name: "Chat template" });
  const settings = page.getByRole("button", { name: "Settings" });
  const tokensOf = async (question: string) => {
    const { messages } = await page.evaluate(readHistory);
    const asked = messages.find(({ content }) => content === question);
    const answer = messages.find(({ parent }) => parent === asked?.id) as
      { promptTokens?: number } | undefined;
    return answer?.promptTokens ?? 0;
  };
  /** Tokens of the prompt of a new conversation with this question. */
  const promptTokens = async (question: string) => {
    await chat.newChat.click();
    await chat.ask(question);
    await chat.answered();
    await expect.poll(() => tokensOf(question)).toBeGreaterThan(0);
    return tokensOf(question);
  };
  const change = async (option: string) => {
    await settings.click();
    await template.selectOption(option);
    await page.keyboard.press("Escape");
    await chat.ready("cpu");
  };
  const use = async (name: RegExp) => {
    await chat.model.click();
    const dialog = page.getByRole("dialog", { name: "Models" });
    await dialog.getByRole("option", { name }).click();
    await dialog.getByRole("button", { name: /^(Download and start|Use this model)/ }).click();
    await chat.ready("cpu");
  };

  await chat.settings({ maxTokens: 4 });
  await chat.download.click();
  await chat.ready("cpu");
  await settings.click();
  await expect(page.getByRole("combobox", { name: "Chat template: First" })).toHaveValue("");
  await page.keyboard.press("Escape");
  const own = await promptTokens("How are you, one?");
  await change("None: continue the text");
  await expect(page.locator("#model-details")).toContainText("template None: continue the text");
  const plain = await promptTokens("How are you, two?");
  // "How are you, two?" is six tokens; ChatML adds its marks, roles and a system text.
  expect(plain).toBe(6);
  expect(own).toBeGreaterThan(15);

  await use(/Second/);
  await expect(page.locator("#model-details")).not.toContainText("template None");
  expect(await promptTokens("How are you, ten?")).toBe(own);
  await settings.click();
  await expect(page.getByRole("combobox", { name: "Chat template: Second" })).toHaveValue("");
  await page.keyboard.press("Escape");
  await change("Vicuna");
  expect(await promptTokens("How are you, six?")).not.toBe(own);
  await use(/First/);
  expect(await promptTokens("How are you, all?")).toBe(plain);
  await change("The model’s own");
  expect(await promptTokens("How are you, too?")).toBe(own);
  expect(await page.evaluate(keptTemplates)).toEqual({ templates: { second: "vicuna" } });
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});

test("what was chosen for all models stays with the one that was in use", async ({ shared, small }) => {
  const site = await startChatSite(small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  for (const [stored, templates] of [
    [{ modelId: "small", template: "vicuna" }, { small: "vicuna" }],
    [{ modelId: null, template: "vicuna" }, {}],
    [{ modelId: "small", template: "of old" }, {}],
    [{ modelId: "small", template: "vicuna", templates: { small: "koala", other: 3 } }, { small: "koala" }],
  ] as const) {
    await page.evaluate(
      (settings) => localStorage.setItem("nomoat-settings", settings),
      JSON.stringify({ device: "cpu", ...stored }),
    );
    await page.reload();
    await expect(chat.message).toBeVisible();
    expect(await page.evaluate(keptTemplates)).toEqual({ templates });
  }
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});
