/**
 * The history in IndexedDB. Every change is one transaction, so tabs never see or overwrite half of another's
 * work.
 */
import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import {
  fromVersion1,
  isBehind,
  readConversation,
  readMessage,
  type Conversation,
  type Message,
} from "./records";
import { isAnswered, without } from "./tree";

/**
 * One change. Messages are put one at a time; what another tab wrote is never replaced, only its parent
 * changes if that is removed.
 */
export type Write =
  | { kind: "message"; message: Exclude<Message, { role: "unreadable" }>; title: string }
  | {
      kind: "conversation";
      id: string;
      change: Partial<Pick<Conversation, "title" | "named" | "pinned" | "leaf">>;
    }
  /** Takes a question back, unless it was answered. Questions that follow it follow the message before it. */
  | { kind: "remove"; conversation: string; id: string }
  | { kind: "delete"; ids: readonly string[] };

/** All stored records, unchecked. */
export interface Everything {
  conversations: unknown[];
  messages: unknown[];
}

/** State of the database. */
export type Access =
  | { kind: "opening" }
  | { kind: "open" }
  /** Opening takes long: another tab or the browser holds it up. */
  | { kind: "waiting" }
  /** A tab with an older version of the page does not close it. */
  | { kind: "blocked" }
  /** A newer version of the page has upgraded it. */
  | { kind: "newer" }
  | { kind: "failed"; error: unknown };

/** The conversation was deleted, in another tab perhaps. Deletion is final. */
export class DeletedError extends Error {}

interface Schema extends DBSchema {
  conversations: { key: string; value: unknown };
  messages: { key: string; value: unknown; indexes: { conversation: string } };
  /** Ids of deleted conversations: a late write of another tab must not bring them back. */
  deleted: { key: string; value: { id: string } };
}

type Store = "conversations" | "messages" | "deleted";
type Change = IDBPTransaction<Schema, Store[], "readwrite">;

const NAME = "nomoat-chat";
const VERSION = 2;
const ALL: Store[] = ["conversations", "messages", "deleted"];
/** Milliseconds until a database that does not open gets a notice. */
const PATIENCE = 1500;

async function migrate(transaction: IDBPTransaction<Schema, Store[], "versionchange">): Promise<void> {
  const db = transaction.db;
  const summaries = await transaction.objectStore("conversations").getAll();
  const records = await transaction.objectStore("messages").getAll();
  db.deleteObjectStore("messages");
  createMessages(db);
  const byId = new Map(summaries.map((summary) => [readConversation(summary)?.id, summary]));
  for (const record of records) {
    const id = readConversation(record)?.id;
    const old = fromVersion1(record, byId.get(id), Date.now());
    if (old === null) continue;
    await transaction.objectStore("conversations").put(old.conversation);
    for (const message of old.messages) await transaction.objectStore("messages").put(message);
  }
}

function createMessages(db: IDBPDatabase<Schema>): void {
  db.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
}

/** The database. It is opened again if it was closed, and reports its state. */
export class Database {
  #open: Promise<IDBPDatabase<Schema>> | null = null;
  readonly #report: (access: Access) => void;

  constructor(report: (access: Access) => void) {
    this.#report = report;
  }

  /** Opens the database, however long that takes. Rejects if it cannot be opened. */
  open(): Promise<IDBPDatabase<Schema>> {
    this.#open ??= this.#start();
    return this.#open;
  }

