/** `nomoat serve`, as a user starts it. */
import type { Page } from "@playwright/test";
import type { Engine } from "nomoat";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { places } from "./places.ts";

declare global {
  interface Window {
    /** An engine on `nomoat serve`. */
    remote: Engine;
  }
}

/** What the server wants. */
export const API_KEY = "a secret";

/** A running `nomoat serve`. */
export interface NativeServer {
  /** The address of its API, with `/v1`. */
  baseURL: string;
  /** Stops it, and waits until it has ended. */
  stop(): Promise<void>;
}

/** Serves a model on the CPU, on a free port. */
export async function serveNatively(model: string): Promise<NativeServer> {
  const how = ["--device", "cpu", "--context-length", "512", "--port", "0", "--api-key", API_KEY];
  const program = spawn(places.program, ["serve", model, ...how], { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => program.on("close", () => resolve()));
  let said = "";
  program.stderr.on("data", (bytes: Buffer) => (said += bytes.toString()));
  const baseURL = await new Promise<string>((resolve, reject) => {
    createInterface(program.stdout).once("line", resolve);
    program.on("error", reject);
    program.on("close", (code) => reject(new Error(`nomoat serve ended with ${code}:\n${said}`)));
  });
  return {
    baseURL,
    async stop() {
      program.kill("SIGKILL");
      await ended;
    },
  };
}

/** Makes `window.remote` in a bare page. */
export async function connect(page: Page, { baseURL }: NativeServer): Promise<void> {
  await page.evaluate(
    async (options) => {
      window.remote = await window.nomoat.createEngine(options);
    },
    { baseURL, apiKey: API_KEY },
  );
}
