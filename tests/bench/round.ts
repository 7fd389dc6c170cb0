/** One round of one contender, in a new browser. */
import type { Page } from "@playwright/test";
import { launch } from "../support/browser.ts";
import type { Site } from "../support/server.ts";
import type { Answer, Contender, How } from "./contenders.ts";
import { residentBytes, watchMemory } from "./memory.ts";
import { LONG, QUESTION } from "./prompts.ts";
import { wasmBytes } from "./site.ts";

/** How much is measured. */
export interface Extent {
  /** Seconds that decoding should take, estimated from the first tokens; at most `maxTokens` are decoded. */
  decodeSeconds: number;
  maxTokens: number;
  /** The long prompt is skipped if it would take longer, estimated from the first prompt. */
  prefillSeconds: number;
}

/** The measurements of a round. */
export interface Round {
  /** What the contender really ran on. */
  ran: string;
  /** The browser's WebGPU adapter; null without one. */
  adapter: string | null;
  /** From the import of the library to a loaded model, with an empty cache, from a server on this machine. */
  loadMs: number;
  /** From the first question to the first token of its answer. */
  firstTokenMs: number;
  firstPromptTokens: number;
  /** The tokens after the first one. */
  decode: { tokens: number; ms: number };
  /** The long prompt, to the first token of its answer; null if it was skipped. */
  prefill: { tokens: number; ms: number } | null;
  wasmBytes: number;
  /** The wasm memory at the end, which is its peak because it never shrinks. Null if it cannot be read. */
  wasmMemoryBytes: number | null;
  /** Peak memory of all processes of the browser; null if unknown. */
  peakBytes: number | null;
  /** Their memory before, with a blank page. */
  blankBytes: number | null;
  text: string;
  seconds: number;
}

/** Tokens of the first answer. Its speed decides how much is measured. */
const FIRST_TOKENS = 3;
const MIN_TOKENS = 4;

export async function round(site: Site, contender: Contender, how: How, extent: Extent): Promise<Round> {
  const began = performance.now();
  const browser = await launch({ bypassCSP: true, webgpu: how.device === "webgpu" });
  try {
    const page = await browser.context.newPage();
    await page.goto(site.origin);
    const blankBytes = residentBytes();
    const memory = watchMemory();
    const since = site.log.length;
    const start = performance.now();
    const ran = await contender.load(page, how);
    const loadMs = performance.now() - start;

    const first = await contender.ask(page, QUESTION, FIRST_TOKENS);
    const perSecond = (1000 * (first.tokens - 1)) / (first.endMs - first.firstMs);
    const tokens = Math.min(
      extent.maxTokens,
      Math.max(MIN_TOKENS, Math.floor(perSecond * extent.decodeSeconds)),
    );
    const long = await contender.ask(page, QUESTION, tokens);
    const fits = (first.firstMs / first.computedTokens) * LONG_TOKENS <= extent.prefillSeconds * 1000;
    const prefill = fits ? prefillOf(await contender.ask(page, LONG, 1)) : null;

    const peakBytes = memory.stop();
    return {
      ran,
      adapter: how.device === "webgpu" ? await adapter(page) : null,
      loadMs,
      firstTokenMs: first.firstMs,
      firstPromptTokens: first.promptTokens,
      decode: { tokens: long.tokens - 1, ms: long.endMs - long.firstMs },
      prefill,
      wasmBytes: wasmBytes(site, since),
      wasmMemoryBytes: await contender.wasmMemory(page),
      peakBytes: contender.native ? null : peakBytes,
      blankBytes,
      text: long.text,
      seconds: (performance.now() - began) / 1000,
    };
  } finally {
    contender.close?.();
    await browser.close();
  }
}

/** Tokens of the long prompt, approximately. */
const LONG_TOKENS = 346;

function prefillOf({ computedTokens, firstMs }: Answer): Round["prefill"] {
  return { tokens: computedTokens, ms: firstMs };
}

async function adapter(page: Page): Promise<string | null> {
  return page.evaluate(async () => {
    const found = await navigator.gpu.requestAdapter();
    return (
      found && [found.info.vendor, found.info.architecture, found.info.description].filter(Boolean).join(" ")
    );
  });
}