  async #start(): Promise<IDBPDatabase<Schema>> {
    const timer = setTimeout(() => this.#report({ kind: "waiting" }), PATIENCE);
    try {
      const db = await openDB<Schema>(NAME, VERSION, {
        async upgrade(db, oldVersion, _newVersion, transaction) {
          db.createObjectStore("deleted", { keyPath: "id" });
          if (oldVersion === 1) return migrate(transaction);
          db.createObjectStore("conversations", { keyPath: "id" });
          createMessages(db);
        },
        blocked: () => {
          clearTimeout(timer);
          this.#report({ kind: "blocked" });
        },
        // Another tab wants to change or delete the database: it must not wait for this one.
        blocking: (_current, wanted, event) => {
          (event.target as IDBDatabase).close();
          this.#open = null;
          if (wanted !== null) this.#report({ kind: "newer" });
        },
        terminated: () => {
          this.#open = null;
        },
      });
      this.#report({ kind: "open" });
      return db;
    } catch (error) {
      this.#open = null;
      const newer = error instanceof DOMException && error.name === "VersionError";
      this.#report(newer ? { kind: "newer" } : { kind: "failed", error });
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async conversations(): Promise<Conversation[]> {
    const db = await this.open();
    return (await db.getAll("conversations")).flatMap((stored) => readConversation(stored) ?? []);
  }

  /** A conversation with its messages; null if there is none. */
  async conversation(id: string): Promise<{ leaf: string | null; messages: Message[] } | null> {
    const db = await this.open();
    const read = db.transaction(["conversations", "messages"]);
    const [stored, messages] = await Promise.all([
      read.objectStore("conversations").get(id),
      read.objectStore("messages").index("conversation").getAll(id),
      read.done,
    ]);
    if (stored === undefined && messages.length === 0) return null;
    return {
      leaf: readConversation(stored)?.leaf ?? null,
      messages: messages.flatMap((message) => readMessage(message) ?? []),
    };
  }

  async everything(): Promise<Everything> {
    const db = await this.open();
    const read = db.transaction(["conversations", "messages"]);
    const [conversations, messages] = await Promise.all([
      read.objectStore("conversations").getAll(),
      read.objectStore("messages").getAll(),
      read.done,
    ]);
    return { conversations, messages };
  }

  /** Makes one change, completely or not at all. Throws DeletedError if the conversation was deleted. */
  async write(write: Write): Promise<void> {
    await this.#change((change) => apply(change, write));
  }

  /** Adds records that are not there yet. This restores deleted conversations, as the person asked for. */
  async add({ conversations, messages }: Everything): Promise<void> {
    await this.#change(async (change) => {
      for (const stored of conversations) {
        const conversation = readConversation(stored);
        if (conversation === null) continue;
        const store = change.objectStore("conversations");
        await change.objectStore("deleted").delete(conversation.id);
        if ((await store.get(conversation.id)) === undefined) await store.put(conversation);
      }
      for (const stored of messages) {
        const message = readMessage(stored);
        if (message === null) continue;
        const store = change.objectStore("messages");
        if ((await store.get(message.id)) === undefined) await store.put(stored);
      }
    });
  }

  async #change(act: (change: Change) => Promise<void>): Promise<void> {
    const db = await this.open();
    // Strict: a message that was reported as saved survives a power cut.
    const change = db.transaction(ALL, "readwrite", { durability: "strict" });
    // The transaction's own error is handled here even if `act` fails first.
    const done = change.done.catch((error: unknown) => error ?? new Error("The transaction was aborted."));
    try {
      await act(change);
    } catch (error) {
      try {
        change.abort();
      } catch {
        // It has ended already.
      }
      await done;
      throw error;
    }
    const failed = await done;
    if (failed !== undefined) throw failed;
  }
}

async function apply(change: Change, write: Write): Promise<void> {
  const conversations = change.objectStore("conversations");
  const messages = change.objectStore("messages");
  switch (write.kind) {
    case "message": {
      const { message, title } = write;
      await notDeleted(change, message.conversation);
      const before: unknown = await messages.get(message.id);
      // What a closed page left may come late: another page has continued the answer since. Its tokens,
      // which are many, need no check for that.
      if (before !== undefined && isBehind(message, readMessage({ ...Object(before), resume: undefined })))
        return;
      const isNew = before === undefined;
      await messages.put(message);
      const now = Date.now();
      const stored = readConversation(await conversations.get(message.conversation));
      const known = stored ?? {
        id: message.conversation,
        title,
        named: false,
        pinned: false,
        createdAt: now,
        updatedAt: now,
        leaf: null,
      };
      if (isNew) await conversations.put({ ...known, updatedAt: now, leaf: message.id });
      return;
    }
    case "conversation": {
      await notDeleted(change, write.id);
      const stored = readConversation(await conversations.get(write.id));
      if (stored !== null) await conversations.put({ ...stored, ...write.change });
      return;
    }
    case "remove": {
      await notDeleted(change, write.conversation);
      const all = new Map<string, Message>();
      for (const stored of await messages.index("conversation").getAll(write.conversation)) {
        const message = readMessage(stored);
        if (message !== null) all.set(message.id, message);
      }
      if (isAnswered(all, write.id)) return;
      await messages.delete(write.id);
      const rest = without(all, write.id);
      if (rest.size === 0) return conversations.delete(write.conversation);
      for (const message of rest.values()) if (message !== all.get(message.id)) await messages.put(message);
      const stored = readConversation(await conversations.get(write.conversation));
      const leaf = all.get(write.id)?.parent ?? null;
      if (stored?.leaf === write.id) await conversations.put({ ...stored, leaf });
      return;
    }
    case "delete":
      for (const id of write.ids) {
        await change.objectStore("deleted").put({ id });
        await conversations.delete(id);
        for (const key of await messages.index("conversation").getAllKeys(id)) await messages.delete(key);
      }
      return;
  }
}

async function notDeleted(change: Change, conversation: string): Promise<void> {
  if ((await change.objectStore("deleted").getKey(conversation)) !== undefined)
    throw new DeletedError(`The conversation ${conversation} was deleted.`);
}
