/** Models on servers in the chat page: how they are added, marked, used and deleted, and what goes wrong. */
import type { BrowserContext, Page } from "@playwright/test";
import { addressOf, isBlocked } from "../../web/src/lib/servers.ts";
import { ApiServer, type Faults } from "../support/api-server.ts";
import { Chat, startChatSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import type { Site } from "../support/server.ts";

const KEY = "sk-a-secret";
const PRIVATE = "Private: runs on this device";

let site: Site;
let server: ApiServer;

test.beforeAll(async ({ small }) => {
  site = await startChatSite(small);
  server = await ApiServer.start(KEY, ["alpha", "someone/beta"]);
});

test.afterAll(async () => {
  await Promise.all([site.stop(), server.stop()]);
});

test.beforeEach(() => {
  server.faults = {};
});

/** The page with nothing stored, and the parts of it that are about servers. */
async function open(shared: BrowserContext) {
  const chat = await Chat.open(shared, site.origin, "cpu");
  await chat.page.evaluate(() => {
    localStorage.clear();
    localStorage.setItem("nomoat-settings", JSON.stringify({ device: "cpu" }));
  });
  await chat.page.reload();
  await chat.newChat.click();
  return { chat, ...partsOf(chat.page) };
}

function partsOf(page: Page) {
  const dialog = page.getByRole("dialog", { name: "Models" });
  const form = dialog.getByRole("region", { name: "Use a model on a server" });
  return {
    page,
    dialog,
    form,
    address: form.getByRole("textbox", { name: "Address" }),
    key: form.getByLabel("API key"),
    model: form.getByRole("combobox", { name: "Model" }).or(form.getByRole("textbox", { name: "Model" })),
    alert: form.getByRole("alert"),
    line: page.locator(".device-line"),
    button: (name: string | RegExp) => page.getByRole("button", { name }),
    async fill(address: string, key: string) {
      await page.getByRole("button", { name: /^Model: / }).click();
      await dialog.getByRole("button", { name: "Add a server" }).click();
      await form.getByRole("textbox", { name: "Address" }).fill(address);
      await form.getByLabel("API key").fill(key);
      await form.getByLabel("API key").press("Enter");
    },
  };
}

type Parts = ReturnType<typeof partsOf>;

/** Adds a model of the server, and takes it. */
async function add({ fill, form, model }: Parts, name: string): Promise<void> {
  await fill(server.host, KEY);
  await model.selectOption(name);
  await form.getByRole("button", { name: "Use this model" }).click();
}

const stored = (page: Page) => page.evaluate(() => localStorage.getItem("nomoat-servers"));

test("a model on a server is added, marked wherever it is named, used, and deleted with its key", async ({
  shared,
}) => {
  const parts = await open(shared);
  const { chat, page, dialog, form, address, key, model, alert, line, button, fill } = parts;
  await expect(line).toContainText(PRIVATE);
  await fill(server.host, "wrong");
  await expect(form).toContainText("Not private: each time you ask, the whole conversation");
  await expect(address).toBeVisible();
  await expect(alert).toContainText("The server refuses the API key");
  await key.fill(KEY);
  await expect(alert).toBeHidden();
  await key.press("Enter");
  await expect(model).toBeFocused();
  await expect(model.getByRole("option")).toHaveText(["alpha", "someone/beta"]);
  expect(await stored(page)).not.toContain(KEY);
  await model.selectOption("someone/beta");
  await form.getByRole("button", { name: "Use this model" }).click();

  const where = `Not private: the whole conversation is sent to ${server.host}`;
  await expect(line).toHaveText(where);
  await expect(chat.model).toHaveAccessibleName(new RegExp(`someone/beta.*on ${server.host}.*not private`));
  await expect(chat.model.getByText("not private")).toBeVisible();
  await expect(page.getByText(`This model runs on ${server.host}`)).toBeVisible();
  await expect(page.getByText("Nothing you write leaves your device")).toHaveCount(0);
  await chat.ask("Hello");
  await expect(chat.answer).toHaveText(["someone/beta was told: Hello"]);
  await chat.answered();
  await expect(chat.log.getByRole("article", { name: `someone/beta (${server.host})` })).toBeVisible();
  await expect(page.locator(".context-meter")).toHaveCount(0);
  // Nothing but what OpenAI's API has.
  expect(server.asked.at(-1)).toEqual({
    path: "/v1/chat/completions",
    key: KEY,
    body: {
      model: "someone/beta",
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 1024,
    },
  });

  await page.reload();
  await expect(line).toHaveText(where);
  await button("Settings").click();
  await expect(page.getByText("Temperature: the server’s choice")).toBeVisible();
  await expect(page.getByRole("note")).toContainText("for models on this device only");
  await page.getByRole("slider", { name: "Temperature" }).fill("0.4");
  await page.getByRole("textbox", { name: "System prompt" }).fill("Be brief.");
  await page.keyboard.press("Escape");
  await chat.ask("And now?");
  await expect(chat.answer).toHaveText(["someone/beta was told: And now?"]);
  expect(server.chats.at(-1)).toMatchObject({
    temperature: 0.4,
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hello" },
      { role: "assistant", content: "someone/beta was told: Hello" },
      { role: "user", content: "And now?" },
    ],
  });
  await button("Teach").click();
  const teach = page.getByRole("dialog", { name: "Teach" });
  await expect(teach.getByRole("note")).toContainText("This model runs on a server");
  await expect(teach.getByRole("region", { name: "Adapters" })).toHaveCount(0);
  await page.keyboard.press("Escape");

  await page.evaluate(() => {
    const settings = JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}") as object;
    localStorage.setItem("nomoat-settings", JSON.stringify({ ...settings, language: "zh" }));
  });
  await page.reload();
  await expect(line).toHaveText(`非私密：整个对话都会发送到 ${server.host}`);
  await expect(page.getByRole("button", { name: /^模型: .*非私密/ })).toBeVisible();
  await page.evaluate(() => {
    const settings = JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}") as object;
    localStorage.setItem("nomoat-settings", JSON.stringify({ ...settings, language: "en" }));
  });
  await page.reload();

  // Another model of the same server; the key is known.
  await chat.model.click();
  await expect(dialog.getByRole("option", { name: /someone\/beta/ })).toContainText("not private");
  await dialog.getByRole("button", { name: "Other models or key" }).click();
  await expect(address).toHaveValue(`http://${server.host}/v1`);
  await key.press("Enter");
  await model.selectOption("alpha");
  await form.getByRole("button", { name: "Use this model" }).click();
  await expect(chat.model).toHaveAccessibleName(/alpha.*not private/);
  await chat.model.click();
  await dialog.getByRole("button", { name: "Delete alpha" }).click();
  await expect(dialog.getByRole("option", { name: /alpha/ })).toHaveCount(0);
  expect(await stored(page)).toContain(KEY);
  await dialog.getByRole("option", { name: /someone\/beta/ }).click();
  await dialog.getByRole("button", { name: /^Delete server and key/ }).click();
  await expect(dialog.getByRole("option", { name: /beta/ })).toHaveCount(0);
  expect(await stored(page)).toBe("[]");
  await page.keyboard.press("Escape");
  await expect(line).toContainText(PRIVATE);
  await expect(chat.model).toHaveAccessibleName(/^Model: Small/);
  expect(chat.faults.filter((fault) => !/^request: |status of 401/.test(fault))).toEqual([]);
  await page.close();
});

