/** Answers that go on after a reload or a closed tab. The engine is scripted. */
import type { Page } from "@playwright/test";
import { isBehind, type Answer } from "../../web/src/history/records.ts";
import { fromJson, toJson } from "../../web/src/history/transfer.ts";
import { expect, test } from "../support/fixtures.ts";
import { startFakeSite, Tab } from "../support/fake.ts";
import type { Site } from "../support/server.ts";

/** Answers this question with six words, one a second. */
const SLOW = "/?stored&slow-answer";
/** One in four seconds: there is time to open other tabs. */
const SLOWER = "/?stored&slow-answer=4000";
const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
const GOES_ON = "Goes on after an interruption";
const SOON = "Interrupted: goes on as soon as the model is ready";
const INTERRUPTED = "This answer was interrupted.";

let site: Site;
test.beforeEach(async () => {
  site = await startFakeSite();
});
test.afterEach(() => site.stop());

/** Asks, and waits for the first words of the answer. */
async function begin(tab: Tab): Promise<void> {
  await tab.message.fill(QUESTION);
  await tab.message.press("Enter");
  await expect(tab.answers).toContainText("The capital");
  expect(await tab.answers.textContent()).not.toContain("Paris");
}

/** The answers as they are stored. */
async function answersOf(tab: Tab): Promise<(Answer & Record<string, unknown>)[]> {
  const { messages } = await tab.stored();
  return messages.filter(({ role }) => role === "assistant") as unknown as (Answer &
    Record<string, unknown>)[];
}

/** Changes the stored answer, in a page that does nothing else. */
async function change(page: Page, by: Record<string, unknown>): Promise<void> {
  await page.goto(`${site.origin}/icon.svg`);
  await page.evaluate(async (changed) => {
    const done = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error as Error);
      });
    // What the closing page left is not needed: this is the draft.
    for (const key of Object.keys(localStorage))
      if (key.startsWith("nomoat-unsaved-")) localStorage.removeItem(key);
    const db = await done(indexedDB.open("nomoat-chat"));
    const store = db.transaction("messages", "readwrite").objectStore("messages");
    for (const message of await done(store.getAll()))
      if (message.role === "assistant") {
        const resume = changed.resume === null ? undefined : { ...message.resume, ...(changed.resume ?? {}) };
        await done(store.put({ ...message, ...changed, resume }));
      }
    db.close();
  }, by);
}

test("an answer goes on after a reload, as the same one and with the same text", async ({ shared }) => {
  const tab = await Tab.open(shared, site, "/?stored");
  const ask = async () => {
    await tab.message.fill("How do plants grow?");
    await tab.message.press("Enter");
    await expect(tab.answers).toContainText("Roots drink water");
  };
  await ask();
  await expect(tab.button("Stop")).toHaveCount(0);
  await tab.button("New chat").click();
  await expect(tab.questions).toHaveCount(0);
  await ask();
  await tab.page.reload();
  await expect(tab.log).toContainText(GOES_ON);
  await expect(tab.page.getByRole("status").filter({ hasText: "goes on" })).toBeAttached();
  // Twice, to be sure.
  await expect(tab.answers).toContainText("Leaves take in carbon dioxide");
  await tab.page.reload();
  await expect(tab.log).toContainText(GOES_ON);
  await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
  await expect(tab.log).not.toContainText(INTERRUPTED);
  const [first, second, ...others] = await answersOf(tab);
  expect(others).toEqual([]);
  expect(second?.content).toBe(first?.content);
  expect([first?.ending, second?.ending]).toEqual(["stop", "stop"]);
  expect(second?.completionTokens).toBe(first?.completionTokens);
  expect([first?.resume, second?.resume]).toEqual([undefined, undefined]);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
});

test("an answer goes on in the next page after its tab was closed", async ({ shared }) => {
  const first = await Tab.open(shared, site, SLOW);
  await begin(first);
  await first.page.close();
  const next = await Tab.open(shared, site, SLOW);
  await expect(next.log).toContainText(GOES_ON);
  await expect(next.answers).toHaveText(ANSWER);
  await expect(next.log.locator(".answer-foot.live")).toHaveCount(0);
  expect(await answersOf(next)).toHaveLength(1);
  expect(await next.page.evaluate(() => Object.keys(localStorage).join())).not.toContain("unsaved");
  await next.page.close();
});

