/**
 * The history as the page sees it: what is stored, what is still to be stored, and what prevents it.
 */
import { batch, computed, effect, signal } from "@preact/signals";
import { listen, tell, type News } from "../history/channel";
import { Database, DeletedError, type Access, type Everything, type Write } from "../history/database";
import { keepUnsaved, takeUnsaved } from "../history/journal";
import { isBehind, readConversation, readMessage, type Conversation, type Message } from "../history/records";
import { without } from "../history/tree";

/** Whether the history is open, and if not, why. */
export const access = signal<Access>({ kind: "opening" });
/** The list of conversations, including those that are not stored yet. */
export const conversations = signal<readonly Conversation[]>([]);
/** Why the list could not be read. `conversations` may then be incomplete. */
export const listError = signal<unknown>(null);
/** Changes that are not stored yet, oldest first. */
const waiting = signal<readonly Write[]>([]);
/** Why the oldest of them could not be stored. */
export const saveError = signal<unknown>(null);

/** Some changes exist only in this tab. */
export const isUnsaved = computed(
  () => waiting.value.length > 0 && (saveError.value !== null || access.value.kind !== "open"),
);

const database = new Database((now) => (access.value = now));

/** Conversations that were started in this tab and are not stored yet, so that there is nothing to read. */
const unstored = new Set<string>();

/** Milliseconds until a failed write is tried again. Doubles with each failure. */
const FIRST_RETRY = 2000;
const LAST_RETRY = 60_000;
let retryIn = FIRST_RETRY;
let retryTimer: ReturnType<typeof setTimeout> | undefined;
let isSaving = false;

const hearers = new Set<(news: News) => void>();

/** Calls `hear` when a conversation changed or was deleted, here or in another tab. */
export function onNews(hear: (news: News) => void): void {
  hearers.add(hear);
}

listen((news) => {
  if (news.kind === "writing") heardWriting(news.answer);
  else {
    if (news.kind === "deleted") forget(news.conversations);
    void refreshList();
  }
  for (const hear of hearers) hear(news);
});

/** Drops unsaved changes of deleted conversations. */
function forget(deleted: readonly string[]): void {
  waiting.value = waiting.value.filter((write) => !deleted.includes(conversationOf(write) ?? ""));
}

/** The conversation of a change; null for deletions, which may have several. */
function conversationOf(write: Write): string | null {
  switch (write.kind) {
    case "message":
      return write.message.conversation;
    case "remove":
      return write.conversation;
    case "conversation":
      return write.id;
    case "delete":
      return null;
  }
}

function latestFirst(list: readonly Conversation[]): Conversation[] {
  return list.toSorted((a, b) => b.updatedAt - a.updatedAt || (a.id < b.id ? 1 : -1));
}

/** The list of conversations after a change. */
function after(list: readonly Conversation[], write: Write): readonly Conversation[] {
  const changed = (id: string, change: Partial<Conversation>) =>
    list.map((item) => (item.id === id ? { ...item, ...change } : item));
  switch (write.kind) {
    case "message": {
      const { message, title } = write;
      const { conversation: id, createdAt } = message;
      const known = list.find((item) => item.id === id);
      const updatedAt = Math.max(createdAt, known?.updatedAt ?? 0);
      if (known !== undefined) return changed(id, { updatedAt, leaf: message.id });
      return [{ id, title, named: false, pinned: false, createdAt, updatedAt, leaf: message.id }, ...list];
    }
    case "conversation":
      return changed(write.id, write.change);
    case "remove":
      return list;
    case "delete":
      return list.filter((item) => !write.ids.includes(item.id));
  }
}

/** Reads the list of conversations. If that fails, the last list stays and `listError` says why. */
export async function refreshList(): Promise<void> {
  try {
    const stored = await database.conversations();
    batch(() => {
      conversations.value = latestFirst(waiting.value.reduce(after, stored));
      listError.value = null;
    });
  } catch (error) {
    // If the database is not open, `access` says why.
    if (access.value.kind === "open") listError.value = error;
  }
}

