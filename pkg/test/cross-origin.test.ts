import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { offerFiles } from "../src/cross-origin.js";
import { CorruptFileError } from "../src/errors.js";
import { inspectFiles } from "../src/inspect-files.js";
import { loadModel, storeModel, type LoadEnv } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { LoadProgress, RemoteFile } from "../src/protocol.js";
import { SHARD_SIZE } from "../src/store.js";
import { FakeCrossOriginStorage } from "./fake-cross-origin.js";
import { fakeEnv, randomBytes, sha256 } from "./fake-browser.js";
import { fakeInspector, FakeRuntime, loadRequest, type Script } from "./fakes.js";
import { FileServer } from "./server.js";

const SIZE = 2 * SHARD_SIZE + 777;
const body = randomBytes(SIZE, 5);
const hash = sha256(body);
const never = new AbortController().signal;

/** A server with the file; `announces` its hash as the hub does. */
async function serve(test: TestContext, announces = false): Promise<FileServer> {
  const server = await FileServer.start(test);
  server.files.set("/m.gguf", {
    body,
    etag: '"one"',
    headers: announces ? { "X-Linked-ETag": `"${hash}"` } : {},
  });
  return server;
}

function file(server: FileServer, more: Partial<RemoteFile> = {}): RemoteFile {
  return { kind: "url", url: `${server.origin}/m.gguf`, sha256: hash, size: null, headers: {}, ...more };
}

/** A site in a browser with this storage. */
function site(shared: FakeCrossOriginStorage, origin: string) {
  return { ...fakeEnv(), crossOrigin: shared.of(origin) };
}

/** Loads and then offers, as a session does. */
async function load(
  env: LoadEnv,
  spec: RemoteFile,
  {
    share = true,
    script = {},
    refresh = false,
  }: { share?: boolean; script?: Script; refresh?: boolean } = {},
): Promise<{ runtime: FakeRuntime; reports: LoadProgress[] }> {
  const runtime = new FakeRuntime(script);
  const reports: LoadProgress[] = [];
  const progress = new ProgressMeter((report) => reports.push(report));
  const request = { ...loadRequest([spec], refresh), share };
  await loadModel(runtime, request, env, progress, never);
  if (share) await offerFiles(request.files, env, never);
  return { runtime, reports };
}

for (const announces of [false, true])
  test(`two sites share a file whose hash is ${announces ? "announced" : "pinned"}`, async (t) => {
    const server = await serve(t, announces);
    const spec = file(server, announces ? { sha256: null } : {});
    const shared = new FakeCrossOriginStorage();
    const first = site(shared, "https://one.test");
    await load(first, spec);
    assert.deepEqual(shared.stored, [hash]);
    // The shared copy is the only one.
    assert.deepEqual(first.cache.shards(), []);

    server.log.length = 0;
    const second = site(shared, "https://two.test");
    const { runtime, reports } = await load(second, spec);
    assert.deepEqual(runtime.hashes, [hash]);
    assert.deepEqual(server.shardRanges(), []);
    assert.deepEqual([reports[0]?.phase, reports.at(-1)?.downloaded], ["load", 0]);
    assert.deepEqual(second.cache.shards(), []);
    assert.ok(!shared.log.includes(`https://two.test create ${hash}`), "what was taken is not offered again");

    // Both load it again without a server, and list it as theirs.
    await server.stop();
    for (const env of [first, second]) {
      assert.deepEqual((await load(env, spec)).runtime.hashes, [hash]);
      const [model] = (await env.store?.models()) ?? [];
      assert.deepEqual(
        [model?.complete, model?.shared, model?.bytes, model?.totalBytes],
        [true, true, 0, SIZE],
      );
    }
  });

test("a site with persistent storage keeps its own copy, and offers it once", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  const env = { ...site(shared, "https://one.test"), persisted: async () => true };
  await load(env, file(server));
  await load(env, file(server));
  assert.equal(env.cache.shards().length, 3);
  assert.equal(shared.log.filter((line) => line.includes("create")).length, 1);
  shared.evict(hash);
  server.log.length = 0;
  assert.deepEqual((await load(env, file(server))).runtime.hashes, [hash]);
  assert.deepEqual(server.log, []);
});

test("a file that the browser deleted is downloaded again, and offered again", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  const env = site(shared, "https://one.test");
  await load(env, file(server));
  shared.evict(hash);
  server.log.length = 0;
  assert.deepEqual((await load(env, file(server))).runtime.hashes, [hash]);
  assert.equal(server.shardRanges().length, 3);
  assert.deepEqual(shared.stored, [hash]);
});

test("a file that cannot be read to its end is continued from the server", async (t) => {
  const server = await serve(t);
  const cut = new File([new Uint8Array(body)], hash);
  const slice = cut.slice.bind(cut);
  cut.slice = (start = 0, end) => (start === 0 ? slice(0, end) : slice(SIZE));
  const env = {
    ...fakeEnv(),
    crossOrigin: { requestFileHandle: async () => ({ getFile: async () => cut }) as never },
  };
  assert.deepEqual((await load(env, file(server))).runtime.hashes, [hash]);
  assert.equal(server.shardRanges().length, 2);
});

