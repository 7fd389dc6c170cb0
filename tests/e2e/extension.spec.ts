/** The extension of docs/extension: its service worker asks the engine of an offscreen document. */
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { textOf } from "../support/bare.ts";
import { launch, temporaryFolder } from "../support/browser.ts";
import { expect, SMALL_PATH, test } from "../support/fixtures.ts";
import { places, root } from "../support/places.ts";
import { Site } from "../support/server.ts";

/** Replaces a text that must be there once. */
function replace(path: string, from: string, to: string): void {
  const parts = readFileSync(path, "utf8").split(from);
  expect(parts).toHaveLength(2);
  writeFileSync(path, parts.join(to));
}

test("an extension's service worker answers by an offscreen document, which keeps the model", async ({
  small,
  smallPage,
}) => {
  const question = "What is the capital of France?";
  const expected = await textOf(smallPage, question, 200);
  const site = await Site.start({});
  site.files.set(SMALL_PATH, small);
  const folder = temporaryFolder("extension");
  cpSync(join(root, "docs/extension"), folder, { recursive: true });
  cpSync(places.package, join(folder, "nomoat"), { recursive: true });
  // Another model, and always its likeliest words.
  const options = `{ model: "${site.origin}${SMALL_PATH}", contextLength: 512, device: "cpu" }`;
  replace(join(folder, "offscreen.js"), '{ model: "smollm2-135m-instruct" }', options);
  replace(join(folder, "background.js"), "max_tokens: 200", "max_tokens: 200, temperature: 0");
  replace(
    join(folder, "manifest.json"),
    '["offscreen"]',
    `["offscreen"], "host_permissions": ["${site.origin}/*"]`,
  );

  const browser = await launch({ webgpu: false, extension: folder });
  const { context } = browser;
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
  const page = await context.newPage();
  await page.goto(worker.url().replace("background.js", "popup.html"));
  const ask = async () => {
    await page.getByRole("textbox", { name: "Question" }).fill(question);
    await page.getByRole("button", { name: "Ask" }).click();
    await expect(page.locator("output")).toHaveAttribute("aria-busy", "false");
    return page.locator("output").textContent();
  };
  expect(await ask()).toBe(expected);
  expect(await ask()).toBe(expected);
  // An extension can be isolated, so that the CPU has threads.
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);

  // Another engine finds the model in the extension's storage.
  const requests = site.asked(SMALL_PATH).length;
  await worker.evaluate("chrome.offscreen.closeDocument()");
  expect(await ask()).toBe(expected);
  expect(site.asked(SMALL_PATH)).toHaveLength(requests);
  // The service worker itself cannot start a worker: if that changes, the docs should.
  expect(await worker.evaluate("typeof Worker")).toBe("undefined");
  await browser.close();
  await site.stop();
  rmSync(folder, { recursive: true });
});