/** A conversation, including unsaved changes. Throws if the stored part cannot be read. */
export async function readStored(id: string): Promise<{ leaf: string | null; messages: Message[] }> {
  const stored = unstored.has(id) ? null : await database.conversation(id);
  let leaf = stored?.leaf ?? null;
  let messages = new Map(stored?.messages.map((message) => [message.id, message]));
  for (const write of waiting.value) {
    if (conversationOf(write) !== id) continue;
    if (write.kind === "message") {
      const before = messages.get(write.message.id);
      if (before === undefined) leaf = write.message.id;
      if (!isBehind(write.message, before)) messages.set(write.message.id, write.message);
    } else if (write.kind === "remove") messages = without(messages, write.id);
    else if (write.kind === "conversation" && write.change.leaf !== undefined) leaf = write.change.leaf;
  }
  return { leaf, messages: [...messages.values()] };
}

/**
 * Everything, for an export: what is stored and what is unsaved. If the store cannot be read, only `shown`
 * and what is unsaved.
 */
export async function everything(shown: readonly Message[]): Promise<Everything> {
  let list: readonly Conversation[];
  const messages = new Map<string | undefined, unknown>();
  try {
    if (access.value.kind !== "open") throw new Error("The history is not open.");
    const stored = await database.everything();
    list = stored.conversations.flatMap((conversation) => readConversation(conversation) ?? []);
    for (const message of stored.messages) messages.set(readMessage(message)?.id, message);
  } catch {
    list = conversations.value;
    for (const message of shown) messages.set(message.id, message);
  }
  for (const write of waiting.value) {
    if (write.kind === "message") {
      const { message } = write;
      if (!isBehind(message, readMessage(messages.get(message.id)))) messages.set(message.id, message);
    } else if (write.kind === "remove") {
      const parent = readMessage(messages.get(write.id))?.parent ?? null;
      messages.delete(write.id);
      for (const [id, stored] of messages)
        if (readMessage(stored)?.parent === write.id) messages.set(id, { ...(stored as object), parent });
    }
  }
  return { conversations: [...waiting.value.reduce(after, list)], messages: [...messages.values()] };
}

/** Adds conversations from a file. */
export async function addAll(everything: Everything): Promise<void> {
  const isDeleting = () => waiting.value.some(({ kind }) => kind === "delete");
  if (isDeleting()) await save();
  // A deletion that is stored later would take what is imported now.
  if (isDeleting()) throw new Error("A deletion is not stored yet.");
  await database.add(everything);
  tell({ kind: "changed", conversation: null });
  await refreshList();
}

/** Marks a conversation as started in this tab. */
export function begin(conversation: string): void {
  unstored.add(conversation);
}

/** Stores a change, now or as soon as that works again. */
export function write(change: Write): void {
  batch(() => {
    conversations.value = latestFirst(after(conversations.value, change));
    if (change.kind === "delete") forget(change.ids);
    waiting.value = queued(change);
  });
  void save();
}

/**
 * The unsaved changes with one more. A newer state of an answer replaces an older one, unless that one is
 * being stored.
 */
function queued(change: Write): readonly Write[] {
  const older = waiting.value.findIndex(
    (write, index) =>
      write.kind === "message" &&
      change.kind === "message" &&
      write.message.id === change.message.id &&
      (index > 0 || !isSaving),
  );
  return older < 0 ? [...waiting.value, change] : waiting.value.with(older, change);
}

/** The next change to store. Deletions go first: they may make room for the rest, which they do not touch. */
function nextChange(): Write | undefined {
  return waiting.value.find(({ kind }) => kind === "delete") ?? waiting.value[0];
}

