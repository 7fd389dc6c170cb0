import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { CorruptFileError, ModelNotFoundError, NetworkError, QuotaError } from "../src/errors.js";
import { loadModel, type LoadEnv } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { FileSpec, LoadProgress, RemoteFile } from "../src/protocol.js";
import { SHARD_SIZE } from "../src/store.js";
import { fakeEnv, MemoryCache, randomBytes, sha256 } from "./fake-browser.js";
import { loadRequest, FakeRuntime, type Script } from "./fakes.js";
import { FileServer } from "./server.js";

const SIZE = 3 * SHARD_SIZE + 12345;
const body = randomBytes(SIZE, 1);
const other = randomBytes(SIZE, 2);
const range = (shard: number) =>
  `bytes=${shard * SHARD_SIZE}-${Math.min((shard + 1) * SHARD_SIZE, SIZE) - 1}`;
const ALL = [0, 1, 2, 3].map(range);

async function serve(test: TestContext): Promise<FileServer> {
  const server = await FileServer.start(test);
  server.files.set("/m.gguf", { body, etag: '"one"' });
  return server;
}

function remote(server: FileServer, more: Partial<RemoteFile> = {}): RemoteFile {
  return { kind: "url", url: `${server.origin}/m.gguf`, sha256: null, size: null, headers: {}, ...more };
}

async function load(
  env: LoadEnv,
  files: FileSpec[],
  { refresh = false, script = {} }: { refresh?: boolean; script?: Script } = {},
): Promise<{ runtime: FakeRuntime; reports: LoadProgress[] }> {
  const runtime = new FakeRuntime(script);
  const reports: LoadProgress[] = [];
  const progress = new ProgressMeter((report) => reports.push(report));
  const request = loadRequest(files, refresh);
  await loadModel(runtime, request, env, progress, new AbortController().signal);
  return { runtime, reports };
}

test("a first load fetches every shard once, the next one touches no network", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  const first = await load(env, [remote(server)]);
  assert.deepEqual(first.runtime.hashes, [sha256(body)]);
  assert.ok(first.runtime.largestPiece <= 1024 * 1024);
  assert.deepEqual(server.shardRanges().sort(), [...ALL].sort());
  assert.ok(server.peak <= 4);
  assert.equal(first.reports.at(-1)?.phase, "ready");
  assert.equal(first.reports.at(-1)?.downloaded, SIZE);
  assert.equal(first.reports[0]?.phase, "download");

  server.log.length = 0;
  const second = await load(env, [remote(server)]);
  assert.deepEqual(second.runtime.hashes, [sha256(body)]);
  assert.deepEqual(server.log, []);
  assert.equal(second.reports[0]?.phase, "load");
  assert.equal(second.reports.at(-1)?.downloaded, 0);

  const [model] = (await env.store?.models()) ?? [];
  assert.deepEqual([model?.complete, model?.bytes, model?.totalBytes, model?.name], [true, SIZE, SIZE, "m"]);
  await env.store?.removeModel(model?.key ?? "");
  assert.equal(env.cache.entries.size, 0);
});

test("a cut download resumes with the shards that are missing", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  server.fault = ({ range: asked }, response) => {
    if (asked !== range(2)) return false;
    response.destroy();
    return true;
  };
  await assert.rejects(load(env, [remote(server)]), NetworkError);
  const [partial] = (await env.store?.models()) ?? [];
  assert.equal(partial?.complete, false);
  const kept = env.cache.shards().length;
  assert.ok(kept >= 2 && kept < 4);

  server.fault = null;
  server.log.length = 0;
  const { runtime, reports } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.equal(server.shardRanges().length, 4 - kept);
  assert.ok(!server.shardRanges().includes(range(0)));
  assert.ok((reports[0]?.loaded ?? 0) > 0);
});

