/** Tools that pages offer by WebMCP, in the chat page. The engine is scripted. */
import type { BrowserContext } from "@playwright/test";
import type { Answer } from "../../web/src/history/records.ts";
import { turns } from "../../web/src/state/turns.ts";
import { launch } from "../support/browser.ts";
import { startFakeSite, QUICK, Tab } from "../support/fake.ts";
import { expect, test as base } from "../support/fixtures.ts";
import { installModelContext, installTools, type TestTool } from "../support/model-context.ts";
import type { Site } from "../support/server.ts";

const numbers = { a: { type: "number", description: "The first." }, b: { type: "number" } };
const sum: TestTool = {
  name: "sum",
  title: "Sum of two",
  description: "Adds two numbers.",
  inputSchema: { type: "object", properties: numbers, required: ["a"] },
};
const order: TestTool = {
  name: "order",
  description: "Orders copies.",
  annotations: { consequentialHint: true },
};

/** A browser with its own WebMCP, and one with the fake: the page must do the same in both. */
const test = base.extend<object, { webMcp: BrowserContext }>({
  webMcp: [
    async ({}, use) => {
      const browser = await launch({ webgpu: false, features: ["WebMCP"] });
      await use(browser.context);
      await browser.close();
    },
    { scope: "worker" },
  ],
});

async function openTab(context: BrowserContext, site: Site, isFake: boolean, address = QUICK): Promise<Tab> {
  const tab = await Tab.open(context, site, address, async (page) => {
    if (isFake) await page.addInitScript(installModelContext);
    await page.addInitScript(installTools);
  });
  return tab;
}

const offer = (tab: Tab, ...tools: TestTool[]) =>
  tab.page.evaluate(async (all) => {
    for (const tool of all) await window.offer(tool);
  }, tools);

const line = (tab: Tab) => tab.button(/^Tools of pages/);

/** Chooses what the model may do with a tool, with the keyboard. */
async function permit(tab: Tab, tool: string, choice: string): Promise<void> {
  await line(tab).press("Enter");
  await tab.page.getByRole("combobox", { name: `Use of ${tool}` }).selectOption(choice);
  await tab.page.keyboard.press("Escape");
}

/** Sends a question, and does not wait for the answer. */
async function send(tab: Tab, question: string): Promise<void> {
  await tab.message.fill(question);
  await tab.message.press("Enter");
}

const question = (tab: Tab, title: string) =>
  tab.log.getByRole("group", { name: `The model wants to use ${title}` });
const calls = (tab: Tab) => tab.page.evaluate(() => window.toolCalls);
const summaries = (tab: Tab) => tab.log.locator("details.tool-call summary");

test("calls and their results are told to the model again, if it is told about tools", () => {
  const base = { conversation: "c", createdAt: 1 };
  const use = { name: "sum", title: "Sum", origin: "o", arguments: "{}", outcome: "done" as const };
  const answer: Answer = {
    ...base,
    id: "b",
    parent: "a",
    role: "assistant",
    content: "Look. It is 3.",
    model: "m",
    ending: "stop",
    promptTokens: null,
    cachedTokens: 0,
    completionTokens: 0,
    tokensPerSecond: null,
    omitted: 0,
    tools: [
      { ...use, id: "1", result: "3", round: 0, at: 6 },
      { ...use, id: "2", result: "4", round: 0, at: 6 },
      { ...use, id: "3", result: "5", round: 1, at: 6 },
    ],
  };
  const list = [{ ...base, id: "a", parent: null, role: "user" as const, content: "How much?" }, answer];
  const asked = { role: "user", content: "How much?" };
  const call = (id: string) => ({ id, type: "function", function: { name: "sum", arguments: "{}" } });
  const told = (id: string, content: string) => ({ role: "tool", tool_call_id: id, content });
  expect(turns(list, "", true)).toEqual([
    asked,
    { role: "assistant", content: "Look. ", tool_calls: [call("1"), call("2")] },
    told("1", "3"),
    told("2", "4"),
    { role: "assistant", content: "", tool_calls: [call("3")] },
    told("3", "5"),
    { role: "assistant", content: "It is 3." },
  ]);
  expect(turns(list, "")).toEqual([asked, { role: "assistant", content: "Look. It is 3." }]);
});

