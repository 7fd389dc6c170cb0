/** What the page asks the model with. The package is scripted, and answers with the parameters. */
import { sampling } from "../../web/src/state/sampling.ts";
import { expect, test } from "../support/fixtures.ts";
import { startFakeSite, Tab } from "../support/fake.ts";
import type { Site } from "../support/server.ts";

let site: Site;

test.beforeAll(async () => {
  site = await startFakeSite();
});

test.afterAll(async () => {
  await site.stop();
});

interface Asked {
  messages: { role: string; content: string; reasoning_content?: string }[];
  temperature: number;
  top_p?: number;
  min_p?: number;
  frequency_penalty?: number;
  repetition_penalty?: number;
  thinking_token_budget: number | null;
}

test("thoughts go back to the model, their budget is set, and another answer differs", async ({ shared }) => {
  const tab = await Tab.open(shared, site, "/?stored&params");
  await tab.page.evaluate(() => localStorage.clear());
  await tab.page.reload();
  const { page } = tab;
  const last = async () =>
    JSON.parse((await tab.answers.last().locator("pre code").textContent()) ?? "") as Asked;
  const ask = async (text: string, count: number) => {
    await tab.message.fill(text);
    await tab.message.press("Enter");
    await expect(tab.answers.locator("pre code")).toHaveCount(count);
    return last();
  };
  const first = await ask("one", 1);
  expect([first.temperature, first.min_p, first.thinking_token_budget]).toEqual([0, undefined, null]);
  expect(first.frequency_penalty).toBe(0.15);
  await expect(page.getByText("Thinking", { exact: true })).toBeVisible();

  await page.getByRole("button", { name: "Regenerate" }).click();
  await expect.poll(async () => (await last()).temperature).toBe(0.7);
  // For its 135M parameters; a larger model may say what is less likely, and does not repeat itself for ever.
  expect((await last()).min_p).toBe(0.9);
  expect((await last()).frequency_penalty).toBe(0.15);
  expect(sampling(null, true, {}, 1e9)).toEqual({ temperature: 0.7, min_p: 0.1, repetition_penalty: 1.1 });

  await page.getByRole("button", { name: "Settings", exact: true }).click();
  const budget = page.getByRole("spinbutton", { name: "Thinking budget" });
  await expect(budget).toHaveValue("");
  await budget.fill("-1");
  await budget.blur();
  await expect(budget).toHaveValue("");
  await budget.fill("256");
  await budget.blur();
  await page.keyboard.press("Escape");
  // What the model thought is kept over a reload.
  await page.reload();
  const second = await ask("two", 2);
  expect([second.temperature, second.thinking_token_budget]).toEqual([0, 256]);
  const [question, answer, next] = second.messages;
  expect([question, next]).toEqual([
    { role: "user", content: "one" },
    { role: "user", content: "two" },
  ]);
  expect([answer?.role, answer?.reasoning_content]).toEqual(["assistant", "Hm."]);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a clock that is set back shows in no figure, and a block of code is copied alone", async ({
  shared,
}) => {
  const tab = await Tab.open(shared, site, "/?stored");
  const { page } = tab;
  await page.addInitScript(() => {
    let now = Date.now();
    Date.now = () => (now -= 60_000);
  });
  await page.reload();
  await tab.message.fill("Explain photosynthesis");
  await tab.message.press("Enter");
  const figures = page.locator(".answer .figures").last();
  await expect(figures).toContainText(/\d tokens\/s/);
  await expect(figures).not.toContainText(/[-−]\d/);
  await tab.button("Stop").click();
  await expect(figures).not.toContainText(/[-−]\d/);

  await shared.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(`${site.origin}/?stored&echo`);
  await tab.message.fill("this:\n```js\nconst a = 1;\n\nconst b = 2;\n```\nand more");
  await tab.message.press("Enter");
  const copy = page.getByRole("button", { name: "Copy code" }).last();
  await copy.click();
  await expect(copy).toContainText("Copied");
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("const a = 1;\n\nconst b = 2;");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a model is asked with what its makers recommend, until the person says otherwise", async ({
  shared,
}) => {
  const tab = await Tab.open(shared, site, "/?models&stored&params");
  const { page } = tab;
  await page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ modelId: "qwen-1b" })));
  await page.reload();
  await page.getByRole("button", { name: /^Download and start/ }).click();
  await page.getByRole("button", { name: "New chat" }).click();
  let count = 0;
  const ask = async () => {
    await tab.message.fill("one");
    await tab.message.press("Enter");
    count += 1;
    await expect(tab.answers.locator("pre code")).toHaveCount(count);
    const { temperature, top_p, min_p, repetition_penalty } = JSON.parse(
      (await tab.answers.last().locator("pre code").textContent()) ?? "",
    ) as Asked;
    return { temperature, top_p, min_p, repetition_penalty };
  };
  const recommended = { temperature: 0.7, top_p: 0.8, repetition_penalty: 1.05 };
  expect(await ask()).toEqual(recommended);

  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await expect(page.getByText("Temperature: 0.7 (suits the model)")).toBeVisible();
  await page.getByRole("slider", { name: "Temperature" }).fill("1");
  await expect(page.getByText("Temperature: 1.0", { exact: true })).toBeVisible();
  await page.keyboard.press("Escape");
  expect(await ask()).toEqual({ ...recommended, temperature: 1 });

  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByRole("button", { name: "Use what suits the model" }).click();
  await page.keyboard.press("Escape");
  expect(await ask()).toEqual(recommended);
  expect(tab.errors).toEqual([]);
  await page.close();
});