test("of several tabs one continues it, and another if that one is closed", async ({ shared }) => {
  const first = await Tab.open(shared, site, SLOWER);
  await begin(first);
  const tabs = await Promise.all([1, 2, 3].map(() => Tab.open(shared, site, SLOWER)));
  for (const tab of tabs) await expect(tab.log).toContainText("Being written in another tab");
  await first.page.close();
  const going = () =>
    Promise.all(
      tabs.map(async (tab) => !tab.page.isClosed() && (await tab.log.textContent())?.includes(GOES_ON)),
    );
  for (const left of [3, 2]) {
    await expect.poll(async () => (await going()).filter(Boolean).length).toBe(1);
    const at = (await going()).indexOf(true);
    for (const [index, tab] of tabs.entries())
      if (index !== at && !tab.page.isClosed()) {
        await expect(tab.log).toContainText("Being written in another tab");
        await expect(tab.button("Stop")).toHaveCount(0);
      }
    if (left === 3) await tabs[at]?.page.close();
  }
  const open = tabs.filter(({ page }) => !page.isClosed());
  expect(open).toHaveLength(2);
  for (const tab of open) {
    await expect(tab.answers).toHaveText(ANSWER);
    await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
    expect(tab.errors).toEqual([]);
  }
  const [only] = open;
  expect(only && (await answersOf(only)).map(({ content }) => content)).toEqual([ANSWER]);
  for (const { page } of open) await page.close();
});

test("it does not go on with another model or other instructions, now or later", async ({ shared }) => {
  for (const changed of ["model", "settings"]) {
    const tab = await Tab.open(shared, site, SLOW);
    await begin(tab);
    if (changed === "model") await tab.page.goto(`${site.origin}${SLOW}&model=other`);
    else {
      await tab.page.goto(`${site.origin}/icon.svg`);
      await tab.page.evaluate(() =>
        localStorage.setItem("nomoat-settings", JSON.stringify({ systemPrompt: "Be brief." })),
      );
      await tab.page.goto(`${site.origin}${SLOW}`);
    }
    await expect(tab.log).toContainText(INTERRUPTED);
    await expect(tab.button("Regenerate")).toBeVisible();
    await expect.poll(async () => (await answersOf(tab)).at(-1)?.ending).toBe("interrupted");
    await tab.page.evaluate(() => localStorage.removeItem("nomoat-settings"));
    await tab.page.goto(`${site.origin}${SLOW}`);
    await expect(tab.page.locator(".device")).toBeVisible();
    await expect(tab.log).toContainText(INTERRUPTED);
    await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
    expect((await answersOf(tab)).at(-1)?.ending).toBe("interrupted");
    await tab.button("Delete all").click();
    await expect(tab.questions).toHaveCount(0);
    await tab.page.close();
  }
});

test("what was stopped stays stopped, also before the model is there", async ({ shared }) => {
  const tab = await Tab.open(shared, site, SLOW);
  await begin(tab);
  await tab.button("Stop").click();
  await expect(tab.log).toContainText("You stopped this answer.");
  await tab.page.reload();
  await expect(tab.page.locator(".device")).toBeVisible();
  await expect(tab.log).toContainText("You stopped this answer.");

  await tab.button("New chat").click();
  await expect(tab.questions).toHaveCount(0);
  await begin(tab);
  await tab.page.goto(`${site.origin}/?stored&stall`);
  await expect(tab.log).toContainText(SOON);
  await tab.button("Stop").click();
  await expect(tab.log).toContainText("You stopped this answer.");
  await expect(tab.button("Stop")).toHaveCount(0);
  await tab.page.goto(`${site.origin}${SLOW}`);
  await expect(tab.page.locator(".device")).toBeVisible();
  await expect(tab.log).toContainText("You stopped this answer.");

  // And while it goes on.
  await tab.button("New chat").click();
  await expect(tab.questions).toHaveCount(0);
  await begin(tab);
  await tab.page.reload();
  await expect(tab.log).toContainText(GOES_ON);
  await tab.button("Stop").click();
  await expect(tab.log).toContainText("You stopped this answer.");
  expect((await answersOf(tab)).map(({ ending, resume }) => [ending, resume])).toEqual(
    Array.from({ length: 3 }, () => ["stopped", undefined]),
  );
  await tab.page.close();
});

