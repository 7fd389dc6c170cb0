/** Golden files: llama.cpp's results for known texts. */
import type { Page } from "@playwright/test";
import { readFileSync } from "node:fs";
import { places } from "./places.ts";

/** One entry of a golden file. */
export interface Golden {
  name: string;
  prompt_ids: number[];
  greedy_ids: number[];
  greedy_text: string;
  /** The most likely next tokens, best first. */
  steps: { ids: number[]; logprobs: number[] }[];
}

const length = ({ prompt_ids, greedy_ids }: Golden) => prompt_ids.length + greedy_ids.length;

/** `cargo xtask test --full`: every entry instead of the short ones. */
export const isFull = Boolean(process.env.NOMOAT_FULL);

/** The golden entries of the real model, shortest first. Without `--full`, only the short ones. */
export function goldenEntries(): Golden[] {
  const all = JSON.parse(readFileSync(places.golden, "utf8")) as Golden[];
  const entries = all.filter((entry) => isFull || length(entry) <= 64);
  return entries.toSorted((a, b) => length(a) - length(b));
}

/** Agreement with golden steps, as `nomoat eval` computes it. */
export async function agreement(page: Page, entries: Golden[], oneByOne: boolean) {
  let [agreed, off, steps] = [0, 0, 0];
  for (const { prompt_ids, greedy_ids, steps: golden } of entries) {
    const score = await page.evaluate(([ids, each]) => window.engine.score(ids, { oneByOne: each }), [
      [...prompt_ids, ...greedy_ids],
      oneByOne,
    ] as const);
    for (const [index, id] of greedy_ids.entries()) {
      const at = prompt_ids.length - 1 + index;
      const expected = golden[index]?.logprobs[golden[index].ids.indexOf(id)] ?? NaN;
      agreed += Number(score.top[at] === golden[index]?.ids[0]);
      off += Math.abs((score.logprobs[at] ?? NaN) - expected);
      steps += 1;
    }
  }
  return { top1: agreed / steps, meanOff: off / steps, steps };
}