test("a browser without WebMCP has no tools", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  await tab.ask("Hello");
  await expect(line(tab)).toHaveCount(0);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

for (const kind of ["the browser's own", "a fake"] as const) {
  const isFake = kind === "a fake";

  test(`${kind} WebMCP: a tool is used only after the person agrees`, async ({ shared, webMcp }) => {
    const site = await startFakeSite();
    const tab = await openTab(isFake ? shared : webMcp, site, isFake, "/?stored&echo&params");
    await send(tab, "zero");
    await expect(tab.answers).toHaveCount(1);
    await offer(tab, sum);
    await expect(line(tab)).toHaveText("Tools of pages: 0 of 1 on");
    const status = tab.page.getByRole("status");
    await expect(status.filter({ hasText: "A page offers the model a tool" })).toHaveCount(1);

    // The model is told nothing before.
    await send(tab, "first");
    await expect(tab.answers).toHaveCount(2);
    await expect(tab.answers.last()).not.toContainText("tools");

    await line(tab).press("Enter");
    const dialog = tab.page.getByRole("dialog", { name: "Tools of pages" });
    await expect(dialog).toContainText(`From ${site.origin}`);
    await expect(dialog).toContainText("Adds two numbers.");
    const told = dialog.locator(".tool-arguments li");
    await expect(told).toHaveText(["a number – The first.", "b number (optional)"]);
    await tab.page.keyboard.press("Escape");

    await permit(tab, "Sum of two", "ask");
    await expect(line(tab)).toHaveText("Tools of pages: 1 of 1 on");
    await send(tab, "second");
    await expect(tab.answers).toHaveCount(3);
    await expect(tab.answers.last()).toContainText('"description":"Adds two numbers."');
    await expect(tab.answers.last()).toContainText('"tool_choice":"auto"');
    expect(await calls(tab)).toEqual([]);

    // A changed tool is another one.
    await tab.page.evaluate(() => window.withdraw("sum"));
    await expect(line(tab)).toHaveCount(0);
    await offer(tab, { ...sum, description: "Sends two numbers away." });
    await expect(line(tab)).toHaveText("Tools of pages: 0 of 1 on");
    expect(tab.errors).toEqual([]);
    await tab.page.close();
    await site.stop();
  });

  test(`${kind} WebMCP: a call is asked about, made, shown and kept`, async ({ shared, webMcp }) => {
    const site = await startFakeSite();
    const tab = await openTab(isFake ? shared : webMcp, site, isFake);
    await offer(tab, sum);
    await permit(tab, "Sum of two", "ask");
    await send(tab, 'use sum {"a": 2, "b": 40}');
    const asking = question(tab, "Sum of two");
    await expect(asking).toContainText(`From ${site.origin}`);
    await expect(asking).toContainText("Adds two numbers.");
    await expect(asking.locator("pre")).toHaveText('{\n "a": 2,\n "b": 40\n}');
    expect(await calls(tab)).toEqual([]);
    await asking.getByRole("button", { name: "Allow this call" }).press("Enter");
    await expect(tab.answers).toHaveText(["Let me look.", "Answer to 42"]);
    expect(await calls(tab)).toEqual([{ name: "sum", input: { a: 2, b: 40 }, isAborted: false }]);
    await expect(summaries(tab)).toHaveText(["Tool: Sum of two: done"]);

    // Refused, and then always allowed.
    await send(tab, 'use sum {"a": 1}');
    await question(tab, "Sum of two").getByRole("button", { name: "Refuse" }).press("Enter");
    await expect(tab.answers.last()).toHaveText("Answer to The person refused this call.");
    await send(tab, 'use sum {"a": 3}');
    await question(tab, "Sum of two").getByRole("button", { name: "Always allow" }).press("Enter");
    await expect(tab.answers.last()).toHaveText("Answer to 3");
    await send(tab, 'use sum {"a": 4}');
    await expect(tab.answers.last()).toHaveText("Answer to 4");
    expect((await calls(tab)).map(({ input }) => input)).toEqual([{ a: 2, b: 40 }, { a: 3 }, { a: 4 }]);

    // The conversation keeps the calls, and the browser what was allowed.
    await tab.page.reload();
    const outcomes = ["done", "refused", "done", "done"].map((outcome) => `Tool: Sum of two: ${outcome}`);
    await expect(summaries(tab)).toHaveText(outcomes);
    await summaries(tab).first().press("Enter");
    await expect(tab.log.locator("details.tool-call[open]")).toContainText("42");
    await offer(tab, sum);
    await expect(line(tab)).toHaveText("Tools of pages: 1 of 1 on");

    // What was allowed can be taken back.
    await permit(tab, "Sum of two", "off");
    await expect(line(tab)).toHaveText("Tools of pages: 0 of 1 on");
    await send(tab, 'use sum {"a": 5}');
    await expect(tab.answers.last()).toHaveText('Answer to use sum {"a": 5}');
    expect(await calls(tab)).toEqual([]);
    expect(tab.errors).toEqual([]);
    await tab.page.close();
    await site.stop();
  });

  test(`${kind} WebMCP: calls that fail, hang, repeat or make no sense`, async ({ shared, webMcp }) => {
    const site = await startFakeSite();
    const tab = await openTab(isFake ? shared : webMcp, site, isFake);
    const silent = (name: string): TestTool => ({ name, description: `It will ${name}.` });
    await offer(tab, sum, order, silent("fail"), silent("hang"), silent("tell"));
    await expect(line(tab)).toHaveText("Tools of pages: 0 of 5 on");
    for (const name of ["Sum of two", "fail", "hang", "tell"]) await permit(tab, name, "use");
    await permit(tab, "order", "ask");

    await send(tab, "use fail {}");
    await expect(summaries(tab).last()).toHaveText("Tool: fail: failed");
    await expect(tab.answers.last()).toContainText("Answer to");
    await send(tab, 'use nothing {"a": 1}');
    await expect(tab.answers.last()).toHaveText("Answer to There is no tool nothing.");
    await send(tab, "use sum {a}");
    await expect(tab.answers.last()).toHaveText("Answer to The arguments are not a JSON object.");
    await send(tab, 'use tell {"deep": [1, {"x": null}]}');
    await expect(tab.answers.last()).toHaveText('Answer to {"told":{"deep":[1,{"x":null}]}}');

    // Consequences are asked about each time, and cannot be allowed for good.
    for (let time = 0; time < 2; time++) {
      await send(tab, "use order {}");
      const asking = question(tab, "order");
      await expect(asking.getByRole("button")).toHaveText(["Allow this call", "Refuse"]);
      await asking.getByRole("button", { name: "Allow this call" }).press("Enter");
      await expect(tab.answers.last()).toHaveText('Answer to {"told":{}}');
    }

    // A model that never stops calling is stopped.
    await tab.page.evaluate(() => (window.toolCalls = []));
    await send(tab, 'use sum {"a": 1} again');
    await expect(tab.answers.last()).toHaveText("Answer to 1");
    expect(await calls(tab)).toHaveLength(8);

    // Stop ends a call, and so does taking the permission back.
    await tab.page.evaluate(() => (window.toolCalls = []));
    await send(tab, "use hang {}");
    await tab.page.waitForFunction(() => window.toolCalls.length === 1);
    await tab.button("Stop").click();
    await expect(summaries(tab).last()).toHaveText("Tool: hang: stopped");
    await expect(tab.button("Stop")).toHaveCount(0);
    await send(tab, "use hang {}");
    await tab.page.waitForFunction(() => window.toolCalls.length === 2);
    await permit(tab, "hang", "off");
    await expect(tab.answers.last()).toHaveText("Answer to The person stopped this call.");
    await expect(summaries(tab).last()).toHaveText("Tool: hang: stopped");
    expect((await calls(tab)).map(({ isAborted }) => isAborted)).toEqual([true, true]);

    // So does the end of a question about a call.
    await send(tab, "use order {}");
    await expect(question(tab, "order")).toBeVisible();
    await tab.button("Stop").click();
    await expect(question(tab, "order")).toHaveCount(0);
    await expect(summaries(tab).last()).toHaveText("Tool: order: stopped");
    expect(tab.errors).toEqual([]);
    await tab.page.close();
    await site.stop();
  });
}

test("a page that embeds the chat offers it tools, from another origin", async ({ webMcp }) => {
  const site = await startFakeSite();
  site.open.add("/");
  const outer = await startFakeSite();
  outer.open.add("/");
  outer.texts.set(
    "/shop",
    `<!doctype html><title>shop</title><iframe src="${site.origin}${QUICK}" allow="tools"></iframe>`,
  );
  const page = await webMcp.newPage();
  await page.addInitScript(installTools);
  await page.goto(`${outer.origin}/shop`);
  const frame = page.frameLocator("iframe");
  await page.evaluate(([tool, chat]) => window.offer(tool, [chat]), [sum, site.origin] as const);
  // Not for this chat.
  await page.evaluate(([tool]) => window.offer(tool), [order] as const);
  const button = frame.getByRole("button", { name: /^Tools of pages/ });
  await expect(button).toHaveText("Tools of pages: 0 of 1 on");
  await button.click();
  await expect(frame.getByRole("dialog")).toContainText(`From ${outer.origin}`);
  await frame.getByRole("combobox", { name: "Use of Sum of two" }).selectOption("use");
  await page.keyboard.press("Escape");
  const message = frame.getByRole("textbox", { name: "Message" });
  await message.fill('use sum {"a": 20, "b": 3}');
  await message.press("Enter");
  await expect(frame.locator("article.answer .markdown").last()).toHaveText("Answer to 23");
  expect(await page.evaluate(() => window.toolCalls.map(({ input }) => input))).toEqual([{ a: 20, b: 3 }]);
  await page.close();
  await site.stop();
  await outer.stop();
});

test("odd tools are left out, long results are cut, and the page says it in Chinese", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await openTab(shared, site, true);
  await offer(
    tab,
    sum,
    { name: "long", description: "x".repeat(9000) },
    { name: "wide", description: "Wide.", inputSchema: { description: "y".repeat(9000) } },
    { name: "list", description: "A list.", inputSchema: [1, 2] },
    { name: "x".repeat(100), description: "One." },
    {
      name: `${"x".repeat(99)}y`,
      description: "Two.",
      inputSchema: { properties: { z: true }, required: 5 },
    },
  );
  await expect(line(tab)).toHaveText("Tools of pages: 0 of 3 on");
  await line(tab).press("Enter");
  await tab.page.getByRole("combobox", { name: "Use of xxx" }).first().selectOption("use");
  await tab.page.getByRole("combobox", { name: "Use of xxx" }).last().selectOption("use");
  await tab.page.keyboard.press("Escape");
  // Both have a name that the model can call.
  await send(tab, `use ${"x".repeat(64)} {}`);
  await expect(tab.answers.last()).toHaveText('Answer to {"told":{}}');
  await send(tab, `use ${"x".repeat(60)}_2 {"z": "${"long".repeat(2000)}"}`);
  await expect(tab.answers.last()).toContainText("…");
  expect((await calls(tab)).map(({ name }) => name.at(-1))).toEqual(["x", "y"]);
  const stored = (await tab.stored()).messages as unknown as { tools?: { result: string }[] }[];
  const longest = Math.max(...stored.flatMap(({ tools = [] }) => tools.map(({ result }) => result.length)));
  expect(longest).toBeLessThan(6100);

  await tab.page.evaluate(() => {
    const settings = JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}") as object;
    localStorage.setItem("nomoat-settings", JSON.stringify({ ...settings, language: "zh" }));
  });
  await tab.page.reload();
  await offer(tab, sum);
  await tab.button("网页提供的工具：共 1 个，已启用 0 个").click();
  await expect(tab.page.getByRole("combobox", { name: "Sum of two 的使用" })).toBeVisible();
  await tab.page.close();
  await site.stop();
});

