import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AbortedError, CorruptFileError, InvalidRequestError, ModelNotFoundError } from "../src/errors.js";
import { comfortableBytes, fitOf } from "../src/fit.js";
import { inspectModelWith, type InspectOptions, type InspectPlatform } from "../src/inspect.js";
import { loadModel } from "../src/loader.js";
import { ProgressMeter } from "../src/progress.js";
import type { ModelSource } from "../src/source.js";
import { SHARD_SIZE } from "../src/store.js";
import { FakeWorker } from "./fake-worker.js";
import { fakeEnv, randomBytes, type FakeEnv } from "./fake-browser.js";
import { loadRequest, FakeRuntime, type Script } from "./fakes.js";
import { FileServer } from "./server.js";

const SIZE = 2 * SHARD_SIZE + 999;
const HEADER = 100_000;
const body = randomBytes(SIZE, 3);
const HASH = "cd".repeat(32);

async function serve(test: TestContext): Promise<FileServer> {
  const server = await FileServer.start(test);
  server.files.set("/m.gguf", { body });
  return server;
}

interface Setup {
  script?: Script;
  env?: FakeEnv;
  platform?: Partial<InspectPlatform>;
}

async function inspect(
  source: ModelSource,
  options: InspectOptions,
  { script = {}, env = fakeEnv(), platform = {} }: Setup = {},
) {
  const workers: FakeWorker[] = [];
  const spawn = () => {
    const worker = new FakeWorker({ header: HEADER, ...script }, env);
    workers.push(worker);
    return worker;
  };
  try {
    return await inspectModelWith(source, options, {
      spawn,
      network: env,
      base: "https://page.test/",
      backend: async () => "webgpu",
      speed: async () => null,
      memory: 8,
      ...platform,
    });
  } finally {
    assert.ok(workers.every(({ terminated }) => terminated));
  }
}

/** Bytes that the inspector got, put together. */
function collected(): { script: Script; bytes: () => Buffer } {
  const pieces: Uint8Array[] = [];
  return {
    script: { onHeader: (_, bytes) => void pieces.push(bytes.slice()) },
    bytes: () => Buffer.concat(pieces),
  };
}

test("an address is inspected by its first bytes, and nothing is stored", async (t) => {
  const server = await serve(t);
  const { script, bytes } = collected();
  const env = fakeEnv();
  const said = await inspect(`${server.origin}/m.gguf`, { contextLength: 2000 }, { script, env });
  assert.deepEqual(
    [said.name, said.architecture, said.parameters, said.size, said.trainedContextLength],
    ["Fake", "llama", 1e9, SIZE, 8192],
  );
  assert.deepEqual(
    [said.contextLength, said.weightBytes, said.bytesPerToken, said.kvBytes],
    [2000, 5e8, 4e8, 2e6],
  );
  const small = await inspect(`${server.origin}/m.gguf`, { contextLength: 2000, kvFormat: "q8_0" });
  assert.equal(small.kvBytes, 1e6);
  assert.deepEqual([said.runsOn, said.fit, said.problem, said.repository], ["webgpu", "fits", null, null]);
  assert.ok(bytes().length >= HEADER && bytes().length < SHARD_SIZE, String(bytes().length));
  assert.deepEqual(bytes(), body.subarray(0, bytes().length));
  assert.equal(env.cache.entries.size, 0);
});

test("a server without ranges, one that cuts, and a busy one give the same header", async (t) => {
  const server = await serve(t);
  server.ranges = false;
  const whole = collected();
  await inspect(`${server.origin}/m.gguf`, {}, { script: whole.script });
  assert.deepEqual(whole.bytes(), body.subarray(0, whole.bytes().length));

  let cuts = 0;
  server.ranges = true;
  server.fault = ({ range }, response) => {
    if (range === "bytes=0-0" || cuts++ > 1) return false;
    if (cuts === 1) response.writeHead(503).end();
    else {
      response.writeHead(206, { "Content-Range": `bytes 0-${SIZE - 1}/${SIZE}`, "Content-Length": SIZE });
      response.write(body.subarray(0, 5000), () => setTimeout(() => response.destroy(), 5));
    }
    return true;
  };
  const cut = collected();
  await inspect(`${server.origin}/m.gguf`, {}, { script: cut.script });
  assert.ok(server.log.some(({ range }) => range === `bytes=5000-${SIZE - 1}`));
  assert.deepEqual(cut.bytes(), body.subarray(0, cut.bytes().length));
});

test("a stored model is inspected without the network", async (t) => {
  const server = await serve(t);
  const env = fakeEnv();
  const url = `${server.origin}/m.gguf`;
  const files = [{ kind: "url" as const, url, sha256: null, size: null, headers: {} }];
  const request = loadRequest(files);
  await loadModel(
    new FakeRuntime(),
    request,
    env,
    new ProgressMeter(() => undefined),
    new AbortController().signal,
  );
  await server.stop();
  const { script, bytes } = collected();
  assert.equal((await inspect(url, {}, { script, env })).size, SIZE);
  assert.deepEqual(bytes(), body.subarray(0, SHARD_SIZE));
});

test("an opened file is inspected", async () => {
  const { script, bytes } = collected();
  const said = await inspect(new File([new Uint8Array(body)], "m.gguf"), {}, { script });
  assert.equal(said.size, SIZE);
  assert.deepEqual(bytes(), body.subarray(0, SHARD_SIZE));
});

