/**
 * `cargo xtask bench memory`: the chat page with SmolLM2 on the CPU, its browser held to a limit. One JSON
 * file of figures.
 */
import { expect, test } from "@playwright/test";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch, temporaryFolder } from "../support/browser.ts";
import { Chat, startHubSite } from "../support/chat.ts";
import { places } from "../support/places.ts";
import { limitMemory } from "./cgroup.ts";
import { residentBytes, watchMemory } from "./memory.ts";

/** What `cargo xtask` asks for, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  limitBytes: number;
  /** Where the results go. */
  out: string;
}

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;

test("bench memory", async () => {
  if (!plan) throw new Error("run this as `cargo xtask bench memory`");
  const cgroup = limitMemory(plan.limitBytes);
  const folder = temporaryFolder("cgroup");
  if (typeof cgroup !== "string") {
    const wrapper = join(folder, "chromium");
    writeFileSync(wrapper, cgroup.wrapper(places.chromium));
    chmodSync(wrapper, 0o755);
    process.env.NOMOAT_CHROMIUM = wrapper;
  }
  const site = await startHubSite();
  const browser = await launch({ webgpu: false });
  await (await browser.context.newPage()).goto("about:blank");
  const measure = typeof cgroup === "string" ? residentBytes : cgroup.residentBytes;
  const blankBytes = measure();
  const memory = watchMemory(measure);
  const chat = await Chat.open(browser.context, site.origin, "auto");
  await chat.settings({ maxTokens: 128 });
  await chat.download.click();
  await chat.ready("auto");
  const device = await chat.device.textContent();
  await chat.ask("Explain photosynthesis to a ten-year-old");
  await expect(chat.answer.first()).toContainText(/\S{2}/);
  await chat.answered();
  // A second visit reads the model from the browser's storage.
  await chat.page.reload();
  await chat.ready("auto");
  const peakBytes = memory.stop();
  const figures = await chat.log.locator(".figures").last().textContent();
  await browser.close();
  await site.stop();
  const limit =
    typeof cgroup === "string" ? { missing: cgroup } : { version: cgroup.version, killed: cgroup.killed() };
  if (typeof cgroup !== "string") cgroup.remove();
  rmSync(folder, { recursive: true });
  const { limitBytes } = plan;
  writeFileSync(plan.out, JSON.stringify({ limitBytes, limit, device, figures, peakBytes, blankBytes }));
});
