/**
 * What SmolLM2-135M answers with the page's settings, natively on the CPU. `npx playwright test -c
 * tests/tries` in the root runs it, with the program that NOMOAT_PROGRAM names, or `target/release/nomoat`.
 * It takes some minutes, so it is no part of `cargo xtask test`.
 */
import { expect, test } from "@playwright/test";
import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { places, root, smol } from "../support/places.ts";
import { en } from "../../web/src/i18n/en.ts";
import { sampling } from "../../web/src/state/sampling.ts";

const SEEDS = Array.from({ length: 10 }, (_, index) => index + 1);
/** Answers at once. */
const PARALLEL = 4;
/** The page's longest answer. */
const MAX_TOKENS = 1024;
/** More often, no line of an answer may come. */
const MOST_REPEATS = 3;
const HAIKU =
  "Write a haiku about the sea, then a table of three oceans with their areas in markdown, then a short " +
  "python function.";

let server: ChildProcess;
let address = "";

test.beforeAll(async () => {
  const program = process.env.NOMOAT_PROGRAM ?? join(root, "target/release/nomoat");
  const args = ["serve", places.model, "--device", "cpu", "--port", "0", "--parallel", `${PARALLEL}`];
  server = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const output = server.stdout;
  if (output === null) throw new Error("the program has no output");
  for await (const line of createInterface(output)) {
    address = /^http\S+$/.exec(line)?.[0] ?? "";
    if (address !== "") break;
  }
});

test.afterAll(() => {
  server.kill();
});

/**
 * One answer; with a seed, one of those that *Regenerate* gives. It is streamed, because Node's fetch gives
 * up on an answer that does not begin for five minutes.
 */
async function ask(content: string, seed?: number): Promise<string> {
  const response = await fetch(`${address}/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      messages: [{ role: "user", content }],
      max_tokens: MAX_TOKENS,
      stream: true,
      ...sampling(null, seed !== undefined, {}, smol.parameters),
      seed,
    }),
  });
  const events = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"));
  return events
    .map((line) => JSON.parse(line.slice(6)) as { choices: { delta: { content?: string } }[] })
    .map(({ choices }) => choices[0]?.delta.content ?? "")
    .join("");
}

/** How often the most frequent line comes. Lines without letters, such as rules of tables, do not count. */
function repeats(answer: string): number {
  const counts = new Map<string, number>();
  for (const line of answer.split("\n").map((text) => text.trim()))
    if (/\p{L}/u.test(line)) counts.set(line, (counts.get(line) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

for (const question of [...en.suggestions, HAIKU])
  test(`right, and no line comes too often: ${question}`, async () => {
    // At temperature 0, every try is the same: the ten are those that *Regenerate* gives.
    const first = await ask(question);
    const others: string[] = [];
    for (let at = 0; at < SEEDS.length; at += PARALLEL)
      others.push(...(await Promise.all(SEEDS.slice(at, at + PARALLEL).map((seed) => ask(question, seed)))));
    const all = [first, ...others];
    console.log(all.map((answer) => `- ${JSON.stringify(answer)}`).join("\n"));
    const [different, most] = [new Set(others).size, Math.max(...all.map(repeats))];
    console.log(`${different} of ${others.length} differ; a line comes ${most} times at most.`);
    expect(most).toBeLessThanOrEqual(MOST_REPEATS);
    if (!question.includes("France")) return;
    expect(first).toContain("Paris");
    const right = others.filter((answer) => answer.includes("Paris")).length;
    console.log(`${right} of ${others.length} say Paris.`);
    expect(right).toBe(others.length);
  });