test("a tab that waits for another one does not continue what is stopped there", async ({ shared }) => {
  const first = await Tab.open(shared, site, SLOWER);
  await begin(first);
  const second = await Tab.open(shared, site, SLOWER);
  await expect(second.log).toContainText("Being written in another tab");
  // It takes a while until that is stored.
  await first.page.evaluate(() => (window.faults.write = true));
  await first.button("Stop").click();
  await expect(first.log).toContainText("You stopped this answer.");
  await expect(second.log).toContainText(INTERRUPTED);
  await expect(second.button("Regenerate")).toBeVisible();
  // The page tries again by itself.
  await first.page.evaluate(() => (window.faults.write = false));
  await expect(second.log).toContainText("You stopped this answer.");
  await expect(second.log.locator(".answer-foot.live")).toHaveCount(0);
  expect((await answersOf(second)).map(({ ending, resume }) => [ending, resume])).toEqual([
    ["stopped", undefined],
  ]);
  await first.page.close();
  await second.page.close();
});

test("a deleted conversation does not come back", async ({ shared }) => {
  const tab = await Tab.open(shared, site, SLOWER);
  await begin(tab);
  await tab.page.goto(`${site.origin}/?stored&stall`);
  await expect(tab.log).toContainText(SOON);
  await tab.button("Delete all").click();
  await expect(tab.questions).toHaveCount(0);
  await tab.page.goto(`${site.origin}${SLOWER}`);
  await expect(tab.page.locator(".device")).toBeVisible();
  await expect(tab.questions).toHaveCount(0);
  await expect.poll(() => tab.stored()).toEqual({ conversations: [], messages: [] });

  // Deleted elsewhere while it goes on.
  await begin(tab);
  await tab.page.reload();
  await expect(tab.log).toContainText(GOES_ON);
  const other = await Tab.open(shared, site, "/?stored&stall");
  await other.button("Delete all").click();
  await expect(tab.page.getByText("This conversation was deleted in another tab.")).toBeVisible();
  await other.page.close();
  await tab.page.reload();
  expect(await tab.stored()).toEqual({ conversations: [], messages: [] });
  expect(tab.errors).toEqual([]);
  await tab.page.close();
});

test("nothing is downloaded for it; with the person's agreement it goes on", async ({ shared }) => {
  const tab = await Tab.open(shared, site, SLOW);
  await begin(tab);
  await tab.page.goto(`${site.origin}/icon.svg`);
  await tab.page.evaluate(() => localStorage.removeItem("nomoat-fake-bytes"));
  await tab.page.goto(`${site.origin}/?slow-answer`);
  await expect(tab.log).toContainText(INTERRUPTED);
  await expect(tab.button("Regenerate")).toBeVisible();
  await expect(tab.button("Stop")).toHaveCount(0);
  const download = tab.button(/^Download and start/);
  await expect(download).toBeVisible();
  expect(await tab.page.evaluate(() => localStorage.getItem("nomoat-fake-bytes"))).toBe(null);
  await download.click();
  await expect(tab.log).toContainText(SOON);
  await expect(tab.answers).toHaveText(ANSWER);
  await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
  expect(await answersOf(tab)).toHaveLength(1);
  await tab.page.close();
});

test("another question or answer takes its place", async ({ shared }) => {
  const tab = await Tab.open(shared, site, SLOW);
  await begin(tab);
  await tab.page.goto(`${site.origin}/icon.svg`);
  await tab.page.evaluate(() => localStorage.removeItem("nomoat-fake-bytes"));
  await tab.page.goto(`${site.origin}/`);
  await expect(tab.log).toContainText(INTERRUPTED);
  await tab.button("Regenerate").click();
  await expect(tab.answers).toHaveText(ANSWER);
  await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
  await tab.button("Previous version").click();
  await expect(tab.log).toContainText(INTERRUPTED);
  await tab.page.reload();
  await expect(tab.page.locator(".device")).toBeVisible();
  await expect(tab.log).toContainText(INTERRUPTED);
  const answers = await answersOf(tab);
  expect(answers.map(({ ending, resume }) => [ending, resume]).sort()).toEqual([
    ["interrupted", undefined],
    ["stop", undefined],
  ]);
  await tab.page.close();
});