test("what has arrived of a shard is not fetched again: in the next try, nor after a failure", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  const half = SHARD_SIZE / 2;
  // Every answer for the second shard is cut after half a shard, as often as `cuts` says.
  let cuts = Infinity;
  let sent = 0;
  server.fault = ({ range: asked }, response) => {
    const [start = 0, end = 0] = (/(\d+)-(\d+)/.exec(asked ?? "")?.slice(1) ?? []).map(Number);
    if (end !== 2 * SHARD_SIZE - 1 || cuts-- <= 0) return false;
    const part = sent === 0 ? body.subarray(start, start + half) : Buffer.alloc(0);
    sent += part.length;
    response.writeHead(206, {
      "Content-Range": `bytes ${start}-${end}/${SIZE}`,
      "Content-Length": end + 1 - start,
    });
    response.write(part, () => response.destroy());
    return true;
  };
  await assert.rejects(load(env, [remote(server)]), NetworkError);
  const rest = `bytes=${SHARD_SIZE + half}-${2 * SHARD_SIZE - 1}`;
  assert.deepEqual(
    server.shardRanges().filter((asked) => asked.endsWith(`-${2 * SHARD_SIZE - 1}`)),
    [range(1), rest, rest, rest, rest],
  );

  // A later visit goes on behind it.
  server.log.length = 0;
  cuts = 0;
  const { runtime, reports } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.ok(server.shardRanges().includes(rest));
  assert.ok(!server.shardRanges().includes(range(1)));
  assert.ok((reports.at(-1)?.downloaded ?? 0) <= SIZE - SHARD_SIZE - half);
  assert.deepEqual(
    Array.from(env.cache.entries.keys()).filter((key) => key.includes("/part/")),
    [],
  );
});

test("of a slow shard the first bytes are kept meanwhile: a closed tab has no time for it", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  const half = SHARD_SIZE / 2;
  let finish = () => {};
  server.fault = ({ range: asked }, response) => {
    if (asked !== range(1)) return false;
    response.writeHead(206, {
      "Content-Range": `bytes ${SHARD_SIZE}-${2 * SHARD_SIZE - 1}/${SIZE}`,
      "Content-Length": SHARD_SIZE,
    });
    response.write(body.subarray(SHARD_SIZE, SHARD_SIZE + half));
    finish = () => response.end(body.subarray(SHARD_SIZE + half, 2 * SHARD_SIZE));
    return true;
  };
  t.mock.timers.enable({ apis: ["setInterval"] });
  const parts = () => Array.from(env.cache.entries.keys()).filter((key) => key.includes("/part/"));
  const loading = load(env, [remote(server)]);
  const arrived = () => parts().some((key) => env.cache.entries.get(key)?.length === half);
  while (!arrived()) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    t.mock.timers.tick(5000);
  }
  // Another visit finds them.
  const copy = new MemoryCache();
  for (const key of env.cache.entries.keys()) {
    const entry = await env.cache.match(key);
    if (entry) await copy.put(key, entry);
  }
  finish();
  assert.deepEqual((await loading).runtime.hashes, [sha256(body)]);
  assert.deepEqual(parts(), []);
  server.fault = null;
  server.log.length = 0;
  assert.deepEqual((await load(fakeEnv(copy), [remote(server)])).runtime.hashes, [sha256(body)]);
  const rest = `bytes=${SHARD_SIZE + half}-${2 * SHARD_SIZE - 1}`;
  assert.ok(server.shardRanges().includes(rest));
  assert.ok(!server.shardRanges().includes(range(1)));
});

test("a part that was damaged in the store is fetched again", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  server.fault = ({ range: asked }, response) => {
    if (!asked?.endsWith(`-${2 * SHARD_SIZE - 1}`)) return false;
    response.writeHead(206, { "Content-Range": `bytes ${SHARD_SIZE}-${2 * SHARD_SIZE - 1}/${SIZE}` });
    response.write(body.subarray(SHARD_SIZE, SHARD_SIZE + 1000), () => response.destroy());
    return true;
  };
  await assert.rejects(load(env, [remote(server)]), NetworkError);
  const [key] = Array.from(env.cache.entries.keys()).filter((entry) => entry.includes("/part/"));
  const part = env.cache.entries.get(key ?? "");
  assert.ok(part);
  part[5] = (part[5] ?? 0) ^ 1;
  server.fault = null;
  const { runtime } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
});

