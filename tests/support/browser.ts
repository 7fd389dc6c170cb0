/** Chromium with WebGPU on a software adapter. */
import { chromium, type BrowserContext, type BrowserContextOptions } from "@playwright/test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { places } from "./places.ts";

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** A browser with an empty profile. */
export interface Browser {
  context: BrowserContext;
  close(): Promise<void>;
}

export async function launch({
  webgpu = true,
  features = [],
  extension,
  ...options
}: BrowserContextOptions & {
  webgpu?: boolean;
  /** Features that are off by default. */
  features?: string[];
  /** Folder of an unpacked extension. */
  extension?: string;
} = {}): Promise<Browser> {
  const profile = temporaryFolder("profile");
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: places.chromium,
    args: [
      ...FLAGS,
      ...(webgpu ? WEBGPU : ["--disable-features=WebGPU", "--disable-gpu"]),
      ...(features.length > 0 ? [`--enable-features=${features.join(",")}`] : []),
      ...(extension ? [`--disable-extensions-except=${extension}`, `--load-extension=${extension}`] : []),
    ],
    locale: "en-GB",
    // A software adapter would draw the animations, too.
    reducedMotion: "reduce",
    ...options,
  });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** A new folder that the caller deletes. */
export function temporaryFolder(name: string): string {
  return mkdtempSync(join(tmpdir(), `nomoat-${name}-`));
}
