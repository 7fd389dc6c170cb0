/** The packed tarball in an empty Vite project. */
import type { Page } from "@playwright/test";
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { textOf } from "../support/bare.ts";
import { temporaryFolder } from "../support/browser.ts";
import { expect, SMALL_PATH, test } from "../support/fixtures.ts";
import { places, root } from "../support/places.ts";
import { Site } from "../support/server.ts";

const SOURCE = `
import { createEngine, type Engine } from "nomoat";

const engine: Engine = await createEngine({ model: "${SMALL_PATH}", contextLength: 512, device: "webgpu" });
const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
const options = { stream: true as const, temperature: 0, max_tokens: 4 };
const stream = await engine.chat.completions.create({ messages, ...options });
let text = "";
for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
const answer = document.createElement("pre");
answer.textContent = JSON.stringify({ text, device: engine.device.name });
document.body.append(answer);
`;

const bin = (name: string) => join(root, "node_modules", name);

/** An empty project with the tarball in it. */
function project(): string {
  const folder = temporaryFolder("vite");
  mkdirSync(join(folder, "src"));
  const files = {
    "package.json": JSON.stringify({ name: "scratch", private: true, type: "module" }),
    "index.html":
      '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/src/main.ts"></script>',
    "src/main.ts": SOURCE,
    "tsconfig.json": JSON.stringify({
      compilerOptions: {
        target: "ES2022",
        module: "ESNext",
        moduleResolution: "bundler",
        lib: ["ES2022", "DOM", "DOM.AsyncIterable"],
        types: [],
        strict: true,
        noEmit: true,
      },
      include: ["src"],
    }),
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const install = ["install", "--ignore-scripts", "--offline", "--no-audit", "--no-fund", places.tarball];
  execFileSync("npm", install, { cwd: folder });
  return folder;
}

/** What the project's page writes. */
async function written(page: Page): Promise<unknown> {
  const failed = new Promise<never>((_, reject) => page.on("pageerror", reject));
  const text = page.locator("pre").textContent({ timeout: 120_000 });
  return JSON.parse((await Promise.race([text, failed])) ?? "");
}

/** Opens the project's page and reads its answer; nothing may be asked of another origin. */
async function answer(page: Page, origin: string): Promise<unknown> {
  const elsewhere: string[] = [];
  page.on("request", (request) => {
    if (/^http/.test(request.url()) && new URL(request.url()).origin !== origin)
      elsewhere.push(request.url());
  });
  await page.goto(origin);
  const result = await written(page);
  expect(elsewhere).toEqual([]);
  return result;
}

/** Starts Vite's development server; resolves to its address and a function that ends it. */
async function develop(folder: string): Promise<{ origin: string; end(): Promise<void> }> {
  const vite = spawn("node", [bin("vite/bin/vite.js"), "--port", "0"], { cwd: folder });
  const ended = new Promise<void>((resolve) => vite.on("close", () => resolve()));
  let output = "";
  const origin = await new Promise<string>((resolve, reject) => {
    const read = (bytes: Buffer) => {
      output += stripVTControlCharacters(bytes.toString());
      const found = /Local:\s+(http:\/\/localhost:\d+)/.exec(output)?.[1];
      if (found) resolve(found);
    };
    vite.stdout.on("data", read);
    vite.stderr.on("data", read);
    vite.on("close", (code) => reject(new Error(`vite ended with ${code}:\n${output}`)));
  });
  return {
    origin,
    async end() {
      vite.kill();
      await ended;
    },
  };
}

test("the tarball installs, type-checks, builds and answers, in development too", async ({
  shared,
  small,
  gpuPage,
}) => {
  const expected = {
    text: await textOf(gpuPage, "What is the capital of France?", 4),
    device: expect.stringMatching(/swiftshader/i),
  };
  const folder = project();
  execFileSync("node", [bin("typescript/bin/tsc")], { cwd: folder, stdio: "inherit" });
  execFileSync("node", [bin("vite/bin/vite.js"), "build", "--logLevel", "warn"], { cwd: folder });
  const built = await Site.start({ "/": join(folder, "dist") });
  built.files.set(SMALL_PATH, small);
  const page = await shared.newPage();
  expect(await answer(page, built.origin)).toEqual(expected);
  await built.stop();

  mkdirSync(join(folder, "public/models"), { recursive: true });
  copyFileSync(small, join(folder, "public", SMALL_PATH));
  const development = await develop(folder);
  expect(await answer(page, development.origin)).toEqual(expected);
  await page.close();
  await development.end();
  rmSync(folder, { recursive: true });
});