test("shards without a manifest are listed and can be deleted", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  await load(env, [remote(server)]);
  for (const key of env.cache.entries.keys()) if (key.includes("/manifest/")) env.cache.entries.delete(key);
  const models = (await env.store?.models()) ?? [];
  assert.deepEqual(
    models.map(({ name, bytes, complete }) => ({ name, bytes, complete })),
    [{ name: "", bytes: SIZE, complete: false }],
  );
  await env.store?.removeModel(models[0]?.key ?? "");
  assert.equal(env.cache.entries.size, 0);
});

test("a download that stands still says so", () => {
  let now = 0;
  const reports: LoadProgress[] = [];
  const progress = new ProgressMeter(
    (report) => reports.push(report),
    () => now,
  );
  progress.phase("download", 0, 1000);
  now = 1000;
  progress.fetched(100);
  assert.ok((reports.at(-1)?.bytesPerSecond ?? 0) > 0);
  now = 2000;
  progress.tick();
  assert.equal(reports.length, 2);
  now = 4500;
  progress.tick();
  assert.deepEqual(
    { bytesPerSecond: reports.at(-1)?.bytesPerSecond, secondsLeft: reports.at(-1)?.secondsLeft },
    { bytesPerSecond: 0, secondsLeft: null },
  );
});

test("a damaged shard is fetched again, alone", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  await load(env, [remote(server)]);
  const bytes = env.cache.entries.get(env.cache.shards()[1] ?? "");
  assert.ok(bytes);
  bytes[77] = (bytes[77] ?? 0) ^ 1;
  server.log.length = 0;
  const { runtime } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.deepEqual(server.shardRanges(), [range(1)]);

  env.cache.entries.delete(env.cache.shards()[2] ?? "");
  await server.stop();
  await assert.rejects(load(env, [remote(server)]), (error) => {
    assert.ok(error instanceof NetworkError);
    assert.match(error.message, /Shard 3 .* downloading it again failed/);
    return true;
  });
});

test("a damaged shard of a file that changed on the server loads the new version", async (t) => {
  for (const etag of ['"one"', '"two"']) {
    const server = await serve(t);
    const env = fakeEnv();
    await load(env, [remote(server)]);
    env.cache.entries.delete(env.cache.shards()[1] ?? "");
    server.files.set("/m.gguf", { body: other, etag });
    const { runtime } = await load(env, [remote(server)]);
    assert.deepEqual(runtime.hashes, [sha256(other)]);
    assert.equal(env.cache.shards().length, 4);
  }
});

test("a server without ranges is read in one request", async (t) => {
  const server = await serve(t);
  server.ranges = false;
  const env = fakeEnv();
  const { runtime } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.equal(server.log.length, 1);
  assert.equal(env.cache.shards().length, 4);
  server.log.length = 0;
  await load(env, [remote(server)]);
  assert.equal(server.log.length, 0);
});

test("a stream that is cut is opened again and keeps what was stored", async (t) => {
  const server = await serve(t);
  server.ranges = false;
  const env = fakeEnv();
  server.fault = (_request, response) => {
    server.fault = null;
    response.writeHead(200, { "Content-Length": SIZE, ETag: '"one"' });
    response.write(body.subarray(0, SHARD_SIZE + 1000), () => response.destroy());
    return true;
  };
  const { runtime, reports } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.equal(server.log.length, 2);
  assert.equal(reports.at(-1)?.downloaded, SIZE);
});

