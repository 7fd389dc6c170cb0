/** One engine for two tabs and a service worker. */
import type { Page } from "@playwright/test";
import type { SharedEngine } from "nomoat/service-worker";
import { barePage, startBareSite } from "../support/bare.ts";
import { expect, fromSite, SMALL_PATH, test } from "../support/fixtures.ts";

declare global {
  interface Window {
    sharing: SharedEngine;
    /** Engines that this tab created, and answers that it was told to stop. */
    created: number;
    stopped: number;
    /** A streamed answer: its text, its chunks, and whether it is complete. */
    streamed: { text: string; chunks: number; done: boolean };
  }
}

const SERVICE_WORKER = `
import { serveEngine } from "/pkg/service-worker.js";
serveEngine(self);
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
`;

/** Takes part in the engine of the site. */
function share(page: Page): Promise<void> {
  return page.evaluate(async (options) => {
    const address = "/pkg/service-worker.js";
    const { shareEngine } = (await import(address)) as typeof import("nomoat/service-worker");
    window.created = window.stopped = 0;
    window.sharing = shareEngine(async () => {
      window.created += 1;
      const engine = await window.nomoat.createEngine(options);
      const answer: typeof fetch = (input, init) => {
        init?.signal?.addEventListener("abort", () => (window.stopped += 1));
        return engine.fetch(input, init);
      };
      return { fetch: answer, dispose: () => engine.dispose() };
    });
  }, fromSite);
}

const owns = (page: Page) => page.waitForFunction(() => window.sharing.isOwner);

/** Starts a long answer, by the tab's own `fetch` or by the service worker. */
function begin(page: Page, by: "tab" | "service worker", temperature: number, stops = false): Promise<void> {
  return page.evaluate(
    async ([own, warmth, early]) => {
      const ask = own ? window.sharing.fetch : fetch;
      const messages = [{ role: "user", content: "Tell me a story." }];
      const body = { messages, stream: true, temperature: warmth, seed: 7, max_tokens: 300 };
      const controller = new AbortController();
      const init = { method: "POST", body: JSON.stringify(body), signal: controller.signal };
      const response = await ask("/v1/chat/completions", init);
      const answer: Window["streamed"] = { text: "", chunks: 0, done: false };
      window.streamed = answer;
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      const read = async () => {
        for (;;) {
          const { done, value } = (await reader?.read()) ?? { done: true };
          if (done) break;
          answer.text += value;
          if ((answer.chunks += 1) === 5 && early) controller.abort();
        }
        answer.done = true;
      };
      void read().catch(() => undefined);
    },
    [by === "tab", temperature, stops] as const,
  );
}

/** The text of the events of a streamed answer. */
function said(events: string): string {
  const data = Array.from(events.matchAll(/^data: (\{.*\})$/gm), ([, json = ""]) => json);
  const chunks = data.map((json) => JSON.parse(json) as { choices: { delta: { content?: string } }[] });
  return chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
}

const answered = async (page: Page) => {
  await page.waitForFunction(() => window.streamed.done);
  return page.evaluate(() => window.streamed);
};
const under = (page: Page) => page.waitForFunction(() => window.streamed?.chunks > 3);

test("tabs and a service worker share an engine; an answer goes on when its tab is closed", async ({
  shared,
  small,
}) => {
  const site = await startBareSite();
  site.files.set(SMALL_PATH, small);
  site.texts.set("/sw.js", SERVICE_WORKER);
  const first = await barePage(shared, site);
  await first.evaluate(async () => {
    await navigator.serviceWorker.register("/sw.js", { type: "module" });
    await navigator.serviceWorker.ready;
  });
  const second = await barePage(shared, site);
  await second.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const models = async () => {
    const response = await fetch("/v1/models");
    const { data, error } = (await response.json()) as { data?: unknown[]; error?: { code: string } };
    return [response.status, data?.length ?? error?.code];
  };
  expect(await second.evaluate(models)).toEqual([503, "no_engine"]);

  await share(first);
  await share(second);
  await owns(first);
  expect(await second.evaluate(models)).toEqual([200, 1]);
  await begin(second, "tab", 1);
  const whole = await answered(second);
  expect(whole.text).toContain("data: [DONE]");

  // An answer that its client no longer wants is stopped, and so is that of a tab that is gone.
  await begin(second, "tab", 1, true);
  await first.waitForFunction(() => window.stopped === 1);
  const third = await barePage(shared, site);
  await share(third);
  await begin(third, "tab", 1);
  await under(third);
  await third.close();
  await first.waitForFunction(() => window.stopped === 2);

  const requests = site.asked(SMALL_PATH).length;
  expect(await second.evaluate(() => [window.created, window.sharing.isOwner])).toEqual([0, false]);
  await begin(second, "service worker", 1);
  await under(second);
  await first.close();
  await owns(second);
  const { text } = await answered(second);
  expect(said(text)).toBe(said(whole.text));
  expect(text).toContain("data: [DONE]");
  expect(await second.evaluate(() => window.created)).toBe(1);
  expect(site.asked(SMALL_PATH).length, "the model is not downloaded again").toBe(requests);

  await second.evaluate(() => window.sharing.close());
  expect(await second.evaluate(models)).toEqual([503, "no_engine"]);
  const failing = await second.evaluate(async () => {
    const address = "/pkg/service-worker.js";
    const { shareEngine } = (await import(address)) as typeof import("nomoat/service-worker");
    const sharing = shareEngine(() => Promise.reject(new Error("no model")));
    const { status } = await sharing.fetch("/v1/models");
    return [status, await sharing.failed.catch((error: Error) => error.message)];
  });
  expect(failing).toEqual([503, "no model"]);
  await second.close();
  await site.stop();
});