test("what is wrong with a server is said before anything is sent", async ({ shared }) => {
  const parts = await open(shared);
  const { page, form, address, key, alert, model } = parts;
  await parts.fill("not an address", "");
  await expect(alert).toHaveText(/It looks like https:\/\/host\/v1/);
  await expect(address).toHaveAttribute("aria-invalid", "true");
  await address.fill("http://192.0.2.1/v1");
  await expect(form).toContainText("http:// is not encrypted");
  await address.fill(server.host);
  await expect(form).not.toContainText("http:// is not encrypted");
  await key.fill(KEY);
  const cases: [Faults, RegExp][] = [
    [{ closed: true }, new RegExp(`cannot be reached.*CORS.*${site.origin}`)],
    [{ isWebPage: true }, /This is not OpenAI’s API/],
    [{ status: { "/models": 403 } }, /refuses the API key/],
    [{ status: { "/models": 429 } }, /takes no more requests/],
    [{ status: { "/models": 500 } }, /The server failed.*It is made_to_fail/],
    [{ status: { "/models": 503 } }, /does not answer in time.*still be loading/],
  ];
  for (const [faults, expected] of cases) {
    server.faults = faults;
    await key.press("Enter");
    await expect(alert).toHaveText(expected);
  }
  await address.fill("localhost:1");
  await key.press("Enter");
  await expect(alert).toContainText("cannot be reached");
  // A server without a list: its model is named.
  server.faults = { status: { "/models": 404 } };
  await address.fill(`http://${server.host}/v1/chat/completions`);
  await key.press("Enter");
  await expect(form.getByRole("status")).toContainText("does not tell its models");
  await model.fill("alpha");
  await model.press("Enter");
  await expect(parts.line).toContainText("Not private");
  await parts.chat.ask("Hello");
  await expect(parts.chat.answer).toHaveText(["alpha was told: Hello"]);
  await page.close();
});

