/** The chat page, as a user sees it. */
import { expect, type BrowserContext, type Page } from "@playwright/test";
import { statSync } from "node:fs";
import { places, smol } from "./places.ts";
import { Site } from "./server.ts";

/** Path of the model on a chat site. */
export const MODEL_PATH = "/models/small.gguf";

/** Serves the page with one model, which is selected by default. */
export async function startChatSite(model: string): Promise<Site> {
  const site = await Site.start({ "/": places.page });
  site.files.set(MODEL_PATH, model);
  const entry = { id: "small", name: "Small", url: MODEL_PATH, size: statSync(model).size };
  site.texts.set("/config.json", JSON.stringify({ models: [entry], default_model: "small" }));
  return site;
}

/** Serves the page, and a hub with SmolLM2. */
export async function startHubSite(): Promise<Site> {
  const site = await Site.start({ "/": places.page });
  site.files.set(smol.hubPath, places.model);
  site.texts.set(
    "/config.json",
    JSON.stringify({ hub_endpoint: "/hub", models: [], default_model: smol.id }),
  );
  return site;
}

/** A choice in the page's settings. */
export type Device = "auto" | "webgpu" | "cpu";

/** How the page describes the device that it uses. */
const DEVICES: Record<Device, RegExp> = {
  auto: /CPU.* threads?.*SIMD – no (real )?GPU found/,
  webgpu: /swiftshader.*WebGPU.* – your choice/i,
  cpu: /CPU.* threads?.*SIMD – your choice/,
};

/** The page with its elements and its faults. */
export class Chat {
  readonly page: Page;
  /** Errors on the console, violations of the content security policy, requests to other origins. */
  readonly faults: string[] = [];

  private constructor(page: Page) {
    this.page = page;
  }

  /** Opens the page. A device other than `auto` is set as if it were chosen on an earlier visit. */
  static async open(context: BrowserContext, url: string, device: Device = "webgpu"): Promise<Chat> {
    const chat = new Chat(await context.newPage());
    const { origin } = new URL(url);
    const { page, faults } = chat;
    page.on("console", (message) => {
      if (message.type() === "error") faults.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
    page.on("request", (request) => {
      const { protocol, origin: to } = new URL(request.url());
      if (protocol.startsWith("http") && to !== origin) faults.push(`request: ${request.url()}`);
    });
    await page.addInitScript(() =>
      addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`),
      ),
    );
    if (device !== "auto")
      await page.addInitScript((chosen) => {
        const key = "nomoat-settings";
        if (localStorage.getItem(key) === null) localStorage.setItem(key, JSON.stringify({ device: chosen }));
      }, device);
    await page.goto(url);
    return chat;
  }

  get message() {
    return this.page.getByRole("textbox", { name: "Message" });
  }
  get send() {
    return this.page.getByRole("button", { name: "Send", exact: true });
  }
  get stop() {
    return this.page.getByRole("button", { name: "Stop", exact: true });
  }
  get newChat() {
    return this.page.getByRole("button", { name: "New chat", exact: true });
  }
  get model() {
    return this.page.getByRole("button", { name: /^Model: / });
  }
  get log() {
    return this.page.getByRole("log");
  }
  get progress() {
    return this.page.getByRole("progressbar");
  }
  get alert() {
    return this.page.getByRole("alert");
  }
  /** The button that starts or continues a download. */
  get download() {
    return this.page.getByRole("button", { name: /^(Download and start|Continue download)/ });
  }
  /** The paragraphs of the last answer. */
  get answer() {
    return this.log.locator("article:not([aria-label=You])").last().getByRole("paragraph");
  }

  get device() {
    return this.page.locator(".device");
  }

  /** Waits until the page says that the model runs on this device. */
  async ready(device: Device = "webgpu"): Promise<void> {
    await expect(this.device).toHaveText(DEVICES[device]);
  }

  /** Sets temperature 0 and the maximum length of answers in the dialog. */
  async settings({ maxTokens }: { maxTokens: number }): Promise<void> {
    await this.page.getByRole("button", { name: "Settings" }).click();
    await this.page.getByRole("slider", { name: "Temperature" }).fill("0");
    const tokens = this.page.getByRole("spinbutton", { name: "Max tokens" });
    await tokens.fill(String(maxTokens));
    await tokens.press("Tab");
    await this.page.keyboard.press("Escape");
  }

  /** Chooses a device in the dialog; the page loads the model again. */
  async choose(device: "Automatic" | "GPU (WebGPU)" | "CPU"): Promise<void> {
    await this.page.getByRole("button", { name: "Settings" }).click();
    await this.page.getByRole("combobox", { name: "Device" }).selectOption(device);
    await this.page.keyboard.press("Escape");
  }

  /** Waits until the page is cross-origin isolated, perhaps after a reload. */
  async isolated(): Promise<void> {
    await expect(async () => {
      expect(await this.page.evaluate(() => crossOriginIsolated)).toBe(true);
    }).toPass();
  }

  /** Types a question and sends it with the button. */
  async ask(question: string): Promise<void> {
    await this.message.fill(question);
    await this.send.click();
  }

  /** Waits for the end of the current answer. */
  async answered(): Promise<void> {
    await expect(this.stop).toBeHidden();
  }
}
