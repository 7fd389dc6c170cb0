/** The built page in Firefox: without a GPU that WebGPU takes, it answers on the CPU. */
import { startHubSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import { launchFirefox } from "../support/firefox.ts";

const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";

for (const isolated of [true, false]) {
  const where = isolated ? "" : ", on a host without isolating headers, too";
  test(`Firefox answers on the CPU${where}`, async () => {
    const site = await startHubSite();
    if (!isolated) site.open.add("/");
    const firefox = await launchFirefox();
    const { page } = firefox;
    const faults: string[] = [];
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.setDefaultTimeout(90_000);
    await page.goto(site.origin);
    // The service worker isolates the page, which reloads for it.
    await page.waitForFunction(() => crossOriginIsolated);
    await page.locator("::-p-aria(Settings)").click();
    await page.locator("::-p-aria(Temperature)").fill("0");
    await page.keyboard.press("Escape");
    await page.locator("::-p-text(Download and start)").click();
    const device = await page.waitForSelector(".device");
    const described = await device?.evaluate((element) => element.textContent);
    console.log(`${firefox.version}: ${described}`);
    expect(described).toMatch(/CPU.*[2-8] threads.*SIMD – no GPU found/);
    await page.locator("::-p-aria(Message)").fill(QUESTION);
    await page.locator("::-p-aria(Send)").click();
    await page.waitForFunction(() => document.querySelector(".answer-foot:not(.live)") !== null);
    const answer = await page.$eval("[role=log] .answer p", (paragraph) => paragraph.textContent);
    expect(answer).toBe(ANSWER);
    expect(faults).toEqual([]);
    await firefox.close();
    await site.stop();
  });
}
