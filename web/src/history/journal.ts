/**
 * Changes that a closing page could not store. IndexedDB needs time that a closing page does not have, while
 * localStorage is written synchronously. The next page takes the changes over.
 */
import * as v from "valibot";
import type { Write } from "./database";
import { knownMessage } from "./records";

const PREFIX = "nomoat-unsaved-";
/** Each page has its own key, so that none overwrites another's changes. */
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

/** Unsaved changes, and conversations that are not stored at all yet. */
export interface Unsaved {
  writes: Write[];
  unstored: string[];
}

/** Keeps the unsaved changes of this page, or none. */
export function keepUnsaved(unsaved: Unsaved): void {
  const keep = (kept: Unsaved) => localStorage.setItem(KEY, JSON.stringify(kept));
  try {
    if (unsaved.writes.length === 0) localStorage.removeItem(KEY);
    else keep(unsaved);
  } catch {
    try {
      keep({ ...unsaved, writes: unsaved.writes.map(withoutTokens) });
    } catch {
      // Full or forbidden. The browser has asked before closing the page.
    }
  }
}

/** The text of an answer matters more than that it goes on. */
function withoutTokens(write: Write): Write {
  if (write.kind !== "message" || write.message.role !== "assistant") return write;
  return { ...write, message: { ...write.message, resume: undefined } };
}

/** Takes over the changes that earlier pages kept. */
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
    // What was read so far is used.
  }
  return taken;
}
