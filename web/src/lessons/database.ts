/** Lessons, votes and what was learnt from them, in IndexedDB. */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { readLesson, readVote, type Lesson, type Vote } from "./records";

interface Schema extends DBSchema {
  lessons: { key: string; value: unknown };
  votes: { key: string; value: unknown };
  adapters: { key: [string, string]; value: StoredAdapter };
}

/** What a model has learnt, as PEFT's files and as GGUF. */
export interface StoredAdapter {
  model: string;
  name: string;
  config: Blob;
  weights: Blob;
  gguf: Blob;
}

let opening: Promise<IDBPDatabase<Schema>> | null = null;

/** The database. After it was closed, for another tab or by the browser, it is opened again. */
function database(): Promise<IDBPDatabase<Schema>> {
  const forget = () => (opening = null);
  opening ??= openDB<Schema>("nomoat-lessons", 1, {
    upgrade(db) {
      db.createObjectStore("lessons", { keyPath: "id" });
      db.createObjectStore("votes", { keyPath: "id" });
      db.createObjectStore("adapters", { keyPath: ["model", "name"] });
    },
    blocking(_current, _wanted, event) {
      (event.target as IDBDatabase).close();
      forget();
    },
    terminated: forget,
  }).catch((error: unknown) => {
    forget();
    throw error;
  });
  return opening;
}

/** All lessons and votes; what cannot be read stays stored and is not shown. */
export async function readAll(): Promise<{ lessons: Lesson[]; votes: Vote[] }> {
  const read = (await database()).transaction(["lessons", "votes"]);
  const [lessons, votes] = await Promise.all([
    read.objectStore("lessons").getAll(),
    read.objectStore("votes").getAll(),
    read.done,
  ]);
  return {
    lessons: lessons.flatMap((stored) => readLesson(stored) ?? []),
    votes: votes.flatMap((stored) => readVote(stored) ?? []),
  };
}

/** One change, completely or not at all. */
export interface Change {
  put?: readonly Lesson[];
  delete?: readonly string[];
  vote?: Vote;
  unvote?: string;
}

export async function write(change: Change): Promise<void> {
  const stores = (await database()).transaction(["lessons", "votes"], "readwrite", { durability: "strict" });
  const lessons = stores.objectStore("lessons");
  const votes = stores.objectStore("votes");
  await Promise.all([
    ...(change.delete ?? []).map((id) => lessons.delete(id)),
    ...(change.put ?? []).map((lesson) => lessons.put(lesson)),
    ...(change.vote ? [votes.put(change.vote)] : []),
    ...(change.unvote !== undefined ? [votes.delete(change.unvote)] : []),
    stores.done,
  ]);
}

/** What a model has learnt. */
export async function storedAdapters(model: string): Promise<StoredAdapter[]> {
  const all = await (await database()).getAll("adapters");
  return all.filter((adapter) => adapter.model === model);
}

export async function storeAdapter(adapter: StoredAdapter): Promise<void> {
  await (await database()).put("adapters", adapter);
}

export async function forgetAdapter(model: string, name: string): Promise<void> {
  await (await database()).delete("adapters", [model, name]);
}