test("damaged entries, and those that were tried too often, are not continued", async ({ shared }) => {
  const tab = await Tab.open(shared, site, SLOW);
  await begin(tab);
  const damages: Record<string, unknown>[] = [
    { resume: { ids: ["x"] } },
    { resume: { ids: [-1] } },
    { resume: { ids: Array.from({ length: 32_769 }, () => 1) } },
    { resume: { ids: "many" } },
    { resume: { content: 10_000 } },
    { resume: { at: 10_000 } },
    { resume: { request: null } },
    {
      resume: { request: { sampling: { temperature: "hot" }, seed: 1, maxTokens: 9, thinkingBudget: null } },
    },
    { resume: { calls: [{}] } },
    { resume: { digest: "x" } },
    { resume: { tries: 3 } },
    { resume: null },
  ];
  // The draft as it was.
  await tab.page.goto(`${site.origin}/icon.svg`);
  const [draft] = await answersOf(tab);
  expect(draft?.resume?.ids).toEqual(draft?.resume?.ids.map((_, index) => index));
  for (const damage of damages) {
    await change(tab.page, {
      ...draft,
      ...damage,
      resume: damage.resume && { ...draft?.resume, ...damage.resume },
    });
    await tab.page.goto(`${site.origin}${SLOW}`);
    await expect(tab.page.locator(".device")).toBeVisible();
    await expect(tab.log).toContainText(INTERRUPTED);
    await expect(tab.log.locator(".answer-foot.live")).toHaveCount(0);
    await expect(tab.button("Regenerate")).toBeVisible();
    const [left] = await answersOf(tab);
    expect(left?.content).toBe(draft?.content);
    expect([null, "interrupted"]).toContain(left?.ending);
  }
  // Undamaged, it goes on.
  await change(tab.page, { ...draft });
  await tab.page.goto(`${site.origin}${SLOW}`);
  await expect(tab.log).toContainText(GOES_ON);
  await expect(tab.answers).toHaveText(ANSWER);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
});

test("exports have no tokens, and what is imported does not go on", () => {
  const conversations = [{ id: "c", title: "t" }];
  const message = { id: "a", conversation: "c", parent: null, role: "assistant", content: "one" };
  const json = toJson({ conversations, messages: [{ ...message, resume: { ids: [1] } }] });
  expect(json).toContain('"one"');
  expect(json).not.toContain("resume");
  const given = JSON.parse(json) as { conversations: { messages: object[] }[] };
  Object.assign(given.conversations[0]?.messages[0] ?? {}, { resume: { ids: [1] } });
  const [read] = fromJson(JSON.stringify(given)).messages;
  expect(read).toMatchObject({ ...message, resume: undefined });
});

test("a late draft does not replace what is further", () => {
  const answer = (content: string, ending: Answer["ending"] = null): Answer => ({
    id: "a",
    conversation: "c",
    parent: "q",
    createdAt: 1,
    role: "assistant",
    content,
    model: "m",
    ending,
    promptTokens: null,
    cachedTokens: 0,
    completionTokens: 0,
    tokensPerSecond: null,
    omitted: 0,
  });
  expect(isBehind(answer("one"), answer("one two"))).toBe(true);
  expect(isBehind(answer("one two"), answer("one"))).toBe(false);
  expect(isBehind(answer("one"), answer("one"))).toBe(false);
  expect(isBehind(answer("one two"), answer("one", "stopped"))).toBe(true);
  expect(isBehind(answer("one", "stopped"), answer("one two"))).toBe(false);
  expect(isBehind(answer("one"), undefined)).toBe(false);
  expect(isBehind({ ...answer("a"), reasoning: "b" }, { ...answer("a"), reasoning: "bc" })).toBe(true);
});