/** Stores the unsaved changes in order, until one fails. */
async function save(): Promise<void> {
  if (isSaving) return;
  isSaving = true;
  clearTimeout(retryTimer);
  try {
    for (let next; (next = nextChange()) !== undefined;) {
      try {
        await saveOne(next);
      } catch (error) {
        if (next.kind === "delete" || nextChange()?.kind !== "delete") throw error;
      }
    }
    retryIn = FIRST_RETRY;
    saveError.value = null;
  } catch (error) {
    saveError.value = error;
    retryTimer = setTimeout(() => void save(), retryIn);
    retryIn = Math.min(2 * retryIn, LAST_RETRY);
  } finally {
    isSaving = false;
  }
}

async function saveOne(next: Write): Promise<void> {
  const of = conversationOf(next);
  let isDeleted = false;
  try {
    await database.write(next);
  } catch (error) {
    if (!(error instanceof DeletedError)) throw error;
    isDeleted = true;
  }
  waiting.value = waiting.value.filter((write) => write !== next);
  if (of !== null) unstored.delete(of);
  if (isDeleted && of !== null) {
    forget([of]);
    for (const hear of hearers) hear({ kind: "deleted", conversations: [of] });
  } else if (next.kind === "delete") tell({ kind: "deleted", conversations: next.ids });
  else tell({ kind: "changed", conversation: of });
  if (isDeleted || next.kind === "remove") await refreshList();
}

/** Resolves once no change of this message waits to be stored. */
export function stored(message: string): Promise<void> {
  return new Promise((resolve) => {
    const end = effect(() => {
      if (waiting.value.some((write) => write.kind === "message" && write.message.id === message)) return;
      resolve();
      queueMicrotask(() => end());
    });
  });
}

/** Tries again to open the history, read the list and store the unsaved changes. */
export async function tryAgain(): Promise<void> {
  retryIn = FIRST_RETRY;
  await Promise.all([refreshList(), waiting.value.length > 0 ? save() : undefined]);
}

/** Finds conversations whose messages contain a text. */
export async function findConversations(words: string): Promise<Set<string>> {
  const wanted = words.toLowerCase();
  const { messages } = await everything([]);
  const found = messages.flatMap((stored) => readMessage(stored) ?? []);
  return new Set(
    found
      .filter((message) => message.content.toLowerCase().includes(wanted))
      .map((message) => message.conversation),
  );
}

/** Answers that other tabs are writing, and when they last said so. */
const writers = signal<ReadonlyMap<string, number>>(new Map());
/** A tab that has been silent for this many milliseconds is no longer writing. */
const SILENCE = 5000;

function heardWriting(answer: string): void {
  writers.value = new Map(writers.value).set(answer, performance.now());
  setTimeout(() => {
    const last = writers.value.get(answer);
    if (last === undefined || performance.now() - last < SILENCE) return;
    const rest = new Map(writers.value);
    rest.delete(answer);
    writers.value = rest;
  }, SILENCE + 50);
}

/** Whether another tab writes this answer now. */
export function isWrittenElsewhere(answer: string): boolean {
  return writers.value.has(answer);
}

/** Takes over the changes that other pages could not store before they were closed. */
export function adopt(): void {
  const left = takeUnsaved();
  if (left.writes.length === 0) return;
  for (const id of left.unstored) begin(id);
  waiting.value = [...waiting.value, ...left.writes];
  void save();
}

adopt();

const leavers = new Set<(event: PageTransitionEvent) => void>();

/** Calls `leave` when the page is closed, as long as there is time to `write`; returns what ends that. */
export function onLeave(leave: (event: PageTransitionEvent) => void): () => void {
  leavers.add(leave);
  return () => leavers.delete(leave);
}

// Changes that this page cannot store before it is closed. If it comes back from the browser's cache, it
// still has them.
addEventListener("pagehide", (event) => {
  for (const leave of leavers) leave(event);
  keepUnsaved({ writes: [...waiting.value], unstored: [...unstored] });
});
addEventListener("pageshow", () => keepUnsaved({ writes: [], unstored: [] }));

// The browser asks before it closes a page with changes that could not be stored.
addEventListener("beforeunload", (event) => {
  if (isUnsaved.value) event.preventDefault();
});
