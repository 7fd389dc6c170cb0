/** What is said of a model before its download: the same for every source, and true once it is loaded. */
import { statSync } from "node:fs";
import { barePage } from "../support/bare.ts";
import { Chat, startChatSite } from "../support/chat.ts";
import { expect, SMALL_PATH, test } from "../support/fixtures.ts";
import { sha256 } from "../support/models.ts";
import { smol } from "../support/places.ts";
import type { Site } from "../support/server.ts";
import { bytes } from "../../web/src/lib/format.ts";

const REVISION = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY = "someone/small-GGUF";
const FILE = "small-Q4_1.gguf";

/** Puts the small model into a repository of the site's hub. Returns the file's path. */
function addRepository(site: Site, small: string): string {
  const lfs = { size: statSync(small).size, sha256: sha256(small) };
  const answer = { sha: REVISION, siblings: [{ rfilename: FILE, lfs }] };
  site.texts.set(`/hub/api/models/${REPOSITORY}`, JSON.stringify(answer));
  const path = `/hub/${REPOSITORY}/resolve/${REVISION}/${FILE}`;
  site.files.set(path, small);
  return path;
}

test("a repository, an address and a file have the same numbers, and loading takes what they say", async ({
  shared,
  bare,
  small,
}) => {
  addRepository(bare, small);
  const page = await barePage(shared, bare);
  await page.locator("input").setInputFiles(small);
  const said = await page.evaluate(
    async ([repository, address, catalogued]) => {
      const { createEngine, inspectModel } = window.nomoat;
      const options = { hubEndpoint: "/hub", device: "cpu", contextLength: 1000 } as const;
      const file = document.querySelector("input")?.files?.[0];
      if (!file) throw new Error("no file was chosen");
      const inspections = [];
      for (const source of [repository, address, file]) {
        const { weightBytes, kvBytes, bytesPerToken, contextLength, size, runsOn, fit } = await inspectModel(
          source,
          options,
        );
        inspections.push({ weightBytes, kvBytes, bytesPerToken, contextLength, size, runsOn, fit });
      }
      const engine = await createEngine({ model: address, ...options, parallel: 1 });
      const { kvBytes, bytesPerToken, contextLength } = engine.model;
      await engine.dispose();
      const entry = await inspectModel(catalogued, options);
      return { inspections, loaded: { kvBytes, bytesPerToken, contextLength }, entry };
    },
    [REPOSITORY, SMALL_PATH, smol.id] as const,
  );
  const [first] = said.inspections;
  expect(said.inspections).toEqual([first, first, first]);
  expect(first).toMatchObject({ ...said.loaded, runsOn: "cpu", fit: "fits", size: statSync(small).size });
  expect(first?.weightBytes).toBeGreaterThanOrEqual(first?.bytesPerToken ?? Infinity);
  // What the catalogue says of a token of context. Contexts are whole pages of 32.
  expect(said.entry.kvBytes).toBe(smol.kv_bytes_per_token * 1024);
  await page.close();
});

test("a device is measured once, without a model, and inspections say what can be expected", async ({
  shared,
  bare,
}) => {
  const page = await barePage(shared, bare);
  const said = await page.evaluate(async (model) => {
    const { expectedSpeed, inspectModel, measureSpeed } = window.nomoat;
    const device = "cpu";
    const { tokensPerSecond: before } = await inspectModel(model, { device });
    const stopping = new AbortController();
    const stopped = measureSpeed({ device, signal: stopping.signal }).catch((error: Error) => error.name);
    stopping.abort();
    const both = await Promise.all([measureSpeed({ device }), measureSpeed({ device })]);
    const { tokensPerSecond: after, bytesPerToken } = await inspectModel(model, { device });
    return { before, stopped: await stopped, both, after, expected: expectedSpeed(both[0], bytesPerToken) };
  }, SMALL_PATH);
  expect(said).toMatchObject({ before: null, stopped: "AbortError", both: [{ backend: "cpu" }, {}] });
  expect(said.both[1]).toEqual(said.both[0]);
  expect(said.both[0].bytesPerSecond).toBeGreaterThan(0);
  expect(said.after).toBeGreaterThan(0);
  expect(said.after).toBe(said.expected);
  await page.close();
});

