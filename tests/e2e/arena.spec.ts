/** The arena: two answers without names, votes, ratings and their export. The package is scripted. */
import { readFileSync } from "node:fs";
import type { Battle } from "../../web/src/arena/records.ts";
import { startFakeSite, Tab } from "../support/fake.ts";
import { expect, test } from "../support/fixtures.ts";
import type { Site } from "../support/server.ts";

const BASE = "SmolLM2 135M Instruct";
const ADAPTED = `${BASE}:pirate`;

let site: Site;

test.beforeAll(async () => {
  site = await startFakeSite();
});

test.afterAll(async () => {
  await site.stop();
});

/** A page with nothing stored but an adapter. */
async function open(shared: Parameters<typeof Tab.open>[0], path: string) {
  const tab = await Tab.open(shared, site, path);
  const { page } = tab;
  await page.evaluate(() => {
    localStorage.clear();
    indexedDB.deleteDatabase("nomoat-lessons");
  });
  // The order of a round is random, but the same in each run of this test.
  await page.addInitScript(() => {
    let state = 1;
    Math.random = () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
  });
  await page.goto(site.origin + path);
  await page.getByRole("button", { name: "Teach", exact: true }).click();
  const file = { name: "pirate.gguf", mimeType: "", buffer: Buffer.from("GGUF") };
  await page.getByLabel("Import adapter").setInputFiles(file);
  await expect(page.getByRole("switch", { name: "pirate" })).toBeVisible();
  await page.keyboard.press("Escape");
  const dialog = page.getByRole("dialog", { name: "Arena" });
  const answers = dialog.getByRole("article");
  return {
    tab,
    page,
    dialog,
    opener: page.getByRole("button", { name: "Arena" }),
    question: dialog.getByRole("textbox", { name: "Question to both" }),
    answers,
    /** The texts of both answers. */
    texts: async () => (await answers.locator(".markdown").allTextContents()).map((text) => text.trim()),
    status: dialog.locator(".arena-status"),
    button: (name: string | RegExp) => dialog.getByRole("button", { name }),
    /** Whether a contender takes part. */
    box: (name: string) => dialog.getByRole("checkbox", { name, exact: true }),
  };
}

