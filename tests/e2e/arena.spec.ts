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
  return {
    tab,
    page,
    dialog,
    opener: page.getByRole("button", { name: "Arena" }),
    question: dialog.getByRole("textbox", { name: "Question to both" }),
    answers: dialog.getByRole("article"),
    status: dialog.locator(".arena-status"),
    button: (name: string | RegExp) => dialog.getByRole("button", { name }),
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
  const { tab, page, dialog, opener, question, answers, status, button } = arena;
  await opener.click();
  await dialog.getByText("Taking part: 2").click();
  const entrant = (name: string) => dialog.getByRole("checkbox", { name, exact: true });
  await expect(entrant(BASE)).toBeChecked();
  await entrant(ADAPTED).uncheck();
  await question.fill("one");
  await expect(button("Ask both")).toBeDisabled();
  await expect(dialog).toContainText("Choose at least two to take part.");
  await entrant(`${BASE} @ temperature 1.2`).check();
  await button("Ask both").click();
  await expect(status).toHaveText("Both are answering…");
  await expect(answers).toHaveCount(2);
  await button("Stop").click();
  await expect(question).toHaveValue("one");

  // Other sampling takes part with its own settings.
  await page.goto(`${site.origin}/?stored&echo&learner`);
  await opener.click();
  await dialog.getByText("Taking part: 2").click();
  await entrant(ADAPTED).uncheck();
  await entrant(`${BASE} @ temperature 1.2`).check();
  await question.fill("one");
  await question.press("Enter");
  await expect(button("Both are bad")).toBeVisible();
  expect((await answers.locator(".markdown").allTextContents()).map((text) => text.trim()).sort()).toEqual([
    "Answer to one at 0",
    "Answer to one at 1.2",
  ]);
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
