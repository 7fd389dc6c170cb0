/** Conversations as files: JSON, which can be imported again, and Markdown, which is for reading. */
import * as v from "valibot";
import type { Everything } from "./database";
import { readConversation, readMessage, type Conversation, type Message } from "./records";
import { byParent, leafFrom, pathTo } from "./tree";

const FORMAT = "nomoat-conversations";

/** A file that is not an export of conversations. */
export class NotConversationsError extends Error {}

const file = v.object({
  format: v.literal(FORMAT),
  version: v.literal(1),
  conversations: v.array(v.looseObject({ id: v.string(), messages: v.array(v.unknown()) })),
});

/** All conversations with all their messages, branches included, as one JSON text. */
export function toJson({ conversations, messages }: Everything): string {
  const list = conversations
    .flatMap((stored) => readConversation(stored) ?? [])
    .sort(oldestFirst)
    .map((conversation) => ({
      ...conversation,
      messages: messages
        .filter((stored) => readMessage(stored)?.conversation === conversation.id)
        .map((stored) => {
          const { conversation: _of, resume: _here, ...message } = stored as Record<string, unknown>;
          return message;
        }),
    }));
  return JSON.stringify({ format: FORMAT, version: 1, conversations: list }, null, 1);
}

/** Reads an exported JSON text. Throws NotConversationsError for any other text. */
export function fromJson(text: string): Everything {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new NotConversationsError("The file is not JSON.");
  }
  const read = v.safeParse(file, parsed);
  if (!read.success) throw new NotConversationsError(read.issues[0].message);
  const conversations: unknown[] = [];
  const messages: unknown[] = [];
  for (const { messages: own, ...conversation } of read.output.conversations) {
    conversations.push(conversation);
    for (const message of own)
      if (typeof message === "object" && message !== null)
        // What is imported does not go on by itself.
        messages.push({ ...message, conversation: conversation.id, resume: undefined });
  }
  return { conversations, messages };
}

/** Words of a Markdown export. */
export interface Words {
  you: string;
  untitled: string;
  versionOf: (number: number, count: number) => string;
}

/** The selected branch of each conversation, as one Markdown text. Says which versions of messages it has. */
export function toMarkdown({ conversations, messages }: Everything, words: Words): string {
  const all = messages.flatMap((stored) => readMessage(stored) ?? []);
  return conversations
    .flatMap((stored) => readConversation(stored) ?? [])
    .sort(oldestFirst)
    .map((conversation) => section(conversation, all, words))
    .join("\n\n");
}

function section(conversation: Conversation, all: Message[], words: Words): string {
  const own = new Map(
    all.filter((message) => message.conversation === conversation.id).map((message) => [message.id, message]),
  );
  const branches = byParent(own);
  const heading = (name: string, message: Message) => {
    const parent = message.parent !== null && own.has(message.parent) ? message.parent : null;
    const versions = branches.get(parent) ?? [];
    const number = versions.findIndex(({ id }) => id === message.id) + 1;
    return versions.length > 1 ? `## ${name} (${words.versionOf(number, versions.length)})` : `## ${name}`;
  };
  const path = pathTo(own, leafFrom(own, conversation.leaf));
  const parts = path.map((message) => {
    if (message.role === "user") return `${heading(words.you, message)}\n\n${message.content}`;
    if (message.role === "assistant")
      return `${heading(message.model || "Nomoat", message)}\n\n${message.content}`;
    return `\`\`\`\n${message.content}\n\`\`\``;
  });
  return [`# ${conversation.title || words.untitled}`, ...parts].join("\n\n");
}

function oldestFirst(a: Conversation, b: Conversation): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}
