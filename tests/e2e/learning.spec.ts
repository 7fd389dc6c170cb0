/** The Teach panel and its adapters. The package is scripted; teach.spec.ts teaches a real model. */
import type { Page } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
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

/** Drops files on the list of adapters; bytes are given as base64. */
function dropAdapters(page: Page, files: [name: string, text: string | { base64: string }][]): Promise<void> {
  return page.getByRole("region", { name: "Adapters" }).evaluate((list, given) => {
    const dataTransfer = new DataTransfer();
    for (const [name, text] of given) {
      const part =
        typeof text === "string" ? text : Uint8Array.from(atob(text.base64), (c) => c.charCodeAt(0));
      dataTransfer.items.add(new File([part], name));
    }
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

/** A zip archive as Python's zipfile writes it, deflated. */
function zipped(files: Record<string, string>): Buffer {
  const code =
    "import io,json,sys,zipfile\nout=io.BytesIO()\n" +
    "with zipfile.ZipFile(out,'w',zipfile.ZIP_DEFLATED) as archive:\n" +
    " [archive.writestr(name,text) for name,text in json.load(sys.stdin).items()]\n" +
    "sys.stdout.buffer.write(out.getvalue())";
  return execFileSync("python3", ["-c", code], { input: JSON.stringify(files) });
}

test("zips of PEFT's folders are dropped or chosen, and exported ones come back", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared);
  await panel();
  const switches = dialog.getByRole("switch");
  const [config, weights] = ["adapter_config.json", "adapter_model.safetensors"];
  const folder = zipped({
    "poet/README.md": "A poet.",
    [`poet/${config}`]: "{}",
    [`poet/${weights}`]: "weights ".repeat(1000),
    [`poet/checkpoint-5/${config}`]: "{}",
    [`poet/checkpoint-5/${weights}`]: "damaged",
  });
  await dropAdapters(page, [["download.zip", { base64: folder.toString("base64") }]]);
  await expect(dialog.getByRole("switch", { name: "poet", exact: true })).toBeChecked();
  // Without a folder it is called as the archive is; a GGUF file within one as that file.
  const choose = (name: string, buffer: Buffer) =>
    page.getByLabel("Import adapter").setInputFiles({ name, mimeType: "application/zip", buffer });
  await choose("singer.zip", zipped({ [config]: "{}", [weights]: "w" }));
  await expect(dialog.getByRole("switch", { name: "singer", exact: true })).toBeVisible();
  await choose("some.ZIP", zipped({ "a/pirate.gguf": "GGUF" }));
  await expect(dialog.getByRole("switch", { name: "pirate", exact: true })).toBeVisible();
  await expect(switches).toHaveCount(3);
  for (const buffer of [
    Buffer.from("no archive"),
    zipped({ [config]: "{}", [`other/${weights}`]: "w" }),
    folder.subarray(0, 200),
  ]) {
    await choose("notes.zip", buffer);
    await expect(dialog.getByRole("alert")).toHaveText(/^notes\.zip has no adapter: neither adapter_config/);
    await choose("bad.gguf", Buffer.from("damaged"));
    await expect(dialog.getByRole("alert")).not.toHaveText(/notes/);
  }
  await expect(switches).toHaveCount(3);

  const downloading = page.waitForEvent("download");
  const poet = dialog.getByRole("listitem").filter({ hasText: "poet" });
  await poet.getByRole("button", { name: "Export for PEFT" }).click();
  const exported = readFileSync(await (await downloading).path());
  await poet.getByRole("button", { name: "Remove" }).click();
  await expect(switches).toHaveCount(2);
  await choose("again.zip", exported);
  await expect(dialog.getByRole("switch", { name: "poet", exact: true })).toBeVisible();
  await expect(button("Export for PEFT")).toHaveCount(2);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("memory is told before, and every setting behind a preset can be changed", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared);
  await correct(tab, "one", "ONE");
  await panel();
  // One example, eight epochs. The stand-in takes 5 MB for each rank.
  await expect(dialog).toContainText(/8 steps, at most 20\sMB of memory beside the model\./);
  // What was measured stays until something else is chosen.
  await button("Estimate").click();
  await expect(dialog).toContainText(/8 steps, about /);
  await page.waitForTimeout(1000);
  await expect(dialog).toContainText(/8 steps, about /);
  await button("Thorough").click();
  await expect(dialog).toContainText(/12 steps, at most 80\sMB/);
  await button("Quick").click();
  await dialog.getByText("Settings of training").click();
  const values = {
    Rank: 6,
    Alpha: 9,
    "Learning rate": 0.002,
    "Steps in which the rate rises": 2,
    Epochs: 3,
    "Examples per step": 2,
    "Longest example in tokens": 128,
    "Weight decay": 0.01,
    "Share kept for validation": 0.2,
  };
  for (const [name, value] of Object.entries(values))
    await dialog.getByRole("spinbutton", { name, exact: true }).fill(String(value));
  await dialog.getByLabel("Schedule of the learning rate").selectOption("stays");
  await expect(dialog).toContainText(/3 steps, at most 30\sMB/);
  await expect(button("Quick")).toHaveAttribute("aria-pressed", "false");

  const targets = dialog.getByRole("textbox", { name: "Projections that learn" });
  await targets.fill("attn_q, up");
  await targets.press("Tab");
  await expect(dialog.getByRole("alert")).toContainText(
    'no projection is called "up"; this model has attn_q',
  );
  await expect(button("Teach")).toBeDisabled();
  await targets.fill("attn_q,attn_v");
  await targets.press("Tab");
  await expect(dialog.getByRole("alert")).toHaveCount(0);
  const patience = dialog.getByRole("spinbutton", { name: /^Early stopping/ });
  await patience.fill("4");
  await dialog.getByRole("spinbutton", { name: "Share kept for validation" }).fill("0");
  await dialog.getByRole("spinbutton", { name: "Rank", exact: true }).focus();
  await expect(dialog.getByRole("alert")).toContainText("patience needs validation");
  await dialog.getByRole("spinbutton", { name: "Share kept for validation" }).fill("0.2");
  await dialog.getByRole("spinbutton", { name: "Rank", exact: true }).focus();
  await button("Teach").click();
  await button("Keep").click();
  expect(await page.evaluate(() => (window as unknown as { taught: object }).taught)).toMatchObject({
    rank: 6,
    alpha: 9,
    targets: ["attn_q", "attn_v"],
    learningRate: 0.002,
    warmup: 2,
    schedule: "constant",
    epochs: 3,
    batch: 2,
    maxTokens: 128,
    weightDecay: 0.01,
    validation: 0.2,
    patience: 4,
  });
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("lessons are imported, searched, edited, deleted, left out and exported", async ({ shared }) => {
  const { tab, page, dialog, panel, button } = await open(shared);
  await panel();
  await expect(dialog).toContainText("None yet.");
  await expect(button("Export JSONL")).toHaveCount(0);
  const lines = [
    ...Array.from({ length: 7 }, (_, n) => ({ prompt: `question ${n}`, completion: `answer ${n}` })),
    { prompt: "which", chosen: "better", rejected: "worse" },
  ].map((line) => JSON.stringify(line));
  const buffer = Buffer.from([...lines, "{", '{"text": 1}'].join("\n"));
  const file = { name: "lessons.jsonl", mimeType: "application/jsonl", buffer };
  await page.getByLabel("Import JSONL").setInputFiles(file);
  await expect(dialog).toContainText("8 imported. Lines left out: 2.");
  await expect(dialog).toContainText("Line 9: not JSON.");
  await expect(dialog).toContainText("Line 10: an unknown format.");
  const boxes = dialog.getByRole("checkbox");
  await expect(boxes).toHaveCount(7);

  const search = dialog.getByRole("searchbox", { name: "Search" });
  await search.fill("answer 3");
  await expect(boxes).toHaveCount(1);
  await button("Edit the answer to “question 3”").click();
  await dialog.getByRole("textbox", { name: "The answer as it should be" }).fill("the third");
  await button("Save").click();
  await expect(boxes).toHaveCount(0);
  await search.fill("THIRD");
  await expect(dialog.getByRole("checkbox", { name: /question 3.*the third/ })).toBeVisible();
  await search.fill("");
  await button("Delete “question 5”").click();
  await expect(boxes).toHaveCount(6);

  // Those that are not ticked are not taught: five of six, for eight epochs.
  await dialog.getByRole("checkbox", { name: /question 0/ }).uncheck();
  await expect(dialog).toContainText("40 steps");

  const exported = async () => {
    const downloading = page.waitForEvent("download");
    await button("Export JSONL").click();
    return readFileSync(await (await downloading).path(), "utf8")
      .trimEnd()
      .split("\n");
  };
  const example = (question: string, answer: string) => ({
    messages: [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ],
  });
  const numbers = [0, 1, 2, 3, 4, 6];
  expect((await exported()).map((line) => JSON.parse(line) as unknown)).toEqual(
    numbers.map((n) => example(`question ${n}`, n === 3 ? "the third" : `answer ${n}`)),
  );
  await button("Preferences: 1").click();
  await expect(dialog.getByRole("checkbox", { name: /which.*better.*worse/ })).toBeChecked();
  await button("Edit the answer to “which”").click();
  await dialog.getByRole("textbox", { name: "The answer as it should be" }).fill("best");
  await button("Save").click();
  await expect(dialog.getByRole("checkbox", { name: /which.*best.*worse/ })).toBeVisible();
  expect(await exported()).toHaveLength(1);
  await page.reload();
  await panel();
  await expect(boxes).toHaveCount(6);
  await expect(button("Preferences: 1")).toBeVisible();
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