test("what does not run, and what has no room, says why", async (t) => {
  const server = await serve(t);
  const url = `${server.origin}/m.gguf`;
  const problem = { code: "unsupported_architecture", message: "not that one" };
  const other = await inspect(url, {}, { script: { inspection: { problem, weight_bytes: 0, kv_bytes: 0 } } });
  assert.deepEqual([other.runsOn, other.problem], [null, problem]);
  const large = { script: { inspection: { weight_bytes: 7e9 } } };
  const onCpu = await inspect(url, {}, { ...large, platform: { backend: async () => "cpu" } });
  assert.deepEqual([onCpu.runsOn, onCpu.fit, onCpu.problem?.code], [null, "too-large", "out_of_memory"]);
  const onGpu = await inspect(url, {}, large);
  assert.deepEqual([onGpu.runsOn, onGpu.fit, onGpu.problem], ["webgpu", "tight", null]);
  const weak = await inspect(url, {}, { ...large, platform: { memory: 4 } });
  assert.deepEqual([weak.runsOn, weak.problem?.code], [null, "out_of_memory"]);
});

test("files that are no models are refused", async (t) => {
  const server = await serve(t);
  server.files.set("/page.gguf", { body: Buffer.from("<!doctype html>".padEnd(500)) });
  server.files.set("/cut.gguf", { body: body.subarray(0, 5000) });
  await assert.rejects(inspect(`${server.origin}/page.gguf`, {}), CorruptFileError);
  await assert.rejects(inspect(`${server.origin}/cut.gguf`, {}), /ends within its header/);
  await assert.rejects(inspect(`${server.origin}/none.gguf`, {}), ModelNotFoundError);
  await assert.rejects(inspect(`${server.origin}/m.gguf`, { contextLength: 0 }), InvalidRequestError);
  const kvFormat = "q5_0" as "q4_0";
  await assert.rejects(inspect(`${server.origin}/m.gguf`, { kvFormat }), InvalidRequestError);
  const signal = AbortSignal.abort();
  await assert.rejects(inspect(`${server.origin}/m.gguf`, { signal }), AbortedError);
});

test("the speed that was measured here is what can be expected", async (t) => {
  const server = await serve(t);
  const url = `${server.origin}/m.gguf`;
  assert.equal((await inspect(url, {})).tokensPerSecond, null);
  const speed = async (backend: "webgpu" | "cpu") => ({
    backend,
    bytesPerSecond: backend === "cpu" ? 4e9 : 40e9,
    secondsPerToken: 0.01,
  });
  // 400 MB a token.
  const onGpu = await inspect(url, {}, { platform: { speed } });
  assert.equal(onGpu.tokensPerSecond, 1 / 0.02);
  const onCpu = await inspect(url, {}, { platform: { speed, backend: async () => "cpu" } });
  assert.equal(onCpu.tokensPerSecond, 1 / 0.11);
});

test("a repository is listed, and the file that suits is inspected", async (t) => {
  const server = await serve(t);
  const sibling = (rfilename: string, size: number) => ({ rfilename, lfs: { size, sha256: HASH } });
  const siblings = [sibling("m-Q8_0.gguf", 9e9), sibling("m-Q4_K_M.gguf", 2e9)];
  const sha = "0123456789abcdef0123456789abcdef01234567";
  const listing = { sha, siblings, cardData: { license: "apache-2.0" } };
  server.files.set("/api/models/o/r?blobs=true", { body: Buffer.from(JSON.stringify(listing)) });
  for (const name of ["m-Q8_0.gguf", "m-Q4_K_M.gguf"])
    server.files.set(`/o/r/resolve/${sha}/${name}`, { body });
  const options = { hubEndpoint: server.origin, hubToken: "secret" };
  const said = await inspect("o/r", options);
  assert.deepEqual(said.model, {
    url: [`${server.origin}/o/r/resolve/${sha}/m-Q4_K_M.gguf`],
    sha256: [HASH],
  });
  assert.deepEqual([said.license, said.repository?.files.length], ["apache-2.0", 2]);
  assert.equal(server.log[0]?.headers.authorization, "Bearer secret");
  const other = await inspect("o/r", { ...options, file: "m-Q8_0.gguf" });
  assert.match(JSON.stringify(other.model), /Q8_0/);
  await assert.rejects(inspect("o/r", { ...options, file: "x.gguf" }), /no GGUF file "x\.gguf"/);
  await assert.rejects(inspect("o/none", options), /no repository "o\/none"/);
  server.fault = (_, response) => {
    response.writeHead(401).end();
    return true;
  };
  await assert.rejects(inspect("o/r", options), /private or gated/);
});

test("how much has room depends on the device", () => {
  const gib = 2 ** 30;
  assert.equal(fitOf(3 * gib, "cpu", 8), "fits");
  assert.equal(fitOf(3.7 * gib, "cpu", 64), "too-large");
  assert.equal(fitOf(5 * gib, "webgpu", 8), "tight");
  assert.equal(fitOf(3.5 * gib, "webgpu", 4), "too-large");
  assert.equal(fitOf(3 * gib, "webgpu", 4), "tight");
  assert.equal(fitOf(2 * gib, "webgpu", null), "fits");
  assert.equal(fitOf(20 * gib, "webgpu", null), "tight");
  assert.equal(comfortableBytes("webgpu", 8), 4 * gib);
  assert.equal(comfortableBytes("cpu", 16), 3.6 * gib);
});
