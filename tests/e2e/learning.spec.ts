/** The Teach panel and its adapters. The package is scripted; teach.spec.ts teaches a real model. */
import type { Page } from "@playwright/test";
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

/** A page with nothing stored, and its panel. */
async function open(shared: Parameters<typeof Tab.open>[0], path = "/?stored&echo") {
  const tab = await Tab.open(shared, site, path);
  await tab.page.evaluate(() => {
    localStorage.clear();
    indexedDB.deleteDatabase("nomoat-lessons");
  });
  await tab.page.goto(site.origin + path);
  const { page } = tab;
  const dialog = page.getByRole("dialog", { name: "Teach" });
  const panel = async () => {
    if (!(await dialog.isVisible())) await page.getByRole("button", { name: "Teach", exact: true }).click();
    return dialog;
  };
  const button = (name: string) => dialog.getByRole("button", { name, exact: true });
  return { tab, page, dialog, panel, button };
}

/** Corrects the answer to a question. */
async function correct(tab: Tab, question: string, answer: string): Promise<void> {
  await tab.ask(question);
  await tab.page.getByRole("button", { name: "Correct" }).last().click();
  await tab.page.getByRole("textbox", { name: "The answer as it should be" }).fill(answer);
  await tab.page.getByRole("button", { name: "Save", exact: true }).click();
}

/** Drops files on the list of adapters. */
function dropAdapters(page: Page, files: [name: string, text: string][]): Promise<void> {
  return page.getByRole("region", { name: "Adapters" }).evaluate((list, given) => {
    const dataTransfer = new DataTransfer();
    for (const [name, text] of given) dataTransfer.items.add(new File([text], name));
    list.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }, files);
}

