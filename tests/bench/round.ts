/** One round of one contender, in a browser of its own. */
import type { Page } from "@playwright/test";
import { launch } from "../support/browser.ts";
import type { Site } from "../support/server.ts";
import type { Answer, Contender, How } from "./contenders.ts";
import { residentBytes, watchMemory } from "./memory.ts";
import { LONG, QUESTION } from "./prompts.ts";
import { wasmBytes } from "./site.ts";

/** How much is measured. */
export interface Extent {
  /** Seconds that decoding may take, by the speed of the first tokens; at most `maxTokens`. */
  decodeSeconds: number;
  maxTokens: number;
  /** The long prompt is left out if it would take longer, by the speed of the first one. */
  prefillSeconds: number;
}

/** What one round measured. */
export interface Round {
  /** What the contender really ran on. */
  ran: string;
  /** The browser's WebGPU adapter; null where there is none. */
  adapter: string | null;
  /**
   * From the library's import to a model that can be asked, with an empty cache, from a server on this
   * machine.
   */
  loadMs: number;
  /** From the first question after loading to its first token. */
  firstTokenMs: number;
  firstPromptTokens: number;
  /** After the first token. */
  decode: { tokens: number; ms: number };
  /** Of the long prompt, to its first token; null if it was left out. */
  prefill: { tokens: number; ms: number } | null;
  wasmBytes: number;
  /** The wasm memory at the end, which is its peak: it never shrinks. Null where it cannot be read. */
  wasmMemoryBytes: number | null;
  /** Highest of all browser processes, and with a blank page before; null where unknown. */
  peakBytes: number | null;
  blankBytes: number | null;
  text: string;
  seconds: number;
}

/** Tokens of the first answer: its speed decides how much is measured. */
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

/** Of the long prompt, nearly. */
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