test("a short answer is asked for again", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  server.fault = ({ range: asked }, response) => {
    if (asked !== range(1)) return false;
    server.fault = null;
    response.writeHead(206, { "Content-Range": `bytes ${SHARD_SIZE}-${2 * SHARD_SIZE - 1}/${SIZE}` });
    response.end(body.subarray(SHARD_SIZE, SHARD_SIZE + 500));
    return true;
  };
  const { runtime } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.equal(server.shardRanges().filter((asked) => asked === range(1)).length, 1);
  assert.ok(server.shardRanges().includes(`bytes=${SHARD_SIZE + 500}-${2 * SHARD_SIZE - 1}`));
});

test("a busy server is given the time it asks for", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  let busy = 2;
  server.fault = (_request, response) => {
    if (busy-- <= 0) return false;
    response.writeHead(busy ? 503 : 429, { "Retry-After": "7" }).end();
    return true;
  };
  await load(env, [remote(server)]);
  assert.deepEqual(env.slept, [7000, 7000]);
});

test("a file that changes meanwhile is loaded again, once", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  server.fault = ({ range: asked }) => {
    if (asked === range(2)) server.files.set("/m.gguf", { body: other, etag: '"two"' });
    return false;
  };
  const { runtime } = await load(env, [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(other)]);
  assert.equal(env.cache.shards().length, 4, "nothing is left of the old version");

  // The second try reads one answer; if that is cut, and goes on with another version, it gives up.
  let version = 0;
  server.fault = ({ range: asked }, response) => {
    server.files.set("/m.gguf", { body, etag: `"v${version++}"` });
    if (asked !== undefined) return false;
    response.writeHead(200, { "Content-Length": SIZE, ETag: `"v${version}"` });
    response.write(body.subarray(0, SHARD_SIZE + 1000), () => response.destroy());
    return true;
  };
  await assert.rejects(load(fakeEnv(), [remote(server)]), /changed again/);
});

test("a pinned file that changes meanwhile does not mix versions", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  server.files.set("/m.gguf", { body: other, etag: '"zero"' });
  server.fault = ({ range: asked }) => {
    if (asked === range(2)) server.files.set("/m.gguf", { body, etag: '"one"' });
    return false;
  };
  const { runtime } = await load(env, [remote(server, { sha256: sha256(body) })]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
});

test("refresh asks, and replaces only what changed", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  await load(env, [remote(server)]);
  server.log.length = 0;
  await load(env, [remote(server)], { refresh: true });
  assert.deepEqual(server.shardRanges(), []);
  assert.equal(server.log.length, 1);
  server.files.set("/m.gguf", { body: other, etag: '"two"' });
  const { runtime } = await load(env, [remote(server)], { refresh: true });
  assert.deepEqual(runtime.hashes, [sha256(other)]);
  assert.equal(env.cache.shards().length, 4);
  await server.stop();
  const offline = await load(env, [remote(server)], { refresh: true });
  assert.deepEqual(offline.runtime.hashes, [sha256(other)]);
});

test("a wrong pinned hash is refused and nothing of the file stays", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  await assert.rejects(load(env, [remote(server, { sha256: sha256(other) })]), CorruptFileError);
  assert.equal(env.cache.entries.size, 0);
  const { runtime } = await load(env, [remote(server, { sha256: sha256(body), size: SIZE })]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  const [manifest] = (await env.store?.manifests()) ?? [];
  assert.equal(manifest?.verified, true);
  await assert.rejects(
    load(fakeEnv(), [remote(server, { sha256: sha256(body), size: 5 })]),
    CorruptFileError,
  );
});

test("a mirror's copy of a pinned file serves the hub's address", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  await load(env, [remote(server, { sha256: sha256(body) })]);
  await server.stop();
  const hub = remote(server, { sha256: sha256(body), url: "http://127.0.0.1:9/elsewhere.gguf" });
  assert.deepEqual((await load(env, [hub])).runtime.hashes, [sha256(body)]);
});

