/** The package in workers of a page. */
import type { Page } from "@playwright/test";
import { barePage, fingerprint, startBareSite } from "../support/bare.ts";
import { expect, fromSite, SMALL_PATH, test } from "../support/fixtures.ts";

/** Does what a page can do, in a worker. */
const WORKER = `
import * as nomoat from "/pkg/index.js";

const run = async (options) => {
  const engine = await nomoat.createEngine(options);
  const print = await engine.score([1, 2683, 198, 504]);
  const messages = [{ role: "user", content: "Hi" }];
  const stream = await engine.chat.completions.create({ messages, stream: true, max_tokens: 5 });
  let chunks = 0;
  for await (const _ of stream) chunks += 1;
  const { backend } = engine.device;
  await engine.dispose();
  const stored = await nomoat.listStoredModels();
  const { runsOn } = await nomoat.inspectModel(options.model, { device: "cpu" });
  return { print, chunks, backend, stored: stored.map(({ complete }) => complete), runsOn };
};

const serve = (port) => {
  port.onmessage = ({ data }) =>
    run(data).then(
      (result) => port.postMessage({ result }),
      (error) => port.postMessage({ error: String(error) }),
    );
};
if ("onconnect" in self) self.onconnect = ({ ports }) => serve(ports[0]);
else serve(self);
`;

type Outcome = { result?: Record<string, unknown>; error?: string };

/** What happens in a module worker of this kind. */
async function run(page: Page, kind: "Worker" | "SharedWorker"): Promise<Outcome> {
  return page.evaluate(
    ([type, options]) =>
      new Promise<Outcome>((resolve) => {
        const worker = new window[type]("/module-worker.js", { type: "module" });
        const port = worker instanceof SharedWorker ? worker.port : worker;
        port.onmessage = ({ data }: MessageEvent<Outcome>) => resolve(data);
        worker.onerror = ({ message }) => resolve({ error: message });
        port.postMessage(options);
      }),
    [kind, fromSite] as const,
  );
}

test("the package works in a module worker, and says why not in a shared one", async ({
  shared,
  small,
  smallPage,
}) => {
  const site = await startBareSite();
  site.files.set(SMALL_PATH, small);
  site.texts.set("/module-worker.js", WORKER);
  const page = await barePage(shared, site);
  expect(await run(page, "Worker")).toEqual({
    result: {
      print: await fingerprint(smallPage),
      chunks: expect.any(Number),
      backend: "cpu",
      stored: [true],
      runsOn: "cpu",
    },
  });
  // Chromium's shared workers cannot start workers. If that changes, docs/extensions.md should.
  const { error } = await run(page, "SharedWorker");
  expect(error).toMatch(/^InvalidRequestError: Workers cannot be started here/);
  await page.close();
  await site.stop();
});
