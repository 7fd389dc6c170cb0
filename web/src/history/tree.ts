/**
 * The messages of a conversation as a tree: editing and answering again make branches, and nothing is
 * replaced.
 */
import type { Message } from "./records";

export type Messages = ReadonlyMap<string, Message>;

/** A message's parent, if that is there: a message whose parent is missing is a first one. */
function parentOf(messages: Messages, message: Message): Message | undefined {
  return message.parent === null ? undefined : messages.get(message.parent);
}

/** The messages from the first one to `leaf`. Ends where stored parents form a circle. */
export function pathTo(messages: Messages, leaf: string | null): Message[] {
  const path: Message[] = [];
  const seen = new Set<string>();
  let at = leaf === null ? undefined : messages.get(leaf);
  while (at !== undefined && !seen.has(at.id)) {
    seen.add(at.id);
    path.push(at);
    at = parentOf(messages, at);
  }
  return path.reverse();
}

function byTime(a: Message, b: Message): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

/**
 * Messages by their parent's id, oldest first; first messages are under null. Those in a list are versions.
 */
export function byParent(messages: Messages): Map<string | null, Message[]> {
  const found = new Map<string | null, Message[]>();
  for (const message of [...messages.values()].sort(byTime)) {
    const parent = parentOf(messages, message)?.id ?? null;
    const others = found.get(parent);
    if (others === undefined) found.set(parent, [message]);
    else others.push(message);
  }
  return found;
}

/** The end of the newest branch behind `from`; of the whole tree for null. */
export function newestLeaf(messages: Messages, from: string | null): string | null {
  const below = byParent(messages);
  const seen = new Set<string | null>();
  let at = from;
  while (!seen.has(at)) {
    seen.add(at);
    at = below.get(at)?.at(-1)?.id ?? at;
  }
  // All messages are in circles: any of them is better than an empty page.
  return at ?? messages.keys().next().value ?? null;
}

/** The leaf at which to show a conversation that was last seen at `leaf`. */
export function leafFrom(messages: Messages, leaf: string | null): string | null {
  return newestLeaf(messages, leaf !== null && messages.has(leaf) ? leaf : null);
}

/** Whether `ancestor` is on the path to `leaf`; null is before everything. */
export function isBefore(messages: Messages, ancestor: string | null, leaf: string | null): boolean {
  return ancestor === null || pathTo(messages, leaf).some((message) => message.id === ancestor);
}

/** The messages without one of them; what followed it follows the one before it. */
export function without(messages: Messages, id: string): Map<string, Message> {
  const rest = new Map(messages);
  rest.delete(id);
  const parent = messages.get(id)?.parent ?? null;
  for (const message of rest.values())
    if (message.parent === id) rest.set(message.id, { ...message, parent });
  return rest;
}

/** Whether something that is not a question, such as an answer, follows a message. */
export function isAnswered(messages: Messages, id: string): boolean {
  return [...messages.values()].some((message) => message.parent === id && message.role !== "user");
}

/** Whether a message was followed by another. */
export function hasChildren(messages: Messages, id: string): boolean {
  return [...messages.values()].some((message) => message.parent === id);
}
