/** The code of the docs, as it stands there, with the small model. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { parameters, told } from "../support/api-table.ts";
import { bundle } from "../support/bundle.ts";
import { moduleOf } from "../support/docs.ts";
import { expect, test } from "../support/fixtures.ts";
import { connect } from "../support/native.ts";
import { root } from "../support/places.ts";

const text = expect.stringMatching(/\S/);
const trip = { city: expect.stringMatching(/^(Paris|Rome)$/), days: expect.any(Number) };
const sunny = expect.stringMatching(/^It is sunny in (Paris|Rome)\.$/);

/** What the code of each page logs. */
const PAGES: Record<string, unknown[][]> = {
  openai: [
    [text, 20],
    [trip],
    [sunny],
    [3, text],
    [2, true],
    ["temperature", expect.stringContaining("`temperature`")],
  ],
  "ai-sdk": [[text, 20], [trip], [[[sunny], []]]],
  langchain: [[text], [trip], [[sunny], true]],
  "service-worker": [[200]],
  server: [["remote", "Small"], [text], [text], [401]],
  "prompt-api": [
    ["available"],
    [trip.city],
    ["AbortError"],
    [true],
    [expect.stringMatching(/^The longest river in France is/)],
    [true],
  ],
};

test("the docs' code type-checks", () => {
  const options = ["--noEmit", "--skipLibCheck", "--strict", "--target", "ES2022", "--module", "ESNext"];
  const resolution = [
    "--moduleResolution",
    "bundler",
    "--lib",
    "ES2023,DOM,DOM.AsyncIterable",
    "--types",
    "",
  ];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const files = Object.keys(PAGES).map(moduleOf);
  execFileSync("node", [tsc, ...options, ...resolution, ...files], { cwd: root, stdio: "inherit" });
});

for (const [page, expected] of Object.entries(PAGES))
  test(`the code of docs/${page}.md does what it says`, async ({ bare, smallPage, native }) => {
    const alias = [
      { find: /^nomoat$/, replacement: join(root, "tests/support/docs-engine.ts") },
      { find: /^nomoat\/(language-model|service-worker)$/, replacement: "/pkg/$1.js" },
    ];
    bare.texts.set(`/docs/${page}.js`, await bundle(moduleOf(page), alias));
    const logged = await smallPage.evaluate(
      async ([address, server]) => {
        window.served = server;
        const lines: unknown[][] = [];
        const { log } = console;
        console.log = (...values: unknown[]) => void lines.push(values);
        try {
          await import(address);
        } finally {
          console.log = log;
        }
        return lines;
      },
      [`/docs/${page}.js`, native.baseURL] as const,
    );
    expect(logged).toEqual(expected);
  });

const CHAT = "Chat completions";
const TABLES = [
  {
    heading: CHAT,
    path: "/v1/chat/completions",
    official: () => parameters("chat/completions/completions.d.ts", "ChatCompletionCreateParamsBase"),
    least: { messages: [{ role: "user", content: "Hi" }], max_tokens: 1 },
  },
  {
    heading: "Completions",
    path: "/v1/completions",
    official: () => parameters("completions.d.ts", "CompletionCreateParamsBase"),
    least: { prompt: "Hi", max_tokens: 1 },
  },
  {
    heading: "Embeddings",
    path: "/v1/embeddings",
    official: () => parameters("embeddings.d.ts", "EmbeddingCreateParams"),
    least: { input: "Hi" },
  },
  {
    heading: "Responses",
    path: "/v1/responses",
    official: () => parameters("responses/responses.d.ts", "ResponseCreateParamsBase"),
    least: { input: "Hi", max_output_tokens: 1 },
  },
];

for (const { heading, path, official, least } of TABLES)
  test(`docs/api.md says what becomes of every parameter of ${path}`, async ({ smallPage, native }) => {
    await connect(smallPage, native);
    // "All others are as in chat completions."
    const says = heading === "Completions" ? new Map([...told(CHAT), ...told(heading)]) : told(heading);
    const isTold = (name: string) => [...says.keys()].some((key) => key.split(".")[0] === name);
    expect(official().filter((name) => !isTold(name))).toEqual([]);
    const names = (word: string) =>
      [...says].filter(([, text]) => text.startsWith(word)).map(([name]) => name);
    for (const which of ["engine", "remote"] as const) {
      const answers = await smallPage.evaluate(
        async ([address, params, refused, ignored, which]) => {
          const ask = async (more: object) => {
            const body = JSON.stringify({ ...params, ...more });
            const response = await window[which].fetch(address, { method: "POST", body });
            const { error } = (await response.json()) as { error?: { param: string } };
            return [response.status, error?.param ?? null] as const;
          };
          const nested = (name: string) => {
            const [outer = "", inner] = name.split(".");
            return { [outer]: inner === undefined ? "x" : { [inner]: "x" } };
          };
          const each = await Promise.all(refused.map((name) => ask(nested(name))));
          return { each, ignored: await ask(Object.fromEntries(ignored.map((name) => [name, "x"]))) };
        },
        [`http://nomoat${path}`, least, names("refused"), names("ignored"), which] as const,
      );
      expect(answers.each, which).toEqual(names("refused").map((name) => [400, name]));
      expect(names("ignored").length).toBeGreaterThan(1);
      expect(answers.ignored, which).toEqual([200, null]);
    }
  });
