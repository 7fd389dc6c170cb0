/** The conversation that is shown: its messages, the selected branch, and how they are read. */
import { batch, computed, effect, signal } from "@preact/signals";
import type { Message } from "../history/records";
import { byParent, isBefore, leafFrom, pathTo, without, type Messages } from "../history/tree";
import { newId } from "../lib/id";
import { persisted } from "../lib/persisted";
import { access, conversations, listError, onNews, readStored } from "./history";

/** The last conversation, for new tabs. A reloaded tab keeps its own. */
const lastConversation = persisted<string | null>("nomoat-conversation", (stored) =>
  typeof stored === "string" ? stored : null,
);

/** Id of the conversation that is shown. Without messages it is not in the history yet. */
export const conversationId = persisted<string>(
  "nomoat-conversation",
  (stored) => (typeof stored === "string" ? stored : (lastConversation.value ?? newId())),
  () => sessionStorage,
);
/** Whether the conversation's messages are known. Until they are, nothing is written to it. */
export const reading = signal<{ kind: "done" } | { kind: "reading" } | { kind: "failed"; error: unknown }>({
  kind: "reading",
});

/** All messages of the conversation, in all branches. */
export const tree = signal<Messages>(new Map());
/** The end of the branch that is shown. */
export const leaf = signal<string | null>(null);
/** The branch must not change, because an answer is being written at its end. */
export const isHeld = signal(false);
/** The messages that are shown. */
export const messages = computed<readonly Message[]>(() => pathTo(tree.value, leaf.value));

effect(() => {
  if (leaf.value !== null) lastConversation.value = conversationId.value;
});

const branches = computed(() => byParent(tree.value));

/** All versions of a message, itself included, oldest first. */
export function versionsOf(message: Message): readonly Message[] {
  const parent = message.parent !== null && tree.value.has(message.parent) ? message.parent : null;
  return branches.value.get(parent) ?? [];
}

/** The conversation's line in the list. */
export const current = computed(() => conversations.value.find((item) => item.id === conversationId.value));

/** Shows a conversation that has no messages yet. */
export function showNew(): void {
  batch(() => {
    conversationId.value = newId();
    tree.value = new Map();
    leaf.value = null;
    reading.value = { kind: "done" };
  });
}

/** Shows a conversation once its messages are read. */
export async function show(id: string): Promise<void> {
  batch(() => {
    if (conversationId.value !== id) {
      conversationId.value = id;
      tree.value = new Map();
      leaf.value = null;
    }
    reading.value = { kind: "reading" };
  });
  try {
    const stored = await readStored(id);
    if (conversationId.value !== id) return;
    // A tab may open with one that was deleted, to which nothing can be written.
    if (stored.messages.length === 0) return showNew();
    batch(() => {
      tree.value = new Map(stored.messages.map((message) => [message.id, message]));
      leaf.value = leafFrom(tree.value, stored.leaf);
      reading.value = { kind: "done" };
    });
  } catch (error) {
    if (conversationId.value === id) reading.value = { kind: "failed", error };
  }
}

/** Adds or updates a message. */
export function put(message: Message): void {
  tree.value = new Map(tree.value).set(message.id, message);
}

/** Removes a message; what followed it stays. */
export function take(id: string): void {
  tree.value = without(tree.value, id);
}

/** Reads the changes of other tabs. If they continued the branch that is shown, it is followed. */
async function follow(id: string): Promise<void> {
  if (reading.value.kind !== "done") return;
  let stored;
  try {
    stored = await readStored(id);
  } catch {
    return; // What is shown stays. Nothing that is written from here depends on what was not read.
  }
  if (conversationId.value !== id || reading.value.kind !== "done") return;
  batch(() => {
    const known = new Map(stored.messages.map((message) => [message.id, message]));
    tree.value = known;
    const isGone = leaf.value !== null && !known.has(leaf.value);
    if (isGone || (!isHeld.value && isBefore(known, leaf.value, stored.leaf)))
      leaf.value = leafFrom(known, stored.leaf);
  });
}

/** Reads the changes that were made while the branch was held. */
export function catchUp(): void {
  void follow(conversationId.value);
}

onNews((news) => {
  if (news.kind === "changed" && (news.conversation ?? conversationId.value) === conversationId.value)
    void follow(conversationId.value);
});

// A conversation that could not be read is read when the history opens, or its list can be read again.
effect(() => {
  const isReadable = access.value.kind === "open" && listError.value === null;
  if (isReadable && reading.peek().kind === "failed") void show(conversationId.peek());
});
