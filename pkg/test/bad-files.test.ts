// Files that are no model, or not the one they were: what is said of them, and what stays in the store.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { CorruptFileError } from "../src/errors.js";
import { loadModel, type LoadEnv } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { FileSpec, RemoteFile } from "../src/protocol.js";
import { SHARD_SIZE, ShardStore } from "../src/store.js";
import { fakeEnv, randomBytes, sha256 } from "./fake-browser.js";
import { loadRequest, FakeRuntime, type Script } from "./fakes.js";
import { FileServer, type Served } from "./server.js";

const SIZE = 2 * SHARD_SIZE + 777;
const good = randomBytes(SIZE, 3);
const PAGE = Buffer.from("\ufeff\n  <!DOCTYPE html><html><body>Please sign in</body></html>".padEnd(1400));
const POINTER = Buffer.from(
  `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(good)}\nsize ${SIZE}\n`,
);

async function serve(test: TestContext, file: Served): Promise<FileServer> {
  const server = await FileServer.start(test);
  server.files.set("/m.gguf", file);
  return server;
}

function remote(server: FileServer, more: Partial<RemoteFile> = {}): RemoteFile {
  return { kind: "url", url: `${server.origin}/m.gguf`, sha256: null, size: null, headers: {}, ...more };
}

/** Loads a model; returns the hashes of its files. */
async function load(env: LoadEnv, files: FileSpec[], script: Script = {}, refresh = false) {
  const runtime = new FakeRuntime(script);
  const request = loadRequest(files, refresh);
  const progress = new ProgressMeter(() => undefined);
  await loadModel(runtime, request, env, progress, new AbortController().signal);
  return runtime.hashes;
}

/** A script whose runtime fails with an error of this code, as wasm throws it. */
function refusing(step: string, code: string): Script {
  return {
    onLoad: (at) => {
      if (at === step) throw Object.assign(new Error("refused"), { code });
    },
  };
}

test("a web page and a Git LFS pointer are called that, and do not stay", async (t) => {
  for (const [bad, says] of [
    [PAGE, /not a model but a web page/],
    [POINTER, /not a model but a Git LFS pointer/],
  ] as const) {
    // The server sends no ETag: only asking again finds the right file.
    const server = await serve(t, { body: bad });
    const env = fakeEnv();
    await assert.rejects(load(env, [remote(server)]), (error) => {
      assert.ok(error instanceof CorruptFileError);
      assert.match(error.message, says);
      return true;
    });
    assert.deepEqual([...env.cache.entries.keys()], []);
    const opened = new File([Uint8Array.from(bad)], "mine.gguf");
    await assert.rejects(load(fakeEnv(), [{ kind: "file", file: opened }]), says);
    server.files.set("/m.gguf", { body: good });
    assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
  }
});

test("a web page of unknown length, or in place of a file of known length, is called that", async (t) => {
  const headers = { "Content-Type": "text/html; charset=utf-8" };
  const server = await serve(t, { body: PAGE, headers: { ...headers, "Content-Encoding": "identity" } });
  await assert.rejects(load(fakeEnv(), [remote(server, { size: SIZE })]), /but a web page/);
  server.fault = (_request, response) => {
    response.writeHead(200, headers);
    response.write(PAGE);
    response.end();
    return true;
  };
  await assert.rejects(load(fakeEnv(), [remote(server)]), /but a web page/);
});

for (const step of ["header", "check", "prepare", "data", "finish"])
  test(`a file that is found damaged (${step}) does not stay, and the next load asks again`, async (t) => {
    const server = await serve(t, { body: randomBytes(SIZE, 4) });
    const env = fakeEnv();
    await assert.rejects(load(env, [remote(server)], refusing(step, "corrupt_file")), /refused/);
    assert.deepEqual([...env.cache.entries.keys()], []);
    server.files.set("/m.gguf", { body: good });
    assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
  });

test("only the damaged file of a split model goes; one that had its pinned hash stays", async (t) => {
  const server = await serve(t, { body: good });
  server.files.set("/n.gguf", { body: PAGE });
  const second = remote(server, { url: `${server.origin}/n.gguf` });
  const env = fakeEnv();
  await assert.rejects(load(env, [remote(server), second]), /web page/);
  const urls = async () => (await env.store?.manifests())?.map(({ url }) => url);
  assert.deepEqual(await urls(), [remote(server).url]);

  const pinned = [remote(server, { sha256: sha256(good) })];
  const other = fakeEnv();
  await load(other, pinned);
  await assert.rejects(load(other, pinned, refusing("prepare", "corrupt_file")), /refused/);
  assert.equal((await other.store?.models())?.[0]?.complete, true);
});

