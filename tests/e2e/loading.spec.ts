/** Downloads, the browser's storage, and what goes wrong with them, through the package on a bare page. */
import type { Page } from "@playwright/test";
import { statSync } from "node:fs";
import { basename } from "node:path";
import {
  barePage,
  dispose,
  fingerprint,
  open,
  openFile,
  openingError,
  startBareSite,
} from "../support/bare.ts";
import { launch } from "../support/browser.ts";
import { expect, fromSite, onGpu, SMALL_PATH, test } from "../support/fixtures.ts";
import * as models from "../support/models.ts";
import { shardRanges } from "../support/server.ts";
import { corruptShard, SHARD, shardsOf, storedShards } from "../support/store.ts";

interface Broken {
  file: string;
  message: RegExp;
}

/** Loads a model of the site, takes its fingerprint, and frees it. */
async function load(page: Page, model: Parameters<typeof open>[1]["model"]) {
  await open(page, { ...fromSite, model });
  const print = await fingerprint(page);
  await dispose(page);
  return print;
}

test("a damaged shard is fetched again, alone", async ({ shared, bare, smallPage }) => {
  const print = await fingerprint(smallPage);
  const page = await barePage(shared, bare);
  await corruptShard(page, SMALL_PATH, 1);
  const since = bare.log.length;
  expect(await load(page, SMALL_PATH)).toEqual(print);
  expect(shardRanges(bare.asked(SMALL_PATH, since))).toEqual([`${SHARD}-${2 * SHARD - 1}`]);
  await page.close();
});

test("a file that is not the pinned one is refused and does not stay", async ({ shared, bare, small }) => {
  const page = await barePage(shared, bare);
  const [path, pinned] = ["/models/other.gguf", "0".repeat(64)];
  bare.files.set(path, small);
  const error = await openingError(page, { model: { url: path, sha256: pinned } });
  expect(error).toMatchObject({ name: "CorruptFileError", code: "corrupt_file" });
  expect(error.message).toContain(models.sha256(small));
  expect(error.message).toContain(pinned);
  expect(await storedShards(page, path)).toEqual([]);
  await page.close();
});

test("a server without ranges gets one request for the whole", async ({ shared, bare, small, smallPage }) => {
  const print = await fingerprint(smallPage);
  const page = await barePage(shared, bare);
  const path = "/models/streamed.gguf";
  bare.files.set(path, small);
  bare.faults.set(path, { noRanges: true });
  expect(await load(page, path)).toEqual(print);
  expect(bare.asked(path)).toMatchObject([{ status: 200, sent: statSync(small).size }]);
  expect(await storedShards(page, path)).toHaveLength(shardsOf(small));
  await page.close();
});

test("a split model loads as one, from the address of a part or from files", async ({
  shared,
  bare,
  small,
  smallPage,
}) => {
  const print = await fingerprint(smallPage);
  const parts = models.split(small);
  const page = await barePage(shared, bare);
  for (const part of parts) bare.files.set(`/models/${basename(part)}`, part);
  expect(await load(page, `/models/${basename(parts[1] ?? "")}`)).toEqual(print);
  for (const part of parts)
    expect(await storedShards(page, `/models/${basename(part)}`)).toHaveLength(shardsOf(part));

  const since = bare.log.length;
  await openFile(page, parts.toReversed(), { device: "cpu" });
  expect(await fingerprint(page)).toEqual(print);
  expect(bare.log.slice(since).filter(({ path }) => path.startsWith("/models/"))).toEqual([]);
  await page.close();
});

test("two tabs download a model once, and a third not at all", async ({ shared, bare, small, smallPage }) => {
  const print = await fingerprint(smallPage);
  const path = "/models/shared.gguf";
  bare.files.set(path, small);
  bare.faults.set(path, { delay: 300 });
  const pages = [await barePage(shared, bare), await barePage(shared, bare)];
  const prints = await Promise.all(pages.map((page) => load(page, path)));
  expect(prints).toEqual([print, print]);
  const ranges = shardRanges(bare.asked(path));
  expect(new Set(ranges).size).toBe(ranges.length);
  expect(ranges).toHaveLength(shardsOf(small));
  const [first, second] = pages;
  await second?.close();
  if (!first) throw new Error("there are two pages");
  const since = bare.log.length;
  expect(await load(first, path)).toEqual(print);
  expect(bare.asked(path, since)).toEqual([]);
  await first.close();
});

test("a cut download goes on where it stopped", async ({ shared, bare, small, smallPage }) => {
  const print = await fingerprint(smallPage);
  const page = await barePage(shared, bare);
  const path = "/models/cut.gguf";
  bare.files.set(path, small);
  // Four shards are on their way at a time: some are there by then, not all.
  bare.faults.set(path, { cutAfter: 4.1 * SHARD, thenBusy: true });
  const error = await openingError(page, { model: path });
  expect(error).toMatchObject({ name: "NetworkError", code: "network" });
  const [stored] = await page.evaluate(() => window.nomoat.listStoredModels());
  expect(stored).toMatchObject({ complete: false, totalBytes: statSync(small).size });
  const kept = await storedShards(page, path);
  expect(kept.length).toBeGreaterThan(0);
  expect(kept.length).toBeLessThan(shardsOf(small));

  bare.faults.delete(path);
  const since = bare.log.length;
  expect(await load(page, path)).toEqual(print);
  const fetched = shardRanges(bare.asked(path, since));
  expect(fetched).toHaveLength(shardsOf(small) - kept.length);
  for (const shard of kept) expect(fetched).not.toContain(shard);
  await page.close();
});

