/**
 * Answers that were interrupted with their page: which one this tab may continue. Of all tabs, only the one
 * that holds the answer's lock writes it.
 */
import { effect, signal } from "@preact/signals";
import { conversationId, leaf, messages, put, reading } from "./conversation";
import { isInterrupted, type Interrupted } from "./draft";
import { adopt, readStored, stored } from "./history";

/** An interrupted answer that is shown, and that this tab alone may continue. */
export interface Claim {
  answer: Interrupted;
  /** Lets go of it after that, and once its last state is stored. */
  release(after?: Promise<void>): void;
}

export const claim = signal<Claim | null>(null);

const lockOf = (id: string) => `nomoat-answer:${id}`;

/** Holds the lock of a new answer until it is written and stored: another tab then sees how it ended. */
export function hold(id: string, written: Promise<void>): void {
  void navigator.locks?.request(lockOf(id), () => written.then(() => stored(id)));
}

/** Takes the claim, so that nothing else can. */
export function takeClaim(): Claim | null {
  const taken = claim.peek();
  claim.value = null;
  return taken;
}

/** The answer that this tab wants to continue. */
let wanted: { id: string; controller: AbortController } | null = null;

/** Waits until no other tab writes an answer. If it is still interrupted then, it can be continued here. */
async function want(id: string, conversation: string): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  wanted = { id, controller };
  await navigator.locks.request(lockOf(id), { signal }, async () => {
    // What the other page had no time to store.
    adopt();
    const answer = (await readStored(conversation)).messages.find((message) => message.id === id);
    if (signal.aborted || !isInterrupted(answer)) return;
    put(answer);
    await new Promise<void>((resolve) => {
      const release = (after: Promise<void> = Promise.resolve()) =>
        void after.then(() => stored(id)).then(resolve, resolve);
      claim.value = { answer, release };
    });
  });
}

// When a conversation is opened, it may end with such an answer.
effect(() => {
  if (reading.value.kind !== "done") return;
  const conversation = conversationId.value;
  const last = messages.peek().at(-1);
  if (isInterrupted(last) && last.id !== wanted?.id && navigator.locks)
    // Aborted, or storage fails: the answer stays as it is.
    want(last.id, conversation).catch(() => undefined);
});

// Another branch or conversation is shown.
effect(() => {
  const shown = leaf.value;
  if (wanted === null || shown === wanted.id) return;
  takeClaim()?.release();
  wanted.controller.abort();
  wanted = null;
});