test("a model that cannot run stays, but the next load asks whether there is another version", async (t) => {
  const server = await serve(t, { body: randomBytes(SIZE, 5), etag: '"one"' });
  const env = fakeEnv();
  await load(env, [remote(server)]);
  await assert.rejects(load(env, [remote(server)], refusing("check", "unsupported_feature")), /refused/);
  assert.equal((await env.store?.models())?.[0]?.complete, true);
  server.log.length = 0;
  await assert.rejects(load(env, [remote(server)], refusing("prepare", "unsupported_feature")), /refused/);
  assert.deepEqual([server.log.length, server.shardRanges()], [1, []]);
  server.files.set("/m.gguf", { body: good, etag: '"two"' });
  assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
  // Now that it runs, it is not asked for any more.
  server.log.length = 0;
  await load(env, [remote(server)]);
  assert.deepEqual(server.log, []);
});

test("a server's own SHA-256 is checked, and tells versions apart", async (t) => {
  const linked = (hash: string) => ({ "X-Linked-ETag": `"${hash}"` });
  const server = await serve(t, { body: good, headers: linked(sha256(PAGE)) });
  const env = fakeEnv();
  await assert.rejects(load(env, [remote(server)]), (error) => {
    assert.ok(error instanceof CorruptFileError);
    assert.match(error.message, /damaged on the way/);
    return true;
  });
  assert.deepEqual([...env.cache.entries.keys()], []);

  server.files.set("/m.gguf", { body: good, etag: '"a"', headers: linked(sha256(good)) });
  await load(env, [remote(server)]);
  // The same bytes under another ETag are the same version.
  server.files.set("/m.gguf", { body: good, etag: '"b"', headers: linked(sha256(good)) });
  server.log.length = 0;
  assert.deepEqual(await load(env, [remote(server)], {}, true), [sha256(good)]);
  assert.deepEqual(server.shardRanges(), []);
});

/** Answers requests in turn as two servers of one name, whose copies have these headers. */
function balance(server: FileServer, copies: Served[]): void {
  let turn = 0;
  server.fault = () => {
    const copy = copies[turn++ % copies.length];
    if (copy) server.files.set("/m.gguf", copy);
    return false;
  };
}

test("servers of one name with ETags of their own are one server if the date agrees", async (t) => {
  const lastModified = "Wed, 21 Oct 2015 07:28:00 GMT";
  const server = await serve(t, { body: good });
  const copies = ['"a"', 'W/"b"'].map((etag) => ({ body: good, etag, lastModified }));
  balance(server, copies);
  const env = fakeEnv();
  assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
  assert.equal(server.shardRanges().length, 3, "nothing was fetched twice");
  server.log.length = 0;
  for (let visit = 0; visit < 2; visit++)
    assert.deepEqual(await load(env, [remote(server)], {}, true), [sha256(good)]);
  assert.deepEqual(server.shardRanges(), []);
  // A shard that is lost is fetched alone, from whichever server.
  for (let visit = 0; visit < 2; visit++) {
    env.cache.entries.delete(env.cache.shards()[1] ?? "");
    server.log.length = 0;
    assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
    assert.deepEqual(server.shardRanges(), [`bytes=${SHARD_SIZE}-${2 * SHARD_SIZE - 1}`]);
  }
});

test("servers whose copies may differ: it starts once again, with one answer for the whole", async (t) => {
  const server = await serve(t, { body: good });
  const copies = ['"a"', '"b"'].map((etag) => ({ body: good, etag }));
  const other = randomBytes(SIZE, 6);
  for (const second of [good, other]) {
    balance(server, [copies[0], { body: second, etag: '"b"' }] as Served[]);
    server.log.length = 0;
    const [hash] = await load(fakeEnv(), [remote(server)]);
    assert.ok(hash === sha256(good) || hash === sha256(second), "no mixture");
    assert.deepEqual(server.log.at(-1)?.range, undefined);
    assert.equal(server.log.filter(({ range }) => range === undefined).length, 1);
  }
});

test("a manifest that makes no sense is not believed", async (t) => {
  const server = await serve(t, { body: good });
  const env = fakeEnv();
  await load(env, [remote(server)]);
  const key = [...env.cache.entries.keys()].find((entry) => entry.includes("/manifest/")) ?? "";
  env.cache.entries.set(key, new TextEncoder().encode('{"size": 1e15, "digests": []}'));
  // Its shards are still there, and nobody knows of what.
  const models = await new ShardStore(env.cache, "https://page.test").models();
  assert.deepEqual(
    models.map(({ name, urls }) => ({ name, urls })),
    [{ name: "", urls: [] }],
  );
  assert.deepEqual(await load(env, [remote(server)]), [sha256(good)]);
});
