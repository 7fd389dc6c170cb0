import assert from "node:assert/strict";
import { test } from "node:test";
import { ModelNotFoundError } from "../src/errors.js";
import { parseRepository, quantizationOf, repositoryOf, suggestFile } from "../src/hub.js";

const PAGE = "https://page.test/app/";
const HUB = "https://huggingface.co";
const SHA = "0123456789abcdef0123456789abcdef01234567";
const HASH = "ab".repeat(32);

/** The hub's answer for files of these sizes in MB. */
function answer(files: Record<string, number>, more: object = {}): string {
  const siblings = Object.entries(files).map(([rfilename, size]) => ({
    rfilename,
    size: 130,
    lfs: { size: size * 1e6, sha256: HASH, pointerSize: 130 },
  }));
  return JSON.stringify({ id: "o/r", sha: SHA, siblings, ...more });
}

test("a repository is owner/name, or the address of its page", () => {
  const of = (text: string, hubEndpoint?: string) =>
    repositoryOf(text, hubEndpoint === undefined ? {} : { hubEndpoint }, PAGE);
  for (const text of ["o/r.v1-GGUF", " o/r.v1-GGUF ", `${HUB}/o/r.v1-GGUF`, `${HUB}/o/r.v1-GGUF/tree/main`])
    assert.equal(of(text), "o/r.v1-GGUF", text);
  assert.equal(of("https://mirror.test/hub/o/r", "https://mirror.test/hub"), "o/r");
  for (const text of [
    "smollm2-135m-instruct",
    "models/small.gguf",
    "./o/r",
    "/o/r",
    "../o/r",
    "o/r/x",
    `${HUB}/o/r/resolve/main/m.gguf`,
    "https://elsewhere.test/o/r",
    `${HUB}/o`,
    "",
  ])
    assert.equal(of(text), null, text);
});

test("a repository's models have pinned addresses, sizes and hashes", () => {
  const text = answer(
    { "a b/m-Q4_K_M.gguf": 10, "README.md": 1, "mmproj-m-f16.gguf": 5, "m.imatrix.gguf": 1 },
    { cardData: { license: "mit" } },
  );
  const { revision, license, files } = parseRepository("o/r", HUB, text);
  assert.deepEqual([revision, license], [SHA, "mit"]);
  assert.deepEqual(files, [
    {
      path: "a b/m-Q4_K_M.gguf",
      urls: [`${HUB}/o/r/resolve/${SHA}/a%20b/m-Q4_K_M.gguf`],
      size: 10e6,
      sha256: [HASH],
      quantization: "Q4_K_M",
    },
  ]);
});

test("all parts of a split model are one file; without all of them there is none", () => {
  const part = (number: number) => `q/m-Q8_0-0000${number}-of-00002.gguf`;
  const { files } = parseRepository("o/r", HUB, answer({ [part(2)]: 3, [part(1)]: 4 }));
  assert.equal(files.length, 1);
  assert.deepEqual([files[0]?.path, files[0]?.size, files[0]?.quantization], [part(1), 7e6, "Q8_0"]);
  assert.deepEqual(
    files[0]?.urls.map((url) => url.slice(-13)),
    ["1-of-00002.gguf".slice(-13), "2-of-00002.gguf".slice(-13)],
  );
  assert.deepEqual(parseRepository("o/r", HUB, answer({ [part(2)]: 3 })).files, []);
});

test("an odd answer is no list, and odd entries are left out", () => {
  for (const text of ["", "<html>", "[]", "null", '{"siblings": 1}'])
    assert.throws(() => parseRepository("o/r", HUB, text), ModelNotFoundError, text);
  const siblings = [null, 7, { rfilename: 5 }, { rfilename: "m.gguf", size: -1, lfs: { sha256: "x" } }];
  const { revision, files } = parseRepository("o/r", HUB, JSON.stringify({ sha: "../x", siblings }));
  assert.equal(revision, "main");
  assert.deepEqual([files.length, files[0]?.size, files[0]?.sha256], [1, null, null]);
});

test("the type of a file is in its name", () => {
  for (const [path, type] of [
    ["vicuna-7b-v1.5.Q4_K_M.gguf", "Q4_K_M"],
    ["m-q8_0.gguf", "Q8_0"],
    ["Q2_K/m-00001-of-00003.gguf", ""],
    ["m-IQ4_XS-00001-of-00003.gguf", "IQ4_XS"],
    ["m.f16.gguf", "F16"],
    ["m-BF16.gguf", "BF16"],
    ["model.gguf", ""],
    ["Qwen3-0.6B-UD-Q4_K_XL.gguf", "Q4_K_XL"],
  ])
    assert.equal(quantizationOf(path ?? ""), type, path);
});

test("the suggested file is the best bargain that fits", () => {
  const files = (sizes: Record<string, number>) => parseRepository("o/r", HUB, answer(sizes)).files;
  const suggested = (sizes: Record<string, number>, budget: number) =>
    suggestFile(files(sizes), budget * 1e6)?.quantization;
  const large = { "m-Q8_0.gguf": 8000, "m-Q2_K.gguf": 3000, "m-Q4_K_M.gguf": 4500, "m-Q5_K_M.gguf": 5500 };
  assert.equal(suggested(large, 10_000), "Q4_K_M");
  assert.equal(suggested(large, 4000), "Q2_K");
  // None fits: the least is the one with the best chance.
  assert.equal(suggested(large, 1000), "Q2_K");
  assert.equal(suggested({ "m-Q4_K_M.gguf": 100, "m-Q8_0.gguf": 150 }, 4000), "Q8_0");
  const odd = { "m-IQ4_XS.gguf": 3000, "m-Q4_0.gguf": 4500, "m-Q2_K.gguf": 2000 };
  assert.equal(suggested(odd, 5000), "Q4_0");
  assert.equal(suggested(odd, 4000), "IQ4_XS");
  assert.equal(suggestFile([], 1), null);
});
