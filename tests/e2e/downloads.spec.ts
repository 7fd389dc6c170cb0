/** Downloads and inspections of the page, against a server that is like the hub. */
import { statSync } from "node:fs";
import { Chat, MODEL_PATH, startChatSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import { readHeader } from "../support/gguf.ts";
import { small as makeSmall, sha256, unknownArchitecture } from "../support/models.ts";
import { places, smol } from "../support/places.ts";
import { shardRanges, type Site } from "../support/server.ts";

const SECOND = "/models/second.gguf";
const REVISION = "0123456789abcdef0123456789abcdef01234567";

/** The server offers two models, one that is not there, and one that it refuses. */
async function startSite(small: string, second: string): Promise<Site> {
  const site = await startChatSite(small);
  site.files.set(SECOND, second);
  site.faults.set("/models/refused.gguf", { status: 401 });
  const entry = (id: string, size: number) => ({ id, name: id, url: `/models/${id}.gguf`, size });
  const models = [
    entry("small", statSync(small).size),
    entry("second", statSync(second).size),
    entry("missing", 1e6),
    entry("refused", 1e6),
  ];
  site.texts.set("/config.json", JSON.stringify({ hub_endpoint: "/hub", models, default_model: "small" }));
  return site;
}

function parts({ page }: Chat) {
  const dialog = page.getByRole("dialog", { name: "Models" });
  return {
    dialog,
    search: dialog.getByRole("combobox", { name: "Search models" }),
    option: (name: RegExp) => dialog.getByRole("option", { name }),
    button: (name: string | RegExp) => dialog.getByRole("button", { name }),
    queue: dialog.getByRole("region", { name: "Downloads" }).getByRole("listitem"),
  };
}

test("a download is paused, goes on where it was, is used without the server, and is deleted", async ({
  shared,
  small,
  folder,
}) => {
  const site = await startSite(small, makeSmall(folder, "Second"));
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { dialog, option, button, queue } = parts(chat);
  await chat.model.click();
  site.faults.set(SECOND, { pace: 20 });
  await option(/^second/).click();
  await button("Download for later").click();
  await expect(queue).toContainText(/second.*being downloaded.*of/);
  // Something has arrived.
  await expect
    .poll(() => site.asked(SECOND).reduce((sum, { sent }) => sum + sent, 0))
    .toBeGreaterThan(3 * 1024 * 1024);
  await button("Pause second").click();
  await expect(queue).toContainText("paused");
  await expect(option(/^second/)).toContainText("paused");
  const asked = site.asked(SECOND).length;
  site.faults.delete(SECOND);
  await button("Resume second").click();
  await expect(queue).toHaveCount(0);
  await expect(option(/^second/)).toContainText("on this device");
  // The shards under way had parts, and their rest was asked for.
  const resumed = shardRanges(site.asked(SECOND).slice(asked)).map((range) => Number(range.split("-")[0]));
  expect(resumed.some((start) => start % (8 * 1024 * 1024) !== 0)).toBe(true);

  site.faults.set(SECOND, { status: 503 });
  const before = site.log.length;
  await button("Use this model").click();
  await chat.ready("cpu");
  expect(site.asked(SECOND, before)).toEqual([]);
  expect(site.asked(MODEL_PATH)).toEqual([]);
  await chat.model.click();
  await button("Delete second").click();
  await expect(option(/^second/)).toContainText("not downloaded");
  await expect(dialog.getByRole("group", { name: "On this device" })).toHaveCount(0);
  await chat.page.close();
  await site.stop();
});

test("what is not there and what is refused says so, and does not hold up the rest", async ({
  shared,
  small,
}) => {
  const site = await startSite(small, small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { option, button, queue } = parts(chat);
  await chat.model.click();
  for (const name of [/^missing/, /^refused/, /^second/]) {
    await option(name).click();
    await button("Download for later").click();
  }
  await expect(option(/^second/)).toContainText("on this device");
  await expect(queue).toHaveText([/missing.*The model was not found/, /refused.*The model was not found/]);
  await button("Stop downloading missing").click();
  await expect(queue).toHaveCount(1);
  await chat.page.close();
  await site.stop();
});

test("a catalogue model comes from the mirror that is set in the page", async ({ shared, small }) => {
  const site = await startSite(small, small);
  site.files.set(smol.hubPath.replace("/hub/", "/mirror/"), places.model);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { option, button } = parts(chat);
  await chat.page.getByRole("button", { name: "Settings" }).click();
  const address = chat.page.getByRole("textbox", { name: "Address of the hub, or of a mirror" });
  await address.fill(`${site.origin}/mirror`);
  await address.press("Tab");
  await chat.page.keyboard.press("Escape");
  await chat.model.click();
  await option(/^SmolLM2 135M/).click();
  await button("Download for later").click();
  await expect(option(/^SmolLM2 135M/)).toContainText("on this device");
  expect(site.asked(smol.hubPath)).toEqual([]);
  expect(chat.faults).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("a compressed file loads where its size is known, and else the page says what is wrong", async ({
  shared,
  small,
}) => {
  const site = await startSite(small, small);
  site.files.set(smol.hubPath, places.model);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { dialog, search, option, button } = parts(chat);
  await chat.model.click();
  for (const gzip of ["parts", "whole"] as const) {
    site.faults.set(SECOND, { gzip });
    await search.fill(`${site.origin}${SECOND}`);
    await search.press("Enter");
    await expect(dialog.getByRole("alert")).toContainText("without Content-Encoding");
  }
  await search.fill("");
  // The catalogue knows this one's size, and its hash.
  site.faults.set(smol.hubPath, { gzip: "parts" });
  await option(/^SmolLM2 135M/).click();
  await button("Download for later").click();
  await expect(option(/^SmolLM2 135M/)).toContainText("on this device");
  // The browser says on the console that it cannot decode a part.
  expect(chat.faults.filter((fault) => !fault.includes("ERR_CONTENT_DECODING_FAILED"))).toEqual([]);
  await chat.page.close();
  await site.stop();
});

test("the hub is slow: the page says so and another name does not wait for it", async ({ shared, small }) => {
  const site = await startSite(small, small);
  const answer = JSON.stringify({ sha: REVISION, siblings: [] });
  site.texts.set("/hub/api/models/someone/slow", answer);
  site.faults.set("/hub/api/models/someone/slow", { delay: 20_000 });
  site.texts.set("/hub/api/models/someone/quick", answer);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { dialog, search } = parts(chat);
  await chat.model.click();
  await search.fill("someone/slow");
  await search.press("Enter");
  await expect(dialog.getByText("Reading the header of the model…")).toBeVisible();
  await search.fill("someone/quick");
  await search.press("Enter");
  await expect(dialog.getByRole("alert")).toContainText('"someone/quick" has no GGUF file');
  await chat.page.close();
  await site.stop();
});

test("a repository is listed and inspected by its header, before its download", async ({
  shared,
  small,
  folder,
}) => {
  const site = await startSite(small, small);
  const unknown = unknownArchitecture(folder);
  const list = (id: string, path: string, file: string) => {
    const lfs = { size: statSync(file).size, sha256: sha256(file) };
    const answer = { sha: REVISION, cardData: { license: "mit" }, siblings: [{ rfilename: path, lfs }] };
    site.texts.set(`/hub/api/models/${id}`, JSON.stringify(answer));
    site.files.set(`/hub/${id}/resolve/${REVISION}/${path}`, file);
    return `/hub/${id}/resolve/${REVISION}/${path}`;
  };
  const good = list("someone/good", "small-Q8_0.gguf", small);
  list("someone/other", "other.gguf", unknown);
  site.faults.set("/hub/api/models/someone/gated", { status: 401 });
  // So slow that no buffer fills on the way: little more is sent than what is read.
  site.faults.set(good, { pace: 60 });
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { dialog, search, button } = parts(chat);
  await chat.model.click();
  const named = async (name: string) => {
    await search.fill(name);
    await search.press("Enter");
  };
  await named("someone/none");
  await expect(dialog.getByRole("alert")).toContainText("The model was not found");
  await named("someone/gated");
  await expect(dialog.getByRole("alert")).toContainText("private or gated");
  await named("someone/other");
  await expect(dialog.getByText("Does not run here")).toBeVisible();
  await expect(dialog).toContainText('the model\'s architecture "moatnet" is not supported');
  await named("someone/good");
  await expect(dialog.getByText("Runs on the CPU")).toBeVisible();
  await expect(dialog.locator(".model-details")).toContainText(/Small.*llama.*chat template/);
  await expect(dialog.getByText(/^Memory: /)).toBeVisible();
  const sent = site.asked(good).reduce((sum, entry) => sum + entry.sent, 0);
  const header = Math.min(...readHeader(small).tensors.map(({ offset }) => offset));
  // The vocabulary alone makes it 1.8 MB. What is under way when the connection is dropped comes on top.
  expect(sent).toBeGreaterThanOrEqual(header);
  expect(sent).toBeLessThan(header + 2e6);
  site.faults.delete(good);
  await button(/^Download and start/).click();
  await chat.ready("cpu");
  await expect(chat.model).toContainText("small-Q8_0");
  await chat.page.close();
  await site.stop();
});

test("a first visit recommends a model, says how fast it would be, and takes it from the hub", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  site.texts.set("/config.json", JSON.stringify({ hub_endpoint: "/hub", models: [] }));
  const repository = "/hub/bartowski/Llama-3.2-1B-Instruct-GGUF/resolve/";
  const path = `${repository}b4cf2256d234c449e88647273f13842a0da80483/Llama-3.2-1B-Instruct-Q4_K_M.gguf`;
  site.files.set(path, small);
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  const { dialog, option } = parts(chat);
  const consent = page.locator(".consent");
  const onDevice = async (gib: number) => {
    await page.addInitScript(
      (memory) => Object.defineProperty(navigator, "deviceMemory", { get: () => memory, configurable: true }),
      gib,
    );
    await page.reload();
  };
  // The largest for chat that a CPU answers with quickly enough, and that half of the memory holds.
  await onDevice(8);
  await expect(chat.model).toContainText("SmolLM2 1.7B Instruct");
  await expect(consent).toContainText(
    "quick enough on this device’s CPU and fits its memory: 1.1\u00a0GB, about",
  );
  await onDevice(2);
  await expect(chat.model).toContainText("Llama 3.2 1B Instruct");
  // The device is measured once: the speed is there although no model has answered here.
  await expect(consent).toContainText(/765\sMB, about [\d.]+ tokens\/s\./);
  await chat.model.click();
  await expect(dialog.getByRole("group", { name: "Recommended for this device" })).toContainText(
    "Llama 3.2 1B",
  );
  await option(/Qwen 2.5 1.5B/).click();
  await expect(dialog.locator(".model-details")).toContainText(/about [\d.]+ tokens\/s/);
  await page.keyboard.press("Escape");
  expect(site.log.filter((entry) => entry.path.startsWith("/hub/"))).toEqual([]);
  await chat.download.click();
  await chat.ready("cpu");
  expect(site.asked(path).length).toBeGreaterThan(0);
  // Nobody was asked for another model.
  const asked = site.log.filter((entry) => entry.path.startsWith("/hub/"));
  expect(asked.every((entry) => entry.path === path)).toBe(true);
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});
