/** Firefox, driven through WebDriver BiDi. */
import { rmSync } from "node:fs";
import puppeteer, { type Page } from "puppeteer-core";
import { temporaryFolder } from "./browser.ts";
import { places } from "./places.ts";

/** A page in a browser with an empty profile. */
export interface Firefox {
  page: Page;
  version: string;
  close(): Promise<void>;
}

export async function launchFirefox(): Promise<Firefox> {
  const profile = temporaryFolder("firefox");
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: places.firefox,
    userDataDir: profile,
    headless: true,
    extraPrefsFirefox: { "intl.locale.requested": "en-GB", "intl.accept_languages": "en-GB" },
  });
  const [page = await browser.newPage()] = await browser.pages();
  return {
    page,
    version: await browser.version(),
    async close() {
      await browser.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
