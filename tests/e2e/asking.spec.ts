/** What the page asks the model with. The package is scripted, and answers with the parameters. */
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
  min_p?: number;
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
  await expect(page.getByText("Thinking", { exact: true })).toBeVisible();

  await page.getByRole("button", { name: "Regenerate" }).click();
  await expect.poll(async () => (await last()).temperature).toBe(0.7);
  expect((await last()).min_p).toBe(0.1);

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
