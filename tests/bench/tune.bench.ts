/** `cargo xtask bench tune`: steps of LoRA in Chromium and by PyTorch and PEFT. Writes one JSON file. */
import { test } from "@playwright/test";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type {} from "../support/bare.ts";
import { launch } from "../support/browser.ts";
import { residentBytes, watchMemory } from "./memory.ts";
import { paths, startBenchSite } from "./site.ts";

/** The plan of `cargo xtask`, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  /** The model's GGUF file. */
  model: string;
  /** A Python with PyTorch and PEFT, or why there is none. */
  python: { path: string } | { missing: string };
  rounds: number;
  /** Steps of a round. */
  steps: number;
  threads: number;
  rank: number;
  /** Path of the results. */
  out: string;
}

/** Rows of a step. */
const ROWS = 256;
const SYSTEM = "You answer briefly.";
const QUESTION = "Tell me a story of a lighthouse.";
/** An answer begins with these words, again and again. */
const WORDS =
  "The lamp went out in the third week of the storm, and the keeper climbed the stairs with a candle in a " +
  "jar. A ship was near; he heard her bell, slow and then quick, somewhere past the reef. He set fire to " +
  "his chair, then to the table, and last to the door, and by that light she turned her bow to the open " +
  "sea. In spring her captain sent him a new door of oak, with a brass plate on which there was only a date.";

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;

/** What one contender says of a round. */
interface Round {
  seconds: number[];
  losses: number[];
  peakBytes: number | null;
}

test("bench tune", async () => {
  if (!plan) throw new Error("run this as `cargo xtask bench tune`");
  const site = await startBenchSite({ model: plan.model, baseline: null, onnx: null });
  const ours: (Round & { wasmBytes: number; blankBytes: number | null; device: string })[] = [];
  const theirs: (Round & { version: string })[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    const { ids, given, ...measured } = await trained(site.origin, plan);
    ours.push(measured);
    if ("missing" in plan.python) continue;
    const { threads, rank, steps } = plan;
    const example = `${plan.out}.example`;
    writeFileSync(example, JSON.stringify({ ids, given, threads, rank, steps }));
    const script = join(import.meta.dirname, "tune.py");
    const { stdout } = await promisify(execFile)(plan.python.path, [script, plan.model, example]);
    theirs.push(JSON.parse(stdout) as Round & { version: string });
  }
  await site.stop();
  writeFileSync(plan.out, JSON.stringify({ rows: ROWS, ours, theirs }));
});

/** A round in a new browser. */
async function trained(origin: string, { threads, rank, steps }: Plan) {
  const browser = await launch({ bypassCSP: true, webgpu: false });
  try {
    const page = await browser.context.newPage();
    await page.goto(origin);
    const blankBytes = residentBytes();
    const memory = watchMemory();
    const result = await page.evaluate(
      async ([library, model, content, words, given]) => {
        const { createEngine } = (await import(library)) as typeof import("nomoat");
        const { rows, ...limits } = given;
        const engine = await createEngine({
          model,
          device: "cpu",
          threads: limits.threads,
          contextLength: 512,
        });
        const [system = "", question = ""] = content;
        const turn = (role: string, text: string) => `<|im_start|>${role}\n${text}<|im_end|>\n`;
        const prompt = turn("system", system) + turn("user", question) + "<|im_start|>assistant\n";
        const encode = (text: string) => engine.tokenize(text, { special: true });
        // As many words as fit, then short ones until every row is used.
        let answer = words.repeat(4).split(" ");
        const idsOf = () => encode(`${prompt}${answer.join(" ")}<|im_end|>\n`);
        while ((await idsOf()).length > rows + 1) answer = answer.slice(0, -1);
        while ((await idsOf()).length < rows + 1) answer.push("and");
        const messages = [
          { role: "system" as const, content: system },
          { role: "user" as const, content: question },
          { role: "assistant" as const, content: answer.join(" ") },
        ];
        const seconds: number[] = [];
        const losses: number[] = [];
        let since = 0;
        await engine.train({
          name: "bench",
          examples: [{ messages }],
          rank: limits.rank,
          epochs: limits.steps,
          schedule: "constant",
          checkpointSeconds: 0,
          onPlan: (found) => {
            if (found.tokens !== rows + 1) throw new Error(`a step has ${found.tokens - 1} rows`);
            since = performance.now();
          },
          onStep: ({ point }) => {
            const now = performance.now();
            seconds.push((now - since) / 1000);
            losses.push(point?.loss ?? Number.NaN);
            since = now;
          },
        });
        const { driver } = engine.device;
        const { wasmBytes } = await engine.memory();
        return {
          ids: await idsOf(),
          given: (await encode(prompt)).length,
          seconds,
          losses,
          wasmBytes,
          device: `${engine.device.threads} threads, ${driver}`,
        };
      },
      [
        paths.nomoat,
        paths.model,
        [SYSTEM, QUESTION],
        `${WORDS} `,
        { rows: ROWS, threads, rank, steps },
      ] as const,
    );
    return { ...result, blankBytes, peakBytes: memory.stop() };
  } finally {
    await browser.close();
  }
}
