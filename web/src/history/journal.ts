/**
 * What a closing page could not store any more. IndexedDB needs time that a closing page does not have;
 * localStorage is written at once. The next page takes it over.
 */
import * as v from "valibot";
import type { Write } from "./database";
import { knownMessage } from "./records";

const PREFIX = "nomoat-unsaved-";
/** Of this page: each has its own entry, so that none overwrites another's. */
const KEY = PREFIX + Math.random().toString(36).slice(2);

const change = v.partial(
  v.object({
    title: v.string(),
    named: v.boolean(),
    pinned: v.boolean(),
    leaf: v.nullable(v.string()),
  }),
);

const entry = v.object({
  writes: v.array(
    v.variant("kind", [
      v.object({ kind: v.literal("message"), message: knownMessage, title: v.string() }),
      v.object({ kind: v.literal("conversation"), id: v.string(), change }),
      v.object({ kind: v.literal("remove"), conversation: v.string(), id: v.string() }),
      v.object({ kind: v.literal("delete"), ids: v.array(v.string()) }),
    ]),
  ),
  unstored: v.array(v.string()),
});

/** Changes, and the conversations of which nothing is stored yet. */
export interface Unsaved {
  writes: Write[];
  unstored: string[];
}

/** Keeps what is unsaved, in place of what was kept before. */
export function keepUnsaved(unsaved: Unsaved): void {
  try {
    if (unsaved.writes.length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(unsaved));
  } catch {
    // Full or forbidden. The person was asked before the page closed.
  }
}

/** Takes over what earlier pages kept. */
export function takeUnsaved(): Unsaved {
  const taken: Unsaved = { writes: [], unstored: [] };
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    for (const key of keys) {
      const read = v.safeParse(entry, JSON.parse(localStorage.getItem(key) ?? "null"));
      localStorage.removeItem(key);
      if (!read.success) continue;
      taken.writes.push(...(read.output.writes as Write[]));
      taken.unstored.push(...read.output.unstored);
    }
  } catch {
    // What was taken until then is taken.
  }
  return taken;
}
