/** The page with a scripted engine that answers at once: what it does with conversations, without a model. */
import type { BrowserContext, Page } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "./browser.ts";
import { root } from "./places.ts";
import { Site } from "./server.ts";

let built: string | null = null;

/** Builds the page once. */
export function buildFakePage(): string {
  if (built !== null) return built;
  const folder = temporaryFolder("fake-page");
  const vite = join(root, "node_modules/vite/bin/vite.js");
  const args = [vite, "build", "--mode", "fake", "--logLevel", "error", "--outDir", folder, "--emptyOutDir"];
  execFileSync(process.execPath, args, { cwd: join(root, "web"), stdio: "inherit" });
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return (built = folder);
}

/** Serves that page on an origin of its own. */
export async function startFakeSite(): Promise<Site> {
  const site = await Site.start({ "/": buildFakePage() });
  site.texts.set("/config.json", "{}");
  return site;
}

/** How the page's script behaves: see web/dev/fake-nomoat.ts. */
export const QUICK = "/?stored&echo";

/**
 * Makes IndexedDB fail while `window.faults` says so. What is set in `sessionStorage.faults` holds from the
 * next load on. Runs in the page before its own scripts.
 */
export function installFaults(): void {
  const state = { read: false, write: false };
  Object.assign(state, JSON.parse(sessionStorage.getItem("faults") ?? "{}"));
  Object.assign(window, { faults: state });
  const failing = (prototype: object, names: string[], kind: "read" | "write", name: string) => {
    for (const method of names) {
      const plain = Reflect.get(prototype, method) as (...args: unknown[]) => unknown;
      Reflect.set(prototype, method, function (this: unknown, ...args: unknown[]) {
        if (state[kind]) throw new DOMException("made to fail", name);
        return plain.apply(this, args);
      });
    }
  };
  const reads = ["get", "getAll", "getKey", "getAllKeys"];
  failing(IDBObjectStore.prototype, reads, "read", "UnknownError");
  failing(IDBIndex.prototype, reads, "read", "UnknownError");
  failing(IDBObjectStore.prototype, ["put", "add", "delete", "clear"], "write", "QuotaExceededError");
}

declare global {
  interface Window {
    faults: { read: boolean; write: boolean };
  }
}

/** A record as it is stored. */
export interface StoredMessage {
  id: string;
  conversation: string;
  parent: string | null;
  role?: string;
  content?: string;
}

/** Everything in the history, read past the page. Runs in the page. */
export async function readHistory(): Promise<{
  conversations: { id: string; title: string; pinned: boolean }[];
  messages: StoredMessage[];
}> {
  const done = <T>(request: IDBRequest<T>) =>
    new Promise<T>((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error as Error);
    });
  const db = await done(indexedDB.open("nomoat-chat"));
  const read = db.transaction(["conversations", "messages"]);
  const conversations = await done(read.objectStore("conversations").getAll());
  const messages = await done(read.objectStore("messages").getAll());
  db.close();
  return { conversations, messages } as never;
}

/** A tab with the page, as a person uses it. */
export class Tab {
  readonly page: Page;
  readonly errors: string[] = [];

  private constructor(page: Page) {
    this.page = page;
    page.on("pageerror", (error) => this.errors.push(error.message));
    // "Delete all?", and "Leave the page?" where something is unsaved: yes.
    page.on("dialog", (dialog) => void dialog.accept());
  }

  /** `prepare` sees the page before it loads. */
  static async open(
    context: BrowserContext,
    site: Site,
    address = QUICK,
    prepare: (page: Page) => Promise<unknown> = async () => undefined,
  ): Promise<Tab> {
    const tab = new Tab(await context.newPage());
    await prepare(tab.page);
    await tab.page.addInitScript(installFaults);
    await tab.page.goto(`${site.origin}${address}`);
    return tab;
  }

  get log() {
    return this.page.getByRole("log");
  }
  get alert() {
    return this.page.getByRole("alert");
  }
  /** Notices above the conversation. */
  get bar() {
    return this.page.locator(".bar");
  }
  /** Those of them that last as long as their reason. */
  get lasting() {
    return this.page.locator(".bar:not(.passing)");
  }
  get titles() {
    return this.page.locator(".conversation-open");
  }
  get questions() {
    return this.log.getByRole("article", { name: "You" });
  }
  get answers() {
    return this.log.locator("article.answer .markdown");
  }
  get message() {
    return this.page.getByRole("textbox", { name: "Message" });
  }
  button(name: string | RegExp) {
    return this.page.getByRole("button", { name, exact: typeof name === "string" });
  }

  /** Asks, and waits for the end of the answer. */
  async ask(question: string): Promise<void> {
    await this.message.fill(question);
    await this.message.press("Enter");
    await this.page.waitForFunction(
      (asked) =>
        document.querySelector(".answer-foot.live") === null &&
        [...document.querySelectorAll(".answer .markdown")].at(-1)?.textContent?.includes(asked),
      question,
    );
  }

  /** What is shown, question by question and answer by answer. */
  shown(): Promise<string[]> {
    return this.page
      .locator(".question .plain, .answer .markdown")
      .evaluateAll((parts) => parts.map((part) => part.textContent?.trim() ?? ""));
  }

  stored() {
    return this.page.evaluate(readHistory);
  }
}