test("a changed file is noticed when asked to, and its old version goes", async ({
  shared,
  small,
  folder,
}) => {
  const site = await startBareSite();
  const page = await barePage(shared, site);
  const path = "/models/changing.gguf";
  const name = async () => {
    await open(page, { model: path, contextLength: 512, refresh: true });
    const info = await page.evaluate(() => window.engine.model.name);
    await dispose(page);
    return info;
  };
  site.files.set(path, small);
  expect(await name()).toBe("Small");
  const changed = models.small(folder, "Newer");
  site.files.set(path, changed);
  expect(await name()).toBe("Newer");
  const list = await page.evaluate(() => window.nomoat.listStoredModels());
  expect(list).toMatchObject([{ complete: true, totalBytes: statSync(changed).size }]);
  expect(await storedShards(page)).toHaveLength(shardsOf(changed));
  // Deleted, nothing of it is left.
  await page.evaluate((key) => window.nomoat.deleteStoredModel(key), list[0]?.key ?? "");
  expect(await storedShards(page)).toEqual([]);
  expect(await page.evaluate(() => window.nomoat.listStoredModels())).toEqual([]);
  await page.close();
  await site.stop();
});

test("the address of a hub's page about a file loads the file", async ({
  shared,
  bare,
  small,
  smallPage,
}) => {
  bare.files.set("/hub/o/r/resolve/main/small.gguf", small);
  const page = await barePage(shared, bare);
  const [model, hubEndpoint] = ["/hub/o/r/blob/main/small.gguf", "/hub"];
  await open(page, { ...fromSite, model, hubEndpoint });
  expect(await fingerprint(page)).toEqual(await fingerprint(smallPage));
  const [urls, stored] = await page.evaluate(
    async (options) => [
      window.nomoat.modelUrls(options.model, options),
      (await window.nomoat.listStoredModels()).map((each) => each.urls),
    ],
    { model, hubEndpoint },
  );
  expect(urls).toEqual([`${bare.origin}/hub/o/r/resolve/main/small.gguf`]);
  expect(stored).toContainEqual(urls);
  await page.close();
});

test("a full storage says what is missing", async ({ shared, small }) => {
  const site = await startBareSite();
  const page = await barePage(shared, site);
  site.files.set(SMALL_PATH, small);
  const devtools = await shared.newCDPSession(page);
  const quotaSize = 20_000_000;
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: site.origin, quotaSize });
  const error = await openingError(page, fromSite);
  const { size } = statSync(small);
  expect(error).toMatchObject({ name: "QuotaError", code: "quota" });
  const { needed = 0, available = 0 } = error.room ?? {};
  // The browser counts late: it may store more than it allows, also after the error.
  const ranges = (await storedShards(page, SMALL_PATH)).map((range) => range.split("-").map(Number));
  const stored = ranges.reduce((sum, [first = 0, last = 0]) => sum + last + 1 - first, 0);
  expect(needed).toBeGreaterThan(0);
  expect(needed).toBeGreaterThanOrEqual(size - stored);
  expect(needed).toBeLessThanOrEqual(size);
  expect(error.message).toContain(`${((needed - available) / 1e6).toFixed(1)} MB are missing`);
  await page.close();
  await site.stop();
});

test("errors have a class by cause", async ({ shared, bare, small, folder }) => {
  const page = await barePage(shared, bare);
  const broken: [Broken, ...Broken[]] = [
    { file: models.truncated(small, folder, 20_000_000), message: /./ },
    { file: models.truncated(small, folder, 1_000_000), message: /./ },
    { file: models.notGguf(folder), message: /not a model but a web page/ },
  ];
  for (const { file, message } of broken) {
    const path = `/models/${basename(file)}`;
    bare.files.set(path, file);
    const error = await openingError(page, { model: path });
    expect(error, path).toMatchObject({ name: "CorruptFileError", code: "corrupt_file" });
    expect(error.message, path).toMatch(message);
    // It does not stay: the right file loads once it is there.
    expect(await storedShards(page, path)).toEqual([]);
  }
  const [{ file: cut }] = broken;
  bare.files.set(`/models/${basename(cut)}`, small);
  await load(page, `/models/${basename(cut)}`);
  bare.files.set("/models/unknown.gguf", models.unknownArchitecture(folder));
  const unknown = await openingError(page, { model: "/models/unknown.gguf" });
  expect(unknown).toMatchObject({ name: "UnsupportedModelError", code: "unsupported_architecture" });
  expect(unknown.message).toContain("moatnet");
  const absent = await openingError(page, { model: "/models/absent.gguf" });
  expect(absent).toMatchObject({ name: "ModelNotFoundError", code: "model_not_found" });
  const unlisted = await openingError(page, { model: "no-such-model" });
  expect(unlisted).toMatchObject({ name: "ModelNotFoundError", code: "model_not_found" });
  await page.close();
});

test("without WebGPU it says so, and downloads nothing", async ({ bare }) => {
  const browser = await launch({ webgpu: false });
  const page = await barePage(browser.context, bare);
  const since = bare.log.length;
  const error = await openingError(page, onGpu);
  expect(error).toMatchObject({ name: "NoWebGpuError", code: "no_webgpu" });
  expect(bare.asked(SMALL_PATH, since)).toEqual([]);
  await browser.close();
});
