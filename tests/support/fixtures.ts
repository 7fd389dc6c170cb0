/** Playwright fixtures: one browser, models made for the tests, and pages with a loaded engine. */
import { test as base, type BrowserContext, type Page } from "@playwright/test";
import { rmSync } from "node:fs";
import { barePage, fromHub, open, startBareSite } from "./bare.ts";
import { launch, temporaryFolder } from "./browser.ts";
import * as models from "./models.ts";
import { serveNatively, type NativeServer } from "./native.ts";
import { Site } from "./server.ts";

interface Shared {
  /** Folder of files made for the tests. */
  folder: string;
  /** Path of the small model. */
  small: string;
  /** One browser profile for all tests. Each site is a separate origin with its own storage. */
  shared: BrowserContext;
  /** Serves bare pages, the small model at `/models/small.gguf` and SmolLM2 on a hub. */
  bare: Site;
  /** A bare page whose engine runs the small model on the CPU. */
  smallPage: Page;
  /** The same on WebGPU. A software adapter needs seconds to open it. */
  gpuPage: Page;
  /** `nomoat serve` with the small model. */
  native: NativeServer;
  /** A bare page whose engine runs SmolLM2, and the bytes of wasm memory after loading. */
  smol: { page: Page; wasmBytes: number };
}

export const test = base.extend<object, Shared>({
  folder: [
    async ({}, use) => {
      const folder = temporaryFolder("models");
      await use(folder);
      rmSync(folder, { recursive: true, force: true });
    },
    { scope: "worker" },
  ],
  small: [async ({ folder }, use) => use(models.small(folder)), { scope: "worker" }],
  shared: [
    async ({}, use) => {
      const browser = await launch();
      await use(browser.context);
      await browser.close();
    },
    { scope: "worker" },
  ],
  bare: [
    async ({ small }, use) => {
      const site = await startBareSite();
      site.files.set(SMALL_PATH, small);
      await use(site);
      await site.stop();
    },
    { scope: "worker" },
  ],
  smallPage: [
    async ({ shared, bare }, use) => {
      const page = await barePage(shared, bare);
      await open(page, fromSite);
      await use(page);
      await page.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  gpuPage: [
    async ({ shared, bare }, use) => {
      const page = await barePage(shared, bare);
      await open(page, onGpu);
      await use(page);
      await page.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  native: [
    async ({ small }, use) => {
      const server = await serveNatively(small);
      await use(server);
      await server.stop();
    },
    { scope: "worker" },
  ],
  smol: [
    async ({ shared, bare }, use) => {
      const page = await barePage(shared, bare);
      await open(page, fromHub);
      const { wasmBytes } = await page.evaluate(() => window.engine.memory());
      await use({ page, wasmBytes });
      await page.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

export { expect } from "@playwright/test";

/** Path of the small model on a site. */
export const SMALL_PATH = "/models/small.gguf";

/** Options to load the small model from the site, on the CPU. */
export const fromSite = { model: SMALL_PATH, contextLength: 512, device: "cpu" } as const;

/** The same on WebGPU. */
export const onGpu = { ...fromSite, device: "webgpu" } as const;
