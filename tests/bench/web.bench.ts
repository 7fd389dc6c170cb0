/** `cargo xtask bench web`: rounds of all contenders, in alternating order. Writes one JSON file. */
import { test } from "@playwright/test";
import { writeFileSync } from "node:fs";
import { contendersFor, NotRun, takesPart, type Contender, type How } from "./contenders.ts";
import { round, type Extent, type Round } from "./round.ts";
import { startBenchSite } from "./site.ts";

/** The plan of `cargo xtask`, as JSON in `NOMOAT_BENCH`. */
interface Plan {
  device: "webgpu" | "cpu" | "all";
  rounds: number;
  /** Numbers of threads to measure with on the CPU. */
  threads: number[];
  /** Names of the contenders besides Nomoat. */
  peers: string[];
  /** Whether to measure less. */
  quick: boolean;
  /** The model's GGUF file. */
  model: string;
  /** The folder of another build of the package, or null. */
  baseline: string | null;
  /** Folder of the ONNX model, or why it is missing. */
  onnx: { folder: string } | { missing: string };
  /** Why native llama.cpp is missing, or null. */
  nativeMissing: string | null;
  /** Path of the results. */
  out: string;
}

/** A contender on a device. */
interface Entry {
  name: string;
  version: string;
  how: How;
  rounds: Round[];
  /** Why it did not run, or stopped; otherwise null. */
  notRun: string | null;
}

const FULL: Extent = { decodeSeconds: 12, maxTokens: 48, prefillSeconds: 200 };
const QUICK: Extent = { decodeSeconds: 5, maxTokens: 32, prefillSeconds: 90 };
/** A contender runs no further round if it would exceed this time. */
const BUDGET_SECONDS = 110;

const plan = JSON.parse(process.env.NOMOAT_BENCH ?? "null") as Plan | null;

test("bench web", async () => {
  if (!plan) throw new Error("run this as `cargo xtask bench web`");
  const site = await startBenchSite({
    model: plan.model,
    baseline: plan.baseline,
    onnx: "folder" in plan.onnx ? plan.onnx.folder : null,
  });
  const pairs = entriesOf(plan);
  for (let i = 0; i < plan.rounds; i++) {
    // The order alternates, so that a machine that slows down or speeds up favours nobody.
    for (const { contender, entry } of i % 2 === 0 ? pairs : pairs.toReversed()) {
      const spent = entry.rounds.reduce((sum, { seconds }) => sum + seconds, 0);
      const next = entry.rounds.at(-1)?.seconds ?? 0;
      if (entry.notRun !== null || (i > 0 && spent + next > BUDGET_SECONDS)) continue;
      const { device, threads } = entry.how;
      console.log(`round ${i + 1}: ${entry.name}, ${device}${threads ? ` on ${threads}` : ""}`);
      try {
        entry.rounds.push(await round(site, contender, entry.how, plan.quick ? QUICK : FULL));
        console.log(summary(entry.rounds.at(-1)));
      } catch (error) {
        entry.notRun = error instanceof NotRun ? error.message : `it failed: ${String(error).split("\n")[0]}`;
        console.log(entry.notRun);
      }
    }
  }
  await site.stop();
  const date = new Date().toISOString().slice(0, 10);
  const entries = pairs.map(({ entry }) => entry);
  writeFileSync(plan.out, JSON.stringify({ date, plan, entries }, null, 1));
});

function entriesOf({
  model,
  device,
  threads,
  peers,
  onnx,
  nativeMissing,
}: Plan): { contender: Contender; entry: Entry }[] {
  const hows: How[] = [
    ...(device === "cpu" ? [] : [{ device: "webgpu" } as const]),
    ...(device === "webgpu" ? [] : threads.map((n) => ({ device: "cpu", threads: n }) as const)),
  ];
  return hows.flatMap((how) =>
    contendersFor(model)
      .filter((contender) => takesPart(contender, how, peers))
      .map((contender) => {
        const { name, version, native } = contender;
        const missing = name === "transformers.js" && "missing" in onnx ? onnx.missing : null;
        const notRun = native ? nativeMissing : missing;
        return { contender, entry: { name, version, how, rounds: [], notRun } };
      }),
  );
}

function summary(result: Round | undefined): string {
  if (!result) return "";
  const { ran, loadMs, firstTokenMs, decode, prefill, seconds } = result;
  const rate = (part: { tokens: number; ms: number }) => ((1000 * part.tokens) / part.ms).toFixed(2);
  return (
    `  ${ran}: load ${(loadMs / 1000).toFixed(1)} s, first token ${(firstTokenMs / 1000).toFixed(1)} s, ` +
    `prefill ${prefill ? rate(prefill) : "-"}/s, decode ${rate(decode)}/s (${decode.tokens} tokens); ` +
    `${seconds.toFixed(0)} s in all`
  );
}
