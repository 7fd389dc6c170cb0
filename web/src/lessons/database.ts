/** Lessons, votes, those of the arena, and what was learnt, in IndexedDB. */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { preferenceOf, readBattle, type Battle } from "../arena/records";
import { readLesson, readVote, type Lesson, type Vote } from "./records";

interface Schema extends DBSchema {
  lessons: { key: string; value: unknown };
  votes: { key: string; value: unknown };
  adapters: { key: [string, string]; value: StoredAdapter };
  battles: { key: string; value: unknown };
}

/** What a model has learnt, as PEFT's two files, as GGUF, or both. */
export interface StoredAdapter {
  model: string;
  name: string;
  config?: Blob;
  weights?: Blob;
  gguf?: Blob;
}

let opening: Promise<IDBPDatabase<Schema>> | null = null;

/** The database. After it was closed, for another tab or by the browser, it is opened again. */
function database(): Promise<IDBPDatabase<Schema>> {
  const forget = () => (opening = null);
  opening ??= openDB<Schema>("nomoat-lessons", 2, {
    upgrade(db, version) {
      if (version < 1) {
        db.createObjectStore("lessons", { keyPath: "id" });
        db.createObjectStore("votes", { keyPath: "id" });
        db.createObjectStore("adapters", { keyPath: ["model", "name"] });
      }
      db.createObjectStore("battles", { keyPath: "id" });
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

/** Stores an adapter; in place of one of another name, if that is given. */
export async function storeAdapter(adapter: StoredAdapter, replaced?: string): Promise<void> {
  const stores = (await database()).transaction("adapters", "readwrite", { durability: "strict" });
  await Promise.all([
    stores.store.put(adapter),
    ...(replaced === undefined ? [] : [stores.store.delete([adapter.model, replaced])]),
    stores.done,
  ]);
}

export async function forgetAdapter(model: string, name: string): Promise<void> {
  await (await database()).delete("adapters", [model, name]);
}

/** The votes of the arena, the oldest first. */
export async function readBattles(): Promise<Battle[]> {
  const all = await (await database()).getAll("battles");
  return all.flatMap((stored) => readBattle(stored) ?? []).sort((a, b) => a.createdAt - b.createdAt);
}

/** Stores a vote of the arena, and the preference that it is. */
export async function storeBattle(battle: Battle): Promise<void> {
  const stores = (await database()).transaction(["battles", "lessons"], "readwrite", {
    durability: "strict",
  });
  const preference = preferenceOf(battle);
  await Promise.all([
    stores.objectStore("battles").put(battle),
    ...(preference === null ? [] : [stores.objectStore("lessons").put(preference)]),
    stores.done,
  ]);
}

/** Deletes the votes of the arena. Preferences stay: they are lessons. */
export async function deleteBattles(): Promise<void> {
  await (await database()).clear("battles");
}
