import { signal } from "@preact/signals";
import { openDB, type DBSchema, type IDBPDatabase } from "idb";

/** How an answer came to its end; null while it is being written. */
export type Ending = "stop" | "length" | "context" | "stopped" | "interrupted";

export interface Question {
  id: string;
  role: "user";
  content: string;
}

export interface Answer {
  id: string;
  role: "assistant";
  content: string;
  /** Name of the model that wrote it. */
  model: string;
  ending: Ending | null;
  promptTokens: number | null;
  cachedTokens: number;
  completionTokens: number;
  tokensPerSecond: number | null;
}

export type Message = Question | Answer;

/** A conversation's line in the list. */
export interface Summary {
  id: string;
  title: string;
  /** Milliseconds since 1970. */
  updatedAt: number;
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Summary };
  messages: { key: string; value: { id: string; messages: Message[] } };
}

/** The list of conversations, latest first. */
export const summaries = signal<readonly Summary[]>([]);

let database: Promise<IDBPDatabase<Schema>> | null = null;

function open(): Promise<IDBPDatabase<Schema>> {
  database ??= openDB<Schema>("nomoat-chat", 1, {
    upgrade(db) {
      db.createObjectStore("conversations", { keyPath: "id" });
      db.createObjectStore("messages", { keyPath: "id" });
    },
    terminated() {
      database = null;
    },
  });
  return database;
}

function latestFirst(list: readonly Summary[]): Summary[] {
  return list.toSorted((a, b) => b.updatedAt - a.updatedAt);
}

export async function loadSummaries(): Promise<void> {
  const db = await open();
  summaries.value = latestFirst(await db.getAll("conversations"));
}

/** The messages of a conversation; an answer that a closed page cut off is marked as such. */
export async function loadMessages(id: string): Promise<Message[]> {
  const db = await open();
  const messages = (await db.get("messages", id))?.messages ?? [];
  return messages.map((message) =>
    message.role === "assistant" && message.ending === null ? { ...message, ending: "interrupted" } : message,
  );
}

export async function saveConversation(summary: Summary, messages: readonly Message[]): Promise<void> {
  summaries.value = latestFirst([summary, ...summaries.value.filter((other) => other.id !== summary.id)]);
  const db = await open();
  const write = db.transaction(["conversations", "messages"], "readwrite");
  await Promise.all([
    write.objectStore("conversations").put(summary),
    write.objectStore("messages").put({ id: summary.id, messages: [...messages] }),
    write.done,
  ]);
}

/** Deletes one conversation, or all of them. */
export async function deleteConversations(id: string | "all"): Promise<void> {
  summaries.value = id === "all" ? [] : summaries.value.filter((summary) => summary.id !== id);
  const db = await open();
  const write = db.transaction(["conversations", "messages"], "readwrite");
  const stores = [write.objectStore("conversations"), write.objectStore("messages")] as const;
  await Promise.all([
    ...stores.map((store) => (id === "all" ? store.clear() : store.delete(id))),
    write.done,
  ]);
}
