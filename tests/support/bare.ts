/** A bare page with only the built package, as `window.nomoat`. */
import type { BrowserContext, Page } from "@playwright/test";
import type { ChatCompletionWholeParams, Engine, EngineOptions } from "nomoat";
import { places, smol } from "./places.ts";
import { fileText, Site } from "./server.ts";

declare global {
  interface Window {
    nomoat: typeof import("nomoat");
    /** The engine that `open` made. */
    engine: Engine;
    /** Messages from workers so far. */
    heard: number;
  }
}

/** Stores the worker's GPU device where a test can find it. */
export const DEVICE_HOOK = `
const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) {
  return (self.device = await request.apply(this, args));
};
`;

/** Counts messages from workers. */
const WORKER_HOOK = `
window.heard = 0;
const Plain = Worker;
window.Worker = class extends Plain {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", () => (window.heard += 1));
  }
};
`;

/** Serves a bare page at `/`, and a hub with SmolLM2. A test can lose the GPU of the page at `/lossy/`. */
export async function startBareSite(): Promise<Site> {
  const site = await Site.start({ "/pkg/": places.package, "/lossy/": places.package });
  addBarePage(site, "/", "/pkg/");
  addBarePage(site, "/open/", "/pkg/");
  site.open.add("/open/");
  addBarePage(site, "/lossy/", "/lossy/");
  site.texts.set("/lossy/worker.js", fileText(places.package, "worker.js") + DEVICE_HOOK);
  site.files.set(smol.hubPath, places.model);
  return site;
}

/** Adds a bare page that loads the package from a folder of the site. */
function addBarePage(site: Site, path: string, folder: string): void {
  const script = `${folder}bare.js`;
  site.texts.set(
    path,
    '<!doctype html><title>bare</title><link rel="icon" href="data:,"><input type="file" multiple>' +
      `<script type="module" src="${script}"></script>`,
  );
  site.texts.set(script, `import * as nomoat from "./index.js"; window.nomoat = nomoat; ${WORKER_HOOK}`);
}

/** Opens a bare page. */
export async function barePage(context: BrowserContext, site: Site, path = "/"): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`${site.origin}${path}`);
  await page.waitForFunction(() => "nomoat" in window);
  return page;
}

/** Loads a bare page again. */
export async function reloaded(page: Page): Promise<void> {
  await page.reload();
  await page.waitForFunction(() => "nomoat" in window);
}

/** A model that is no opened file. */
type PlainSource = Extract<EngineOptions["model"], string | { url: unknown }>;

/** Options that can be sent to a page. */
export type PlainOptions = Omit<EngineOptions, "onProgress" | "signal" | "model" | "draft"> & {
  model: PlainSource;
  draft?: PlainSource;
};

/** Makes `window.engine`. */
export async function open(page: Page, options: PlainOptions): Promise<void> {
  await page.evaluate(async (given) => {
    window.engine = await window.nomoat.createEngine(given);
  }, options);
}

/** Makes `window.engine` from files on the disk. */
export async function openFile(
  page: Page,
  paths: string | string[],
  options: Omit<PlainOptions, "model">,
): Promise<void> {
  await page.locator("input").setInputFiles(paths);
  await page.evaluate(async (given) => {
    const model = [...(document.querySelector("input")?.files ?? [])];
    window.engine = await window.nomoat.createEngine({ contextLength: 512, ...given, model });
  }, options);
}

/** Frees `window.engine`. */
export async function dispose(page: Page): Promise<void> {
  await page.evaluate(() => window.engine.dispose());
}

/** The error that `createEngine` throws; fails if there is none. */
export function openingError(page: Page, options: PlainOptions) {
  return page.evaluate(async (given) => {
    const { createEngine, NomoatError, QuotaError } = window.nomoat;
    try {
      const engine = await createEngine(given);
      await engine.dispose();
    } catch (error) {
      if (!(error instanceof NomoatError)) throw error;
      const { name, code, message } = error;
      const room = error instanceof QuotaError ? { needed: error.needed, available: error.available } : null;
      return { name, code, message, room };
    }
    throw new Error("the engine was created without an error");
  }, options);
}

/** An answer in one piece from `window.engine`, at temperature 0. */
export function complete(page: Page, question: string, params: Partial<ChatCompletionWholeParams> = {}) {
  return page.evaluate(
    ([content, more]) =>
      window.engine.chat.completions.create({
        messages: [{ role: "user", content }],
        temperature: 0,
        ...more,
      }),
    [question, params] as const,
  );
}

/** Log-probabilities of some tokens: they are equal for equal weights, and faster to compute than a text. */
export function fingerprint(page: Page) {
  return page.evaluate(() => window.engine.score([1, 2683, 198, 504]));
}

/** The text of `complete`. */
export async function textOf(page: Page, question: string, maxTokens: number): Promise<string> {
  const { choices } = await complete(page, question, { max_tokens: maxTokens });
  return choices[0]?.message.content ?? "";
}

/** Options to load SmolLM2 from the site's hub. */
export const fromHub: PlainOptions = {
  model: smol.id,
  hubEndpoint: "/hub",
  contextLength: 1024,
  device: "webgpu",
};