test("what was learnt is shown before and after, and is continued, discarded or kept", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared);
  await correct(tab, "one", "ONE");
  await panel();
  const name = dialog.getByRole("textbox", { name: "Name of what is learnt" });
  await expect(name).toHaveValue("my adapter");
  await name.fill("a:b");
  await expect(button("Teach")).toBeDisabled();
  await expect(dialog).toContainText("Choose a name that nothing else here has");
  await name.fill("first");
  await button("Teach").click();
  const done = dialog.getByRole("region", { name: "Learnt: first" });
  const cells = done.getByRole("cell");
  const suggestion = "Answer to What is the capital of France?";
  const compared = ["Answer to one", "Answer to one as first 1", suggestion, `${suggestion} as first 1`];
  await expect(cells).toHaveText(compared);
  await expect(done.getByRole("rowheader")).toHaveText(["one", "What is the capital of France?"]);
  // One example, eight epochs: eight steps. The next eight begin where those ended.
  const steps = () =>
    done.locator(".training").evaluate((line) => line.getAttribute("points")?.split(" ").length);
  expect(await steps()).toBe(8);
  await button("Continue for 8 epochs").click();
  await expect.poll(steps).toBe(16);
  await expect(cells).toHaveText(compared);
  const isOn = dialog.getByRole("switch", { name: "first" });
  await expect(isOn).toBeChecked();
  await button("Discard").click();
  await expect(done).toHaveCount(0);
  await expect(isOn).toHaveCount(0);

  await expect(name).toHaveValue("my adapter");
  await button("Teach").click();
  await button("Keep").click();
  await expect(dialog.getByRole("switch", { name: "my adapter" })).toBeChecked();
  await expect(name).toHaveValue("my adapter 2");
  await page.reload();
  await panel();
  await expect(dialog.getByRole("switch")).toHaveCount(1);
  await expect(dialog).not.toContainText("interrupted");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a training that was continued and interrupted leaves what was learnt before", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared, "/?stored&echo&slow-teach");
  await correct(tab, "one", "ONE");
  await panel();
  await dialog.getByText("Settings of training").click();
  await dialog.getByRole("spinbutton", { name: "Epochs" }).fill("2");
  await button("Teach").click();
  await button("Continue for 8 epochs").click();
  // What it says by now, from what it has learnt until then.
  const learning = dialog.getByRole("region", { name: "Learning: my adapter" });
  await expect(learning.getByRole("cell")).toHaveText(["Answer to one", "Answer to one as … 1"]);
  await expect(dialog).toContainText(/Step [3-9] of 10/);
  await button("Stop").click();
  await expect(dialog.getByRole("switch")).toHaveCount(1);
  await expect(dialog.getByRole("switch", { name: "my adapter" })).toBeChecked();
  await button("Resume").click();
  await expect(dialog).toContainText(/Step [3-9] of 10/);
  await page.reload();
  await panel();
  await expect(dialog).toContainText("The training of “my adapter” was interrupted.");
  await expect(dialog.getByRole("switch", { name: "my adapter" })).toBeVisible();
  await button("Resume").click();
  await expect(dialog.getByRole("region", { name: "Learnt: my adapter" })).toBeVisible();
  await button("Keep").click();
  await expect(dialog).not.toContainText("interrupted");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("adapters are dropped, renamed, and still there after a reload", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared);
  await panel();
  await dropAdapters(page, [["pirate.gguf", "GGUF"]]);
  await dropAdapters(page, [["pirate.gguf", "another GGUF"]]);
  const switches = dialog.getByRole("switch");
  await expect(switches).toHaveCount(2);
  await dropAdapters(page, [
    ["adapter_config.json", "{}"],
    ["poet.safetensors", "weights"],
  ]);
  await dropAdapters(page, [["other.gguf", "damaged"]]);
  await expect(dialog.getByRole("alert")).toBeVisible();
  const row = (name: string) =>
    dialog.getByRole("listitem").filter({ has: page.getByRole("switch", { name, exact: true }) });
  await expect(row("poet")).toContainText("Export for PEFT");
  await expect(row("poet")).not.toContainText("Export GGUF");
  await expect(row("pirate")).not.toContainText("Export for PEFT");

  await button("Rename “pirate”").click();
  const box = dialog.getByRole("textbox", { name: "Name of what is learnt" }).last();
  await expect(box).toBeFocused();
  await box.fill("poet");
  await expect(button("Save")).toBeDisabled();
  await box.press("Escape");
  await expect(dialog).toBeVisible();
  await expect(row("pirate")).toBeVisible();
  await row("pirate").getByRole("slider").press("Home");
  await button("Rename “pirate”").click();
  await box.fill("corsair");
  await box.press("Enter");
  await expect(row("corsair")).toContainText("Strength 0.0");
  await expect(row("pirate")).toHaveCount(0);

  await page.reload();
  await panel();
  await expect(switches).toHaveCount(3);
  await row("corsair").getByRole("switch").check();
  await page.keyboard.press("Escape");
  await tab.message.fill("two");
  await tab.message.press("Enter");
  await expect(tab.answers.last()).toHaveText("Answer to two as corsair 1");
  await panel();
  await row("corsair").getByRole("button", { name: "Remove" }).click();
  await expect(switches).toHaveCount(2);
  await page.reload();
  await panel();
  await expect(switches).toHaveCount(2);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a file of lessons that is too large says so, in Chinese too", async ({ shared }) => {
  const { tab, page, dialog, panel } = await open(shared);
  const give = async (label: string) => {
    await page.evaluate(() => Object.defineProperty(File.prototype, "size", { value: 200_000_000 }));
    const file = { name: "lessons.jsonl", mimeType: "application/jsonl", buffer: Buffer.from("{}") };
    await page.getByLabel(label).setInputFiles(file);
  };
  await panel();
  await give("Import JSONL");
  await expect(dialog.getByRole("alert")).toHaveText(/too large: at most 100\sMB/);
  await page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ language: "zh" })));
  await page.reload();
  await page.getByRole("button", { name: "教学" }).click();
  await give("导入 JSONL");
  await expect(page.getByRole("alert")).toHaveText(/文件太大：一次最多可导入 100\sMB。/);
  expect(tab.errors).toEqual([]);
  await page.close();
});
