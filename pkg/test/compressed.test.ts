import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { NetworkError } from "../src/errors.js";
import { inspectModelWith } from "../src/inspect.js";
import { loadModel } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { RemoteFile } from "../src/protocol.js";
import { SHARD_SIZE } from "../src/store.js";
import { FakeWorker } from "./fake-worker.js";
import { fakeEnv, randomBytes, sha256 } from "./fake-browser.js";
import { loadRequest, FakeRuntime } from "./fakes.js";
import { FileServer } from "./server.js";

const SIZE = SHARD_SIZE + 999;
const body = Buffer.concat([randomBytes(SHARD_SIZE, 5), Buffer.alloc(999)]);
const HEADER = 50_000;

/**
 * A server that compresses what it sends. With `ranges` it sends parts of what it compressed, as one that has
 * compressed files on its disk does; the others send everything.
 */
async function serve(test: TestContext, ranges: boolean): Promise<FileServer> {
  const server = await FileServer.start(test);
  server.files.set("/m.gguf", { body: gzipSync(body), headers: { "Content-Encoding": "gzip" } });
  server.ranges = ranges;
  return server;
}

async function load(server: FileServer, more: Partial<RemoteFile>): Promise<string[]> {
  const runtime = new FakeRuntime({ header: HEADER });
  const url = `${server.origin}/m.gguf`;
  const request = loadRequest([{ kind: "url", url, sha256: null, size: null, headers: {}, ...more }]);
  const { signal } = new AbortController();
  await loadModel(runtime, request, fakeEnv(), new ProgressMeter(() => undefined), signal);
  return runtime.hashes;
}

for (const ranges of [true, false])
  test(`a compressed file (${ranges ? "with" : "without"} ranges) loads if its size is known`, async (t) => {
    const server = await serve(t, ranges);
    assert.deepEqual(await load(server, { size: SIZE, sha256: sha256(body) }), [sha256(body)]);
    await assert.rejects(load(server, {}), (error: Error) => {
      assert.ok(error instanceof NetworkError);
      assert.match(error.message, /compresses .*m\.gguf .*without Content-Encoding/);
      return true;
    });
    const inspection = inspectModelWith(
      `${server.origin}/m.gguf`,
      {},
      {
        spawn: () => new FakeWorker({ header: HEADER }, fakeEnv()),
        network: fakeEnv(),
        base: "https://page.test/",
        backend: async () => "cpu",
        speed: async () => null,
        memory: 8,
      },
    );
    await assert.rejects(inspection, /without Content-Encoding/);
  });