test("a model that cannot use tools gets none, and the page says so", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await openTab(shared, site, true, "/?stored&echo&no-tools");
  await offer(tab, sum);
  await permit(tab, "Sum of two", "use");
  await send(tab, 'use sum {"a": 1}');
  await expect(tab.answers.last()).toHaveText('Answer to use sum {"a": 1}');
  await line(tab).click();
  await expect(tab.page.getByRole("alert")).toHaveText("The model in use cannot use tools.");
  await tab.page.close();
  await site.stop();
});

test("after a reload an answer goes on behind its calls, and no call is made again", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await openTab(shared, site, true, "/?stored&slow-answer");
  await tab.page.addInitScript((tool) => void window.offer(tool), sum);
  await tab.page.reload();
  await permit(tab, "Sum of two", "ask");
  await send(tab, 'use sum {"a": 2, "b": 40}');
  await expect(question(tab, "Sum of two")).toBeVisible();
  await tab.page.reload();
  await expect(tab.page.locator(".device")).toBeVisible();
  await expect(tab.log).toContainText("This answer was interrupted.");
  await expect(question(tab, "Sum of two")).toHaveCount(0);
  expect(await calls(tab)).toEqual([]);

  await permit(tab, "Sum of two", "use");
  await send(tab, 'use sum {"a": 3, "b": 40}');
  await expect(tab.answers.last()).toContainText("Photosynthesis is");
  await tab.page.reload();
  await expect(tab.log).toContainText("Goes on after an interruption");
  await expect(tab.answers.last()).toContainText("Photosynthesis is how plants make");
  expect(await calls(tab)).toEqual([]);
  await tab.button("Stop").click();
  const { messages } = await tab.stored();
  const answer = messages.find(({ content }) => content?.includes("Photo")) as unknown as Answer;
  expect(answer.content).toMatch(/^Let me look\. Photosynthesis is how plants \*\*make/);
  expect(answer.tools?.map(({ outcome, result }) => [outcome, result])).toEqual([["done", "43"]]);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});
