/** What a model can be taught from: examples, preferences, and the votes that make them. */
import * as v from "valibot";
import { hasWords } from "../lib/text";

/** A message of a conversation. */
export interface Turn {
  role: "system" | "user" | "assistant";
  content: string;
}

interface Kept {
  id: string;
  /** Milliseconds since 1970. */
  createdAt: number;
  /** The model whose answer it is about; empty if it came from a file. */
  model: string;
  messages: Turn[];
}

/** A conversation whose answers are right. */
export interface Example extends Kept {
  kind: "example";
}

/** Two answers to the same messages. */
export interface Preference extends Kept {
  kind: "preference";
  chosen: string;
  rejected: string;
}

export type Lesson = Example | Preference;

/** What a person thinks of an answer; its id is the answer's. */
export interface Vote {
  id: string;
  good: boolean;
}

const turn = v.object({ role: v.picklist(["system", "user", "assistant"]), content: v.string() });
const kept = {
  id: v.string(),
  createdAt: v.fallback(v.pipe(v.number(), v.finite()), 0),
  model: v.fallback(v.string(), ""),
  messages: v.pipe(v.array(turn), v.minLength(1)),
};
const lesson = v.variant("kind", [
  v.object({ ...kept, kind: v.literal("example") }),
  v.object({ ...kept, kind: v.literal("preference"), chosen: v.string(), rejected: v.string() }),
]);
const vote = v.object({ id: v.string(), good: v.boolean() });

/** Reads a lesson from the store; null if it is none. */
export function readLesson(stored: unknown): Lesson | null {
  const read = v.safeParse(lesson, stored);
  return read.success ? read.output : null;
}

/** Reads a vote from the store; null if it is none. */
export function readVote(stored: unknown): Vote | null {
  const read = v.safeParse(vote, stored);
  return read.success ? read.output : null;
}

/** The question before an answer that a lesson is about. */
export function questionOf({ messages }: Lesson): string {
  return messages.findLast(({ role }) => role === "user")?.content ?? messages[0]?.content ?? "";
}

/** The answer that is to be learnt. */
export function answerOf(lesson: Lesson): string {
  if (lesson.kind === "preference") return lesson.chosen;
  return lesson.messages.findLast(({ role }) => role === "assistant")?.content ?? "";
}

/** Whether a lesson has all words of a search, in any of its texts. */
export function matches(lesson: Lesson, search: string): boolean {
  const texts = lesson.messages.map(({ content }) => content);
  if (lesson.kind === "preference") texts.push(lesson.chosen, lesson.rejected);
  return hasWords(texts.join("\n"), search);
}
