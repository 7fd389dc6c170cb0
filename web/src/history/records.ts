/** The records of the history, and their validation. */
import * as v from "valibot";
import { resume, type Resume } from "./resume";

/** How an answer ended; null while it is being written. */
export type Ending = "stop" | "length" | "context" | "stopped" | "interrupted";

/** The place of a message. Messages form a tree; those with the same parent are versions of each other. */
interface Place {
  id: string;
  conversation: string;
  /** The message before it; null for the first. */
  parent: string | null;
  /** Milliseconds since 1970; later than the parent's, whatever the clock says. */
  createdAt: number;
}

export interface Question extends Place {
  role: "user";
  content: string;
}

/** A call of a tool that a page offers. */
export interface ToolUse {
  id: string;
  /** As the model knows it. */
  name: string;
  /** For people. */
  title: string;
  /** Origin of the page; empty if there was no such tool. */
  origin: string;
  /** JSON, as the model wrote it. */
  arguments: string;
  /** What the model got. */
  result: string;
  /** Null while it runs. */
  outcome: "done" | "failed" | "refused" | "stopped" | null;
  /** Calls of one round were made together. */
  round: number;
  /** How much of the answer's text came before it. */
  at: number;
}

export interface Answer extends Place {
  role: "assistant";
  content: string;
  /** What the model thought before. */
  reasoning?: string | undefined;
  /** Its calls of tools, in order. */
  tools?: ToolUse[] | undefined;
  /** Name of the model that wrote it. */
  model: string;
  ending: Ending | null;
  promptTokens: number | null;
  cachedTokens: number;
  completionTokens: number;
  tokensPerSecond: number | null;
  /** Messages at the start of the conversation that did not fit into the context. */
  omitted: number;
  /** While it is being written: what another page needs to continue it. */
  resume?: Resume | undefined;
}

/**
 * A stored record with an unknown shape. It is shown as plain text, stays in the store and is never
 * overwritten.
 */
export interface Unreadable extends Place {
  role: "unreadable";
  content: string;
}

export type Message = Question | Answer | Unreadable;

/** A conversation's line in the list. */
export interface Conversation {
  id: string;
  title: string;
  /** The person chose the title. */
  named: boolean;
  pinned: boolean;
  /** Milliseconds since 1970. */
  createdAt: number;
  updatedAt: number;
  /** The message that the conversation was last seen at. */
  leaf: string | null;
}

const time = v.pipe(v.number(), v.finite());
const count = v.pipe(v.number(), v.finite(), v.minValue(0));

const place = {
  id: v.string(),
  conversation: v.string(),
  parent: v.nullable(v.string()),
  createdAt: v.fallback(time, 0),
};

const question = v.object({ ...place, role: v.literal("user"), content: v.string() });

const toolUse = v.object({
  id: v.string(),
  name: v.string(),
  title: v.fallback(v.string(), ""),
  origin: v.fallback(v.string(), ""),
  arguments: v.fallback(v.string(), ""),
  result: v.fallback(v.string(), ""),
  outcome: v.fallback(v.nullable(v.picklist(["done", "failed", "refused", "stopped"])), null),
  round: v.fallback(count, 0),
  at: v.fallback(count, 0),
});

const answer = v.object({
  ...place,
  role: v.literal("assistant"),
  content: v.string(),
  reasoning: v.fallback(v.optional(v.string()), undefined),
  tools: v.fallback(v.optional(v.array(toolUse)), undefined),
  model: v.fallback(v.string(), ""),
  ending: v.fallback(
    v.nullable(v.picklist(["stop", "length", "context", "stopped", "interrupted"])),
    "interrupted",
  ),
  promptTokens: v.fallback(v.nullable(count), null),
  cachedTokens: v.fallback(count, 0),
  completionTokens: v.fallback(count, 0),
  tokensPerSecond: v.fallback(v.nullable(count), null),
  omitted: v.fallback(count, 0),
  resume: v.fallback(v.optional(resume), undefined),
});

/** A message that this page understands. */
export const knownMessage = v.variant("role", [question, answer]);

const conversation = v.object({
  id: v.string(),
  title: v.fallback(v.string(), ""),
  named: v.fallback(v.boolean(), false),
  pinned: v.fallback(v.boolean(), false),
  createdAt: v.fallback(time, 0),
  updatedAt: v.fallback(time, 0),
  leaf: v.fallback(v.nullable(v.string()), null),
});

/** Most characters of an unreadable record that are shown. */
const SHOWN = 10_000;

function asText(value: unknown): string {
  try {
    return (JSON.stringify(value, null, 1) ?? String(value)).slice(0, SHOWN);
  } catch {
    return String(value);
  }
}

/** Reads a message from the store or a file. Null if it has no id or no conversation. */
export function readMessage(stored: unknown): Message | null {
  const read = v.safeParse(knownMessage, stored);
  if (read.success) return read.output;
  const where = v.safeParse(
    v.object({
      ...place,
      parent: v.fallback(place.parent, null),
      unreadable: v.optional(v.unknown()),
    }),
    stored,
  );
  if (!where.success) return null;
  const { unreadable = stored, ...rest } = where.output;
  return { ...rest, role: "unreadable", content: asText(unreadable) };
}

/** Reads a conversation from the store or a file. Null if it has no id. */
export function readConversation(stored: unknown): Conversation | null {
  const read = v.safeParse(conversation, stored);
  return read.success ? read.output : null;
}

/** A conversation as version 1 stored it: all messages in one record. */
const version1 = v.object({ id: v.string(), messages: v.array(v.unknown()) });

/** Converts records of version 1. What cannot be read is kept in `unreadable`. */
export function fromVersion1(
  stored: unknown,
  summary: unknown,
  now: number,
): { conversation: Conversation; messages: { id: string }[] } | null {
  const id = v.safeParse(v.object({ id: v.string() }), stored);
  if (!id.success) return null;
  const known = readConversation(summary);
  const old = v.safeParse(version1, stored);
  const list = old.success ? old.output.messages : [stored];
  const messages: { id: string }[] = [];
  let parent: string | null = null;
  const start = (known?.updatedAt ?? now) - list.length;
  for (const [index, item] of list.entries()) {
    const at: { id: string; conversation: string; parent: string | null; createdAt: number } = {
      id: `${id.output.id}-${index}`,
      conversation: id.output.id,
      parent,
      createdAt: start + index,
    };
    const own = v.safeParse(v.object({ id: v.pipe(v.string(), v.nonEmpty()) }), item);
    // A duplicate id would overwrite the other message.
    if (own.success && !messages.some((other) => other.id === own.output.id)) at.id = own.output.id;
    const read = v.safeParse(knownMessage, typeof item === "object" ? { ...item, ...at } : item);
    messages.push(read.success ? read.output : ({ ...at, unreadable: item } as { id: string }));
    parent = at.id;
  }
  const updatedAt = known?.updatedAt ?? now;
  return {
    conversation: {
      ...(known ?? { id: id.output.id, title: "", named: false, pinned: false }),
      createdAt: start,
      updatedAt,
      leaf: parent,
    },
    messages,
  };
}

/** How much of an answer is written. */
function written({ content, reasoning = "", tools = [] }: Answer): number {
  return tools.reduce((sum, { result }) => sum + result.length + 1, content.length + reasoning.length);
}

/** Whether a message is a draft of an answer of which there is more already. */
export function isBehind(message: Message, other: Message | null | undefined): boolean {
  if (message.role !== "assistant" || message.ending !== null || other?.role !== "assistant") return false;
  return other.ending !== null || written(other) > written(message);
}