test("what goes wrong in a chat has a reason and a way on", async ({ shared }) => {
  const parts = await open(shared);
  const { chat, page } = parts;
  await add(parts, "alpha");
  const again = () => page.getByRole("button", { name: "Try again" }).click();
  server.faults = { status: { "/chat/completions": 401 } };
  await chat.ask("one");
  await expect(chat.alert).toContainText("The server refuses the API key");
  await expect(chat.alert.getByRole("button", { name: "Choose another model" })).toBeVisible();
  server.faults = { status: { "/chat/completions": 429 } };
  await again();
  await expect(chat.alert).toContainText("takes no more requests");
  server.faults = { closed: true };
  await again();
  await expect(chat.alert).toContainText("cannot be reached");
  await expect(chat.alert).not.toContainText("download");
  // The limit of tokens under the name that the server wants.
  server.faults = { newName: true };
  await again();
  await expect(chat.answer).toHaveText(["alpha was told: one"]);
  await chat.answered();
  expect(server.chats.at(-1)).toMatchObject({ max_completion_tokens: 1024 });
  expect(server.chats.at(-1)).not.toHaveProperty("max_tokens");
  // Longer than the context: the start is left out.
  server.faults = { most: 1 };
  await chat.ask("two");
  await expect(chat.answer).toHaveText([/The first 2 messages were left out/, "alpha was told: two"]);
  server.faults = { most: 0 };
  await chat.ask("three");
  await expect(chat.alert).toContainText("longer than the model’s context");
  await chat.alert.getByRole("button", { name: "Remove the message" }).click();
  server.faults = { cuts: true };
  await chat.ask("four");
  await expect(chat.alert).toContainText("its answer was cut");
  await expect(chat.log).toContainText("alpha was told: four");
  // The connection itself fails at a start, and is tried again.
  server.faults = { closed: true };
  await page.reload();
  await expect(chat.alert).toContainText("cannot be reached");
  server.faults = {};
  await again();
  await expect(chat.alert).toBeHidden();
  await expect(parts.line).toContainText("Not private");
  await page.close();
});

test("a key that is deleted in one tab is not used in another", async ({ shared }) => {
  const parts = await open(shared);
  await add(parts, "alpha");
  await expect(parts.line).toContainText("Not private");
  const other = await Chat.open(shared, site.origin, "cpu");
  await expect(other.model).toHaveAccessibleName(/alpha/);
  await other.model.click();
  await other.page.getByRole("button", { name: /^Delete server and key/ }).click();
  await expect(parts.line).toContainText(PRIVATE);
  await expect(parts.chat.model).toHaveAccessibleName(/^Model: Small/);
  // What this tab stores next does not bring it back.
  const second = await ApiServer.start("", ["gamma"]);
  await parts.fill(second.host, "");
  await parts.form.getByRole("button", { name: "Use this model" }).click();
  await expect(parts.chat.model).toHaveAccessibleName(/gamma/);
  expect(await stored(parts.page)).not.toContain(KEY);
  expect(second.asked.every(({ key }) => key === undefined)).toBe(true);
  await second.stop();
  await other.page.close();
  await parts.page.close();
});

test("models on servers take part in the arena once they are ticked", async ({ shared }) => {
  const parts = await open(shared);
  const { page, chat, button } = parts;
  await add(parts, "someone/beta");
  await expect(parts.line).toContainText("Not private");
  await add(parts, "alpha");
  await expect(chat.model).toHaveAccessibleName(/alpha/);
  await button("Arena").click();
  const arena = page.getByRole("dialog", { name: "Arena" });
  await arena.getByText(/^Taking part: /).click();
  const box = (name: string) =>
    arena.getByRole("checkbox", { name: new RegExp(`^${name} \\(${server.host}\\)`) });
  const other = box("someone/beta");
  await expect(other).not.toBeChecked();
  await expect(other).toHaveAccessibleName(/not private$/);
  await other.check();
  await arena.getByRole("checkbox", { name: /temperature 0 / }).uncheck();
  await arena.getByRole("textbox").fill("Hi");
  await arena.getByRole("textbox").press("Enter");
  await arena.getByRole("button", { name: "A is better" }).click();
  const texts = await arena.getByRole("article").allTextContents();
  expect(texts.map((text) => /(alpha|someone\/beta) was told: Hi/.exec(text)?.[1]).sort()).toEqual([
    "alpha",
    "someone/beta",
  ]);
  await expect(arena.getByRole("table")).toContainText(`alpha (${server.host})`);
  await expect(arena.getByRole("table")).toContainText(`someone/beta (${server.host})`);
  await page.close();
});

test("addresses are taken as people type them", () => {
  for (const [typed, address] of [
    ["localhost:8080", "http://localhost:8080/v1"],
    [" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080/v1"],
    ["[::1]:8080", "http://[::1]:8080/v1"],
    ["api.example.com", "https://api.example.com/v1"],
    ["https://api.example.com/openai/v1/", "https://api.example.com/openai/v1"],
    ["https://api.example.com/v1/chat/completions", "https://api.example.com/v1"],
    ["https://api.example.com/v1/models", "https://api.example.com/v1"],
    ["HTTPS://API.example.com/v1", "https://api.example.com/v1"],
    ["", null],
    ["two words", null],
    ["ftp://host/v1", null],
    ["file:///v1", null],
    ["javascript://host", null],
    ["https://", null],
    ["https://user:key@host/v1", null],
  ] as const)
    expect(addressOf(typed), typed).toBe(address);
  expect(isBlocked("http://host/v1", "https://chat.example/")).toBe(true);
  expect(isBlocked("http://localhost:8080/v1", "https://chat.example/")).toBe(false);
  expect(isBlocked("http://host/v1", "http://localhost:8080/")).toBe(false);
  expect(isBlocked("https://host/v1", "https://chat.example/")).toBe(false);
});
