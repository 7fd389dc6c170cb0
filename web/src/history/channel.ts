/** Keeps the tabs of this page in sync. */
import * as v from "valibot";

/** A message to the other tabs. */
export type News =
  /** Something of this conversation was stored; of any, without an id. */
  | { kind: "changed"; conversation: string | null }
  | { kind: "deleted"; conversations: readonly string[] }
  /** This answer is being written. Repeated every two seconds. */
  | { kind: "writing"; answer: string };

// A tab with another version of the page may send other messages.
const news = v.variant("kind", [
  v.object({ kind: v.literal("changed"), conversation: v.nullable(v.string()) }),
  v.object({ kind: v.literal("deleted"), conversations: v.array(v.string()) }),
  v.object({ kind: v.literal("writing"), answer: v.string() }),
]);

const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("nomoat-history");

/** Tells the other tabs. */
export function tell(said: News): void {
  channel?.postMessage(said);
}

/** Calls `hear` with messages from other tabs. */
export function listen(hear: (news: News) => void): void {
  channel?.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    const read = v.safeParse(news, data);
    if (read.success) hear(read.output);
  });
}