test("the page shows these numbers for each source, also at other lengths", async ({ shared, small }) => {
  const site = await startChatSite(small);
  addRepository(site, small);
  site.texts.set("/config.json", JSON.stringify({ hub_endpoint: "/hub", models: [] }));
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  // As if an answer had been written here.
  await page.evaluate(() => localStorage.setItem("nomoat-bandwidth", JSON.stringify({ cpu: 8e9 })));
  await page.reload();
  const dialog = page.getByRole("dialog", { name: "Models" });
  const search = dialog.getByRole("combobox", { name: "Search models" });
  const memory = dialog.getByText(/^Memory: .* for the weights/);
  const slider = dialog.getByRole("slider", { name: "Context length" });
  const verdict = async () => {
    await expect(dialog.getByText("Runs on the CPU")).toBeVisible();
    const speed = await dialog.getByText("Runs on the CPU").textContent();
    await slider.press("Home");
    const short = await memory.textContent();
    await slider.press("End");
    return { speed, short, long: await memory.textContent() };
  };
  await chat.model.click();
  await search.fill(REPOSITORY);
  await search.press("Enter");
  const first = await verdict();
  expect(first.speed).toMatch(/about \d+ tokens\/s/);
  // Two of SmolLM2's 30 layers.
  const token = (smol.kv_bytes_per_token * 2) / 30;
  expect(first.short).toContain(`${bytes(token * 1024)} for the context`);
  expect(first.long).toContain(`${bytes(token * 8192)} for the context`);
  await search.fill(`${site.origin}/hub/${REPOSITORY}/resolve/main/${FILE}`);
  site.files.set(`/hub/${REPOSITORY}/resolve/main/${FILE}`, small);
  await search.press("Enter");
  expect(await verdict()).toEqual(first);
  await page.keyboard.press("Escape");

  // A dropped file that has room runs at once; its verdict can be read in the list.
  await chat.model.click();
  await dialog.locator("input[type=file]").setInputFiles(small);
  await chat.ready("cpu");
  await chat.model.click();
  await dialog.getByRole("button", { name: "Inspect", exact: true }).click();
  expect(await verdict()).toEqual(first);
  expect(chat.faults).toEqual([]);
  await page.close();
  await site.stop();
});

test("without the network, what is stored is listed, inspected, used and deleted", async ({
  shared,
  small,
}) => {
  const site = await startChatSite(small);
  const path = addRepository(site, small);
  const config = { hub_endpoint: "/hub", models: [] };
  site.texts.set("/config.json", JSON.stringify(config));
  const chat = await Chat.open(shared, site.origin, "cpu");
  const { page } = chat;
  const dialog = page.getByRole("dialog", { name: "Models" });
  const search = dialog.getByRole("combobox", { name: "Search models" });
  const button = (name: string | RegExp) => dialog.getByRole("button", { name });
  await chat.model.click();
  await search.fill(REPOSITORY);
  await search.press("Enter");
  await button("Download for later").click();
  const stored = dialog.getByRole("group", { name: "On this device" });
  await expect(stored).toContainText("small-Q4_1");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  expect(site.asked(path).length).toBeGreaterThan(0);
  await site.stop();

  await page.reload();
  await chat.model.click();
  await stored.getByRole("option", { name: /small-Q4_1/ }).click();
  await button("Inspect").click();
  await expect(dialog.getByText("Runs on the CPU")).toBeVisible();
  await expect(dialog.getByText(/^Memory: .* for the weights/)).toBeVisible();
  await button("Use this model").click();
  await chat.ready("cpu");
  await chat.ask("Hello");
  await expect(chat.answer.first()).toContainText(/\S/);
  await chat.stop.click();
  // What is not stored says what stands in its way.
  await chat.model.click();
  await search.fill("someone/other");
  await search.press("Enter");
  await expect(dialog.getByRole("alert")).toContainText("The connection failed", { timeout: 30_000 });
  await search.fill("small-Q4");
  await button("Delete small-Q4_1").click();
  await expect(stored).toHaveCount(0);
  await page.close();
});
