/** Versions of messages, questions taken back, and conversations as files. The engine is scripted. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "../support/fixtures.ts";
import { QUICK, startFakeSite, Tab } from "../support/fake.ts";

test("a question that failed can be taken back when others follow it", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  await tab.ask("one");
  await tab.page.goto(`${site.origin}${QUICK}&prompt-error=InvalidRequestError`);
  await tab.message.fill("two");
  await tab.message.press("Enter");
  await expect(tab.alert).toContainText("The model cannot process this request");
  await tab.page.goto(`${site.origin}${QUICK}`);
  await tab.ask("three");
  const other = await Tab.open(shared, site);
  await expect(other.questions).toHaveText(["one", "two", "three"]);
  // Only what has no answer can be taken back.
  await expect(tab.button("Remove")).toHaveCount(1);
  await tab.questions.nth(1).hover();
  await tab.button("Remove").click();
  // The model was asked both at once.
  const left = ["one", "Answer to one", "three", "Answer to two\nthree"];
  for (const each of [tab, other]) await expect.poll(() => each.shown()).toEqual(left);
  await tab.page.reload();
  await expect.poll(() => tab.shown()).toEqual(left);
  const { messages } = await tab.stored();
  const named = (content: string) => messages.find((message) => message.content === content);
  expect(messages).toHaveLength(4);
  expect(named("three")?.parent).toBe(named("Answer to one")?.id);
  expect(tab.errors).toEqual([]);
  await other.page.close();
  await tab.page.close();
  await site.stop();
});

test("edits and new answers are versions with a way back", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  await tab.ask("one");
  await tab.ask("two");
  await tab.button("Regenerate").click();
  await expect(tab.log.getByText("2 / 2")).toBeVisible();
  await tab.questions.first().hover();
  await tab.button("Edit question").first().click();
  await tab.ask("first");
  await expect.poll(() => tab.shown()).toEqual(["first", "Answer to first"]);
  await tab.page.reload();
  await expect.poll(() => tab.shown()).toEqual(["first", "Answer to first"]);
  await tab.button("Previous version").click();
  await expect.poll(() => tab.shown()).toEqual(["one", "Answer to one", "two", "Answer to two"]);
  await expect(tab.log.getByText(/\d \/ 2/)).toHaveText(["1 / 2", "2 / 2"]);
  await expect(tab.page.getByText(/of 4,096 tokens of context used/)).toBeVisible();
  await expect(tab.page.getByRole("heading", { level: 1 })).toHaveText("first");
  await tab.page.close();
  await site.stop();
});

test("conversations are searched, renamed, pinned; export, delete all and import change nothing", async ({
  shared,
  folder,
}) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  for (const question of ["apples", "bread", "cheese"]) {
    await tab.ask(question);
    if (question === "cheese") {
      await tab.button("Regenerate").click();
      await expect(tab.log.getByText("2 / 2")).toBeVisible();
    }
    await tab.button("New chat").click();
  }
  await tab.button("More for “bread”").click();
  await tab.button("Rename").click();
  await tab.page.getByRole("textbox", { name: "New title" }).fill("Brot");
  await tab.page.keyboard.press("Enter");
  await tab.button("More for “apples”").click();
  await tab.button("Pin").click();
  await expect(tab.titles).toHaveText(["apples", "cheese", "Brot"]);
  await tab.page.reload();
  await expect(tab.titles).toHaveText(["apples", "cheese", "Brot"]);
  // By title, and by what the messages say.
  const search = tab.page.getByRole("searchbox");
  await search.fill("brot");
  await expect(tab.titles).toHaveText(["Brot"]);
  await search.fill("answer to BREAD");
  await expect(tab.titles).toHaveText(["Brot"]);
  await search.fill("nowhere");
  await expect(tab.page.getByText("Nothing found.")).toBeVisible();
  await search.fill("");

  const before = await tab.stored();
  const exported = async (name: string, as: string) => {
    await tab.button("Storage").click();
    const downloading = tab.page.waitForEvent("download");
    await tab.page.getByRole("dialog").getByRole("button", { name, exact: true }).click();
    await (await downloading).saveAs(join(folder, as));
    await tab.page.keyboard.press("Escape");
    return readFileSync(join(folder, as), "utf8");
  };
  const json = await exported("Export conversations", "before.json");
  const markdown = await exported("Export as Markdown", "before.md");
  expect(markdown).toContain("# Brot\n\n## You\n\nbread\n\n## SmolLM2 135M Instruct\n\nAnswer to bread");
  expect(markdown).toContain("## SmolLM2 135M Instruct (2 / 2)\n\nAnswer to cheese");
  await tab.button("Delete all").click();
  await expect(tab.titles).toHaveCount(0);
  await expect.poll(() => tab.stored()).toEqual({ conversations: [], messages: [] });

  const imported = async (path: string) => {
    await tab.button("Storage").click();
    const choosing = tab.page.waitForEvent("filechooser");
    await tab.button("Import conversations").click();
    await (await choosing).setFiles(path);
  };
  await imported(join(folder, "before.json"));
  await expect(tab.bar).toContainText("3 conversations were imported.");
  await expect(tab.titles).toHaveText(["apples", "cheese", "Brot"]);
  expect(await tab.stored()).toEqual(before);
  expect(await exported("Export conversations", "after.json")).toBe(json);
  // Twice is not twice as much; another file is refused and changes nothing.
  await imported(join(folder, "before.json"));
  await expect(tab.bar).toContainText("3 conversations were imported.");
  const other = join(folder, "other.json");
  writeFileSync(other, '{"format":"nomoat-conversations","version":1,"conversations":[{"id":3}]}');
  await imported(other);
  await expect(tab.bar).toContainText("The file could not be imported.");
  expect(await tab.stored()).toEqual(before);
  await tab.titles.filter({ hasText: "Brot" }).click();
  await expect.poll(() => tab.shown()).toEqual(["bread", "Answer to bread"]);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});