test("ten votes by keyboard give ratings, an export and preferences", async ({ shared }) => {
  const arena = await open(shared, "/?stored&echo");
  const { tab, page, dialog, opener, question, answers, status, button } = arena;
  await opener.focus();
  await page.keyboard.press("Enter");
  const votes = ["A is better", "B is better", "Both are equally good", "Both are bad"];
  const orders = new Set<string>();
  for (let number = 0; number < 10; number += 1) {
    await expect(question).toBeFocused();
    await page.keyboard.type(`question ${number}`);
    await page.keyboard.press("Enter");
    await expect(button("A is better")).toBeFocused();
    await expect(status).toHaveText("Which answer is better?");
    await expect(answers).toHaveText([/Answer to question/, /Answer to question/]);
    // Nothing but the answers themselves says whose they are.
    await expect(answers.filter({ hasText: BASE })).toHaveCount(0);
    const isAdapted = (await answers.allTextContents()).map((text) => text.includes("as pirate"));
    expect(isAdapted.filter(Boolean)).toHaveLength(1);
    const adapted = isAdapted[0] === true ? 0 : 1;
    // The adapter wins six times and loses twice; then a tie, and both are bad.
    const choice = number < 6 ? adapted : number < 8 ? 1 - adapted : number - 6;
    for (let step = 0; step < choice; step += 1) await page.keyboard.press("Tab");
    await expect(button(votes[choice] ?? "")).toBeFocused();
    await page.keyboard.press("Enter");
    const names = adapted === 0 ? [ADAPTED, BASE] : [BASE, ADAPTED];
    await expect(status).toHaveText(`A was ${names[0]}. B was ${names[1]}.`);
    orders.add(String(adapted));
    await expect(button("Next question")).toBeFocused();
    await page.keyboard.press("Enter");
  }
  expect(orders.size).toBe(2);

  const ratings = dialog.getByRole("region", { name: "Ratings" });
  const cells = (row: number) => ratings.locator("tbody tr").nth(row).locator("th, td");
  // Seven points to three: 400 log10(7 / 3) = 147.2 between them.
  await expect(cells(0)).toHaveText([ADAPTED, "1074", /^\d+ – \d+$/, "10", "70 %"]);
  await expect(cells(1)).toHaveText([BASE, "926", /^\d+ – \d+$/, "10", "30 %"]);
  await expect(ratings.getByRole("img", { name: /^Ratings with/ })).toBeVisible();
  await expect(ratings.locator(".interval")).toHaveCount(2);

  const downloading = page.waitForEvent("download");
  await button("Export 10 votes").click();
  const file = await (await downloading).path();
  const lines = readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown> & { winner: Battle["winner"] });
  expect(lines).toHaveLength(10);
  const winners = lines.map((line) => (line.winner.startsWith("model") ? line[line.winner] : line.winner));
  expect(winners).toEqual([...Array(6).fill(ADAPTED), BASE, BASE, "tie", "tie (bothbad)"]);
  expect(lines[0]).toMatchObject({
    conversation_a: [{ role: "user", content: "question 0" }, { role: "assistant" }],
    conversation_b: [{ role: "user", content: "question 0" }, { role: "assistant" }],
  });

  // What was better is a preference; all is there after a reload.
  await page.reload();
  await page.getByRole("button", { name: "Teach", exact: true }).click();
  const teach = page.getByRole("dialog", { name: "Teach" });
  await teach.getByRole("button", { name: "Preferences: 8" }).click();
  await expect(teach.getByRole("checkbox", { name: /question 0/ })).toBeChecked();
  await teach.getByRole("button", { name: "Compare answers in the arena" }).click();
  await expect(cells(0)).toHaveText([ADAPTED, "1074", /–/, "10", "70 %"]);
  await button("Delete votes").click();
  await expect(ratings).toHaveCount(0);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("who takes part is chosen; a round can be stopped; errors have a way on", async ({ shared }) => {
  const arena = await open(shared, "/?stored&learner&slow-answer");
  const { tab, page, dialog, opener, question, answers, texts, status, button, box } = arena;
  await opener.click();
  await dialog.getByText("Taking part: 2").click();
  await expect(box(BASE)).toBeChecked();
  await box(ADAPTED).uncheck();
  await question.fill("one");
  await expect(button("Ask both")).toBeDisabled();
  await expect(dialog).toContainText("Choose at least two to take part.");
  await box(`${BASE} @ temperature 1.2`).check();
  await button("Ask both").click();
  await expect(status).toHaveText("Both are answering…");
  await expect(answers).toHaveCount(2);
  await button("Stop").click();
  await expect(question).toHaveValue("one");

  // Other sampling takes part with its own settings.
  await page.goto(`${site.origin}/?stored&echo&learner`);
  await opener.click();
  await dialog.getByText("Taking part: 2").click();
  await box(ADAPTED).uncheck();
  await box(`${BASE} @ temperature 1.2`).check();
  await question.fill("one");
  await question.press("Enter");
  await expect(button("Both are bad")).toBeVisible();
  expect((await texts()).sort()).toEqual(["Answer to one at 0", "Answer to one at 1.2"]);
  // A vote that cannot be stored says so.
  await page.evaluate(() => (window.faults.write = true));
  await button("Both are bad").click();
  await expect(dialog.getByRole("alert")).toHaveText(/could not be stored/);

  await page.goto(`${site.origin}/?stored&echo&prompt-error=InvalidRequestError`);
  await opener.click();
  await question.fill("two");
  await question.press("Enter");
  await expect(dialog.getByRole("alert")).toBeVisible();
  await button("Try again").click();
  await expect(question).toHaveValue("two");
  expect(tab.errors).toEqual([]);
  await page.close();
});

/** With a second model stored, and nothing learnt. */
async function openTwo(shared: Parameters<typeof Tab.open>[0], memory: number, more = "") {
  const arena = await open(shared, "/?stored&echo&learner&models");
  const { page, box } = arena;
  await page.evaluate(() =>
    localStorage.setItem("nomoat-fake-others", JSON.stringify({ "/hub/llama-1b.gguf": 40 * 2 ** 20 })),
  );
  await page.goto(`${site.origin}/?stored&echo&learner&models&memory=${memory}${more}`);
  await expect(page.getByRole("main")).toBeVisible();
  await arena.opener.click();
  await arena.dialog.getByText("Taking part: 2").click();
  await box(ADAPTED).uncheck();
  await box("Llama 1B").check();
  return arena;
}

const engines = (page: Tab["page"]) =>
  page.evaluate(() => (window as unknown as { engines: { now: number; most: number } }).engines);

for (const [memory, most, words] of [
  [8, 2, "There is room for two"],
  [1, 1, "no room for two"],
] as const)
  test(`two models are compared with room for ${most}`, async ({ shared }) => {
    const { tab, page, dialog, question, texts, status, button } = await openTwo(shared, memory);
    await expect(dialog).toContainText(words);
    const sides = new Set<string>();
    for (let number = 0; number < 4; number += 1) {
      await question.fill(`question ${number}`);
      await question.press("Enter");
      await expect(button("A is better")).toBeFocused();
      const shown = await texts();
      const isLlama = shown.map((text) => text.endsWith("by Llama 1B"));
      expect(isLlama.filter(Boolean)).toHaveLength(1);
      expect(shown.filter((text) => text.endsWith(`by ${BASE}`))).toHaveLength(1);
      await page.keyboard.press("Enter");
      const names = isLlama[0] === true ? ["Llama 1B", BASE] : [BASE, "Llama 1B"];
      await expect(status).toHaveText(`A was ${names[0]}. B was ${names[1]}.`);
      sides.add(String(isLlama[0]));
      await page.keyboard.press("Enter");
      await expect(button("Ask both")).toBeDisabled();
    }
    expect(sides.size).toBe(2);
    await expect.poll(() => engines(page)).toEqual({ now: most, most });
    await expect(dialog.getByRole("rowheader", { name: "Llama 1B" })).toBeVisible();
    // The other model's memory is freed, and the one in use answers in the chat.
    await page.keyboard.press("Escape");
    await expect.poll(async () => (await engines(page)).now).toBe(1);
    await tab.ask("still here");
    await expect(tab.answers.last()).toHaveText(/Answer to still here.* by SmolLM2 135M Instruct/);
    expect(tab.errors).toEqual([]);
    await page.close();
  });

test("answers of two models are shown when both are there; a stop brings the model back", async ({
  shared,
}) => {
  const { tab, page, question, answers, status, button } = await openTwo(shared, 1, "&slow-second");
  await question.fill("one");
  await question.press("Enter");
  await expect(status).toHaveText("The other model is loading: 40 %");
  for (const side of [0, 1]) await expect(answers.nth(side).locator(".markdown")).toHaveText("");
  await button("Stop").click();
  await expect(question).toHaveValue("one");
  await expect(button("Ask both")).toBeEnabled();
  expect((await engines(page)).now).toBe(1);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("contenders are put together from a model, an adapter and sampling", async ({ shared }) => {
  const { tab, page, dialog, question, texts, button, opener, box } = await openTwo(shared, 8);
  await box(BASE).uncheck();
  await dialog.getByText("Add another one").click();
  const field = (name: string) => dialog.getByRole("spinbutton", { name, exact: true });
  await expect(button("Add")).toBeDisabled();
  await expect(dialog).toContainText("This one is in the list already.");
  await dialog.getByLabel("Adapter", { exact: true }).selectOption("pirate");
  await field("Temperature").fill("0.4");
  await field("Top-k").fill("7");
  const pirate = `${ADAPTED} @ temperature 0.4, top-k 7`;
  await expect(dialog).toContainText(pirate);
  await field("Top-k").press("Enter");
  await expect(box(pirate)).toBeChecked();
  await dialog.getByLabel("Model", { exact: true }).selectOption("Llama 1B");
  await expect(dialog.getByLabel("Adapter", { exact: true })).toHaveCount(0);
  await field("Min-p").pressSequentially("0.05");
  await expect(dialog).toContainText("Llama 1B @ min-p 0.05");
  await field("Min-p").fill("0.2");
  await button("Add").click();
  const llama = "Llama 1B @ min-p 0.2";
  await box("Llama 1B").uncheck();
  await question.fill("one");
  await question.press("Enter");
  await expect(button("Both are bad")).toBeVisible();
  expect((await texts()).sort()).toEqual([
    "Answer to one as pirate 1 at 0.4 top_k 7 by SmolLM2 135M Instruct",
    "Answer to one at 0 min_p 0.2 by Llama 1B",
  ]);
  // They stay, until they are taken out.
  await page.reload();
  await opener.click();
  await dialog.getByText(/^Taking part/).click();
  await expect(box(pirate)).toBeChecked();
  await expect(box(llama)).toBeChecked();
  await button(`Remove “${llama}”`).click();
  await expect(box(llama)).toHaveCount(0);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("on a phone, in Chinese, everything has its name and its place", async ({ shared }) => {
  const { tab, page } = await open(shared, "/?stored&echo");
  await page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ language: "zh" })));
  await page.setViewportSize({ width: 390, height: 844 });
  await page.reload();
  await page.getByRole("button", { name: "教学" }).click();
  await page.getByRole("button", { name: "在竞技场中比较回答" }).click();
  const dialog = page.getByRole("dialog", { name: "竞技场" });
  for (const vote of ["A 更好", "B 更好"]) {
    await dialog.getByRole("textbox", { name: "向双方提问" }).fill("一");
    await page.keyboard.press("Enter");
    await dialog.getByRole("button", { name: vote }).click();
    await dialog.getByRole("button", { name: "下一个问题" }).click();
  }
  await expect(dialog.getByRole("region", { name: "评分" })).toContainText("胜率");
  expect(await dialog.evaluate((one) => one.scrollWidth - one.clientWidth)).toBeLessThanOrEqual(0);
  const nameless = await dialog
    .locator("button, input, textarea")
    .evaluateAll(
      (all) =>
        all.filter(
          (one) =>
            !one.textContent && !one.ariaLabel && !("labels" in one && (one.labels as NodeList).length > 0),
        ).length,
    );
  expect(nameless).toBe(0);
  expect(tab.errors).toEqual([]);
  await page.close();
});