test("too little room is said before anything is fetched", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  env.estimate = async () => ({ usage: 900, quota: 1900 });
  await assert.rejects(load(env, [remote(server)]), (error) => {
    assert.ok(error instanceof QuotaError);
    assert.equal(error.needed, SIZE);
    assert.equal(error.available, 1000);
    assert.match(error.message, /25\.2 MB are missing/);
    return true;
  });
  assert.deepEqual(server.shardRanges(), []);
});

test("a store that fills up on the way is a quota error", async (t) => {
  const server = await serve(t);
  const cache = new MemoryCache();
  cache.capacity = 2 * SHARD_SIZE + 5000;
  await assert.rejects(load(fakeEnv(cache), [remote(server)]), (error) => {
    assert.ok(error instanceof QuotaError);
    // What the whole model still needs, not what the shard did that was refused; others may be on their way.
    const stored = cache.shards().length * SHARD_SIZE;
    assert.ok(error.needed >= SIZE - stored && error.needed <= SIZE, String(error.needed));
    return true;
  });
});

test("without a store the model still loads, with ranges and without", async (t) => {
  const server = await serve(t);
  for (server.ranges of [true, false]) {
    const { runtime } = await load(fakeEnv(null), [remote(server)]);
    assert.deepEqual(runtime.hashes, [sha256(body)]);
  }
});

test("two loads of one model download it once", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  const both = await Promise.all([load(env, [remote(server)]), load(env, [remote(server)])]);
  for (const { runtime } of both) assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.equal(server.shardRanges().length, 4);
});

test("split files load as one, remote with and without ranges, and local", async (t) => {
  const server = await serve(t);
  const parts = [body.subarray(0, SHARD_SIZE + 10), body.subarray(SHARD_SIZE + 10)];
  for (const [index, part] of parts.entries())
    server.files.set(`/p${index}`, { body: part, etag: `"${index}"` });
  const files = parts.map((_, index) => remote(server, { url: `${server.origin}/p${index}` }));
  const local = parts.map((part, index) => new File([Uint8Array.from(part)], `p${index}`));
  for (const cache of [new MemoryCache(), null]) {
    for (server.ranges of [true, false]) {
      const { runtime } = await load(fakeEnv(cache), files, { script: { header: SHARD_SIZE } });
      assert.deepEqual(runtime.hashes, parts.map(sha256));
    }
  }
  const opened = await load(
    fakeEnv(),
    local.map((file) => ({ kind: "file", file })),
  );
  assert.deepEqual(opened.runtime.hashes, parts.map(sha256));
});

test("hidden headers are worked around, or named", async (t) => {
  const server = await serve(t);
  server.hidden = ["Content-Range", "ETag"];
  const { runtime } = await load(fakeEnv(), [remote(server)]);
  assert.deepEqual(runtime.hashes, [sha256(body)]);
  assert.ok(server.log.some(({ method }) => method === "HEAD"));

  server.fault = ({ method }, response) => {
    if (method === "HEAD") response.writeHead(405).end();
    return method === "HEAD";
  };
  await assert.rejects(load(fakeEnv(), [remote(server)]), /does not say how large/);
  const pinned = await load(fakeEnv(), [remote(server, { size: SIZE, sha256: sha256(body) })]);
  assert.deepEqual(pinned.runtime.hashes, [sha256(body)]);
});

test("refusals and cut-off files have their own errors", async (t) => {
  const server = await serve(t);
  const missing = remote(server, { url: `${server.origin}/none.gguf` });
  await assert.rejects(load(fakeEnv(), [missing]), ModelNotFoundError);
  assert.equal(server.log.length, 1, "a 404 is not asked for again");
  await assert.rejects(load(fakeEnv(), [remote(server)], { script: { header: SIZE + 1 } }), CorruptFileError);
  server.files.set("/m.gguf", { body: Buffer.alloc(0) });
  await assert.rejects(load(fakeEnv(), [remote(server)]), CorruptFileError);
});
