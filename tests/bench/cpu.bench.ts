/**
 * `cargo xtask bench cpu`: the CPU's kernels one by one, as wasm on threads, everything into one JSON file.
 */
import { test } from "@playwright/test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "../support/browser.ts";
import { places } from "../support/places.ts";
import { Site } from "../support/server.ts";

/** What `cargo xtask` asks for, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  /** Each in turn. */
  threads: number[];
  /** Folder of the build that measures itself. */
  wasm: string;
  /** Where the results go. */
  out: string;
}

/** The package starts the threads; only the wasm is another one. */
const WORKER = `
import { platform } from "./platform.js";
import { bench } from "./wasm/cpu-threads/nomoat_runtime.js";
addEventListener("message", async ({ data }) => {
  await platform.load("cpu-threads", data);
  postMessage(bench());
});
`;

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;

test("bench cpu", async () => {
  if (!plan) throw new Error("run this as `cargo xtask bench cpu`");
  const site = await Site.start({ "/pkg/": places.package });
  site.texts.set("/", '<!doctype html><title>bench</title><link rel="icon" href="data:,">');
  site.texts.set("/pkg/bench.js", WORKER);
  site.texts.set(
    "/pkg/wasm/cpu-threads/nomoat_runtime.js",
    readFileSync(join(plan.wasm, "nomoat_runtime.js"), "utf8"),
  );
  site.files.set("/pkg/wasm/cpu-threads/nomoat_runtime_bg.wasm", join(plan.wasm, "nomoat_runtime_bg.wasm"));
  const reports: unknown[] = [];
  for (const threads of plan.threads) {
    const browser = await launch({ webgpu: false });
    try {
      const page = await browser.context.newPage();
      await page.goto(site.origin);
      const report = await page.evaluate(
        (n) =>
          new Promise<string>((resolve, reject) => {
            const worker = new Worker("/pkg/bench.js", { type: "module" });
            worker.onmessage = ({ data }: MessageEvent<string>) => resolve(data);
            worker.onerror = ({ message }) => reject(new Error(message || "the worker failed"));
            worker.postMessage(n);
          }),
        threads,
      );
      reports.push(JSON.parse(report));
    } finally {
      await browser.close();
    }
  }
  await site.stop();
  writeFileSync(plan.out, JSON.stringify(reports, null, 1));
});
