import assert from "node:assert/strict";
import { test } from "node:test";
import { downloadModelWith } from "../src/download.js";
import { AbortedError, InvalidRequestError } from "../src/errors.js";
import { loadModel } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { LoadProgress } from "../src/protocol.js";
import { SHARD_SIZE } from "../src/store.js";
import { fakeEnv, randomBytes, sha256 } from "./fake-browser.js";
import { loadRequest, FakeRuntime } from "./fakes.js";
import { FileServer } from "./server.js";

const body = randomBytes(2 * SHARD_SIZE + 77, 5);
const BASE = "https://page.test/";

test("a download is stopped, goes on where it was, and is loaded without the network", async (t) => {
  const server = await FileServer.start(t);
  server.files.set("/m.gguf", { body });
  const env = fakeEnv();
  const url = `${server.origin}/m.gguf`;
  const pausing = new AbortController();
  const last = `bytes=${2 * SHARD_SIZE}-${body.length - 1}`;
  // The last shard does not come before the download is stopped.
  server.fault = ({ range }) => {
    if (range !== last) return false;
    const others = setInterval(() => {
      if (env.cache.shards().length < 2) return;
      clearInterval(others);
      pausing.abort();
    }, 1);
    return true;
  };
  await assert.rejects(downloadModelWith(url, { signal: pausing.signal }, env, BASE), AbortedError);
  const [partly] = (await env.store?.models()) ?? [];
  assert.deepEqual([partly?.complete, partly?.bytes], [false, 2 * SHARD_SIZE]);

  server.fault = null;
  server.log.length = 0;
  const reports: LoadProgress[] = [];
  await downloadModelWith(url, { onProgress: (report) => reports.push(report) }, env, BASE);
  assert.deepEqual(server.shardRanges(), [last]);
  assert.deepEqual([reports[0]?.loaded, reports.at(-1)?.phase], [2 * SHARD_SIZE, "ready"]);
  assert.equal((await env.store?.models())?.[0]?.complete, true);

  await server.stop();
  const runtime = new FakeRuntime();
  const files = [{ kind: "url" as const, url, sha256: null, size: null, headers: {} }];
  const request = loadRequest(files);
  const progress = new ProgressMeter(() => undefined);
  await loadModel(runtime, request, env, progress, new AbortController().signal);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
});

test("opened files, and pages that cannot store, have nothing to download", async () => {
  const file = new File(["GGUF"], "m.gguf");
  await assert.rejects(downloadModelWith(file, {}, fakeEnv(), BASE), InvalidRequestError);
  await assert.rejects(
    downloadModelWith("https://h.test/m.gguf", {}, fakeEnv(null), BASE),
    InvalidRequestError,
  );
});
