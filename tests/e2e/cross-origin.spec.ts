/** One copy of a model for several sites, in a browser with Cross-Origin Storage. */
import type { BrowserContext } from "@playwright/test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { barePage, fingerprint, open, startBareSite, type PlainOptions } from "../support/bare.ts";
import { CrossOriginServer } from "../support/cross-origin.ts";
import { QUICK, startFakeSite, Tab } from "../support/fake.ts";
import { expect, fromSite, SMALL_PATH, test } from "../support/fixtures.ts";
import { places } from "../support/places.ts";
import { fileText } from "../support/server.ts";

/** Opens a bare page of a new site whose workers have the storage. */
async function startSite(context: BrowserContext, server: CrossOriginServer, small: string) {
  const site = await startBareSite();
  site.files.set(SMALL_PATH, small);
  site.texts.set("/pkg/worker.js", fileText(places.package, "worker.js") + server.shim);
  return { site, page: await barePage(context, site) };
}

test("a second site takes the model from the browser and downloads no weights", async ({
  shared,
  small,
  smallPage,
}) => {
  const server = await CrossOriginServer.start();
  const sha256 = createHash("sha256").update(readFileSync(small)).digest("hex");
  const options: PlainOptions = { ...fromSite, model: { url: SMALL_PATH, sha256 } };
  const expected = await fingerprint(smallPage);

  const first = await startSite(shared, server, small);
  await open(first.page, options);
  expect(await fingerprint(first.page)).toEqual(expected);
  await expect.poll(() => server.storage.stored).toEqual([sha256]);

  const second = await startSite(shared, server, small);
  await open(second.page, options);
  expect(await fingerprint(second.page)).toEqual(expected);
  expect(second.site.asked(SMALL_PATH)).toEqual([]);
  const [model] = await second.page.evaluate(() => window.nomoat.listStoredModels());
  expect(model).toMatchObject({ complete: true, shared: true, bytes: 0 });

  // The first site has no copy of its own, and loads it again all the same.
  await expect
    .poll(async () => (await first.page.evaluate(() => window.nomoat.listStoredModels()))[0]?.bytes)
    .toBe(0);
  const requests = first.site.asked(SMALL_PATH).length;
  await open(first.page, options);
  expect(await fingerprint(first.page)).toEqual(expected);
  expect(first.site.asked(SMALL_PATH)).toHaveLength(requests);

  // Wrong bytes are noticed, and a site can do without.
  const wrong = new Uint8Array(readFileSync(small));
  wrong[wrong.length - 1] = (wrong[wrong.length - 1] ?? 0) ^ 1;
  server.storage.damage(sha256, wrong);
  const third = await startSite(shared, server, small);
  await open(third.page, options);
  expect(await fingerprint(third.page)).toEqual(expected);
  expect(third.site.asked(SMALL_PATH).length).toBeGreaterThan(0);
  const fourth = await startSite(shared, server, small);
  await open(fourth.page, { ...options, crossOriginStorage: false });
  expect(await fingerprint(fourth.page)).toEqual(expected);
  expect(server.storage.log.filter((line) => line.startsWith(fourth.site.origin))).toEqual([]);

  for (const { site, page } of [first, second, third, fourth]) {
    await page.close();
    await site.stop();
  }
  server.stop();
});

test("in the chat page a person can turn it off, where the browser has it", async ({ shared }) => {
  const server = await CrossOriginServer.start();
  const site = await startFakeSite();
  const plain = await Tab.open(shared, site, `${QUICK}&params`);
  const storage = ({ page }: Tab) => page.getByRole("complementary").getByRole("button", { name: "Storage" });
  await storage(plain).click();
  await expect(plain.page.getByRole("checkbox", { name: "Share models with other sites" })).toHaveCount(0);
  await plain.page.close();

  const tab = await Tab.open(shared, site, `${QUICK}&params`, (page) => page.addInitScript(server.shim));
  const told = async () => {
    await tab.message.fill("Hello");
    await tab.message.press("Enter");
    await expect(tab.button("Stop")).toHaveCount(0);
    return tab.answers.last().textContent();
  };
  expect(await told()).toContain('"crossOriginStorage":true');
  await storage(tab).click();
  const choice = tab.page.getByRole("checkbox", { name: "Share models with other sites" });
  await expect(choice).toBeChecked();
  await choice.press("Space");
  await tab.page.reload();
  expect(await told()).toContain('"crossOriginStorage":false');
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
  server.stop();
});