test("wrong bytes are noticed by the hash, and the file is downloaded", async (t) => {
  const server = await serve(t);
  const wrong = Buffer.from(body);
  wrong[SHARD_SIZE + 3] = (wrong[SHARD_SIZE + 3] ?? 0) ^ 1;
  for (const bytes of [wrong, randomBytes(100, 1), randomBytes(SIZE + 1, 1), Buffer.alloc(0)]) {
    const shared = new FakeCrossOriginStorage();
    shared.damage(hash, new Uint8Array(bytes));
    const env = site(shared, "https://one.test");
    server.log.length = 0;
    const { runtime } = await load(env, file(server));
    assert.deepEqual(runtime.hashes, [hash]);
    assert.equal(server.shardRanges().length, 3);
    assert.deepEqual(
      (await env.store?.models())?.map(({ totalBytes }) => totalBytes),
      [SIZE],
    );
  }
});

test("wrong bytes that the runtime refuses do not count against the file", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  shared.damage(hash, new Uint8Array(randomBytes(SIZE, 6)));
  const env = site(shared, "https://one.test");
  let tries = 0;
  const onLoad: Script["onLoad"] = (step) => {
    if (step === "check" && ++tries === 1)
      throw Object.assign(new Error("no"), { code: "unsupported_feature" });
  };
  assert.deepEqual((await load(env, file(server), { script: { onLoad } })).runtime.hashes, [hash]);
  assert.equal(tries, 2);
});

test("a wrong file on the server is still an error", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  shared.damage(sha256(randomBytes(9, 9)), new Uint8Array(body));
  const env = site(shared, "https://one.test");
  await assert.rejects(load(env, file(server, { sha256: sha256(randomBytes(9, 9)) })), CorruptFileError);
});

test("a storage that refuses or is full is as good as none", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  shared.allowed = false;
  const refused = site(shared, "https://one.test");
  assert.deepEqual((await load(refused, file(server))).runtime.hashes, [hash]);
  assert.equal(refused.cache.shards().length, 3);

  shared.allowed = true;
  shared.quota = 1000;
  const full = site(shared, "https://two.test");
  assert.deepEqual((await load(full, file(server))).runtime.hashes, [hash]);
  assert.deepEqual([full.cache.shards().length, shared.stored], [3, []]);
});

test("a storage that never answers holds a load up for ten seconds", async (t) => {
  const server = await serve(t);
  let ask = () => {};
  const asked = new Promise<void>((resolve) => (ask = resolve));
  const requestFileHandle = () => {
    ask();
    return new Promise<never>(() => undefined);
  };
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const runtime = new FakeRuntime();
  const env = { ...fakeEnv(), crossOrigin: { requestFileHandle } };
  const loading = loadModel(runtime, loadRequest([file(server)]), env, new ProgressMeter(() => {}), never);
  await asked;
  assert.deepEqual(server.log, []);
  t.mock.timers.tick(10_000);
  // The network needs real ones.
  t.mock.timers.reset();
  await loading;
  assert.deepEqual(runtime.hashes, [hash]);
});

test("what is not on the Public Hash List stays with the site that stored it", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  shared.isPublic = () => false;
  const first = site(shared, "https://one.test");
  await load(first, file(server));
  server.log.length = 0;
  assert.deepEqual((await load(first, file(server))).runtime.hashes, [hash]);
  assert.deepEqual(server.log, []);
  await load(site(shared, "https://two.test"), file(server));
  assert.equal(server.shardRanges().length, 3);
});

test("turned off, nothing is asked; files with headers are not offered", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  const off = site(shared, "https://one.test");
  await load(off, file(server), { share: false });
  assert.deepEqual([shared.log, off.cache.shards().length], [[], 3]);
  const secret = site(shared, "https://two.test");
  await load(secret, file(server, { headers: { Authorization: "Bearer x" } }));
  assert.deepEqual([shared.stored, secret.cache.shards().length], [[], 3]);
  // Without a hash there is nothing to ask for.
  const unnamed = site(shared, "https://three.test");
  await load(unnamed, file(server, { sha256: null }));
  assert.ok(!shared.log.some((line) => line.startsWith("https://three.test")));
});

test("an offer that is stopped leaves nothing behind", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  const env = site(shared, "https://one.test");
  await load(env, file(server), { share: false });
  const stopped = new AbortController();
  stopped.abort();
  await offerFiles([file(server)], env, stopped.signal);
  assert.deepEqual([shared.stored, env.cache.shards().length], [[], 3]);
  // No pending entry: a later visit can offer it.
  await offerFiles([file(server)], env, never);
  assert.deepEqual(shared.stored, [hash]);
});

test("a download and an inspection use what all sites share", async (t) => {
  const server = await serve(t);
  const shared = new FakeCrossOriginStorage();
  await load(site(shared, "https://one.test"), file(server));
  server.log.length = 0;
  const env = site(shared, "https://two.test");
  const progress = new ProgressMeter(() => undefined);
  await storeModel({ name: "m", files: [file(server)], refresh: false, share: true }, env, progress, never);
  assert.equal((await env.store?.models())?.[0]?.complete, true);
  const heard: number[] = [];
  const onHeader: Script["onHeader"] = (_, bytes) => heard.push(bytes.length);
  const { sizes } = await inspectFiles(fakeInspector({ onHeader }), [file(server)], env, never);
  assert.deepEqual([sizes, heard, server.log], [[SIZE], [SHARD_SIZE], []]);
});
