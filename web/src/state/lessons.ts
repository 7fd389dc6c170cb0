/** What was collected to teach a model by: examples and preferences. */
import { signal } from "@preact/signals";
import type { Answer, Message } from "../history/records";
import { byParent, pathTo } from "../history/tree";
import { readAll, write, type Change } from "../lessons/database";
import { fromJsonl, toJsonl, type Content, type Problem } from "../lessons/formats";
import type { Lesson, Turn, Vote } from "../lessons/records";
import { download, today } from "../lib/download";
import { newId } from "../lib/id";
import { tree } from "./conversation";

/** All lessons, the newest first. */
export const lessons = signal<readonly Lesson[]>([]);
/** What the person thinks of answers, by their ids. */
export const votes = signal<ReadonlyMap<string, boolean>>(new Map());
/** Why the last change could not be stored, or the store not be read. */
export const lessonsError = signal<unknown>(null);
/** What the last import brought. */
export const imported = signal<{ count: number; problems: { line: number; problem: Problem }[] } | null>(
  null,
);

/** Limit for imports: the file is held in memory several times. */
const MOST_BYTES = 100_000_000;

/** Reads what is stored. */
export async function refreshLessons(): Promise<void> {
  try {
    const all = await readAll();
    lessons.value = all.lessons.sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1));
    votes.value = new Map(all.votes.map(({ id, good }) => [id, good]));
    lessonsError.value = null;
  } catch (error) {
    lessonsError.value = error;
  }
}

async function change(what: Change): Promise<void> {
  try {
    await write(what);
    await refreshLessons();
  } catch (error) {
    lessonsError.value = error;
  }
}

/** The turns before a message. */
function turnsBefore(message: Message): Turn[] {
  const path = pathTo(tree.peek(), message.parent);
  return path.flatMap(({ role, content }) =>
    role === "unreadable" || content === "" ? [] : [{ role, content }],
  );
}

/** An answer as it should have been: an example. */
export function correct(answer: Answer, content: string): Promise<void> {
  const messages: Turn[] = [...turnsBefore(answer), { role: "assistant", content }];
  const { id, model } = answer;
  return change({ put: [{ kind: "example", id, createdAt: Date.now(), model, messages }] });
}

/**
 * A vote for or against an answer; the same again takes it back. Of versions of an answer, a good one is
 * preferred to the others, and each is preferred to a bad one that is good.
 */
export function voteFor(answer: Answer, good: boolean): Promise<void> {
  const all = votes.peek();
  const pairId = (chosen: Answer, rejected: Answer) => `${chosen.id}>${rejected.id}`;
  const siblings = (byParent(tree.peek()).get(answer.parent) ?? []).filter(
    (other): other is Answer =>
      other.role === "assistant" && other.id !== answer.id && other.content !== answer.content,
  );
  const stale = siblings.flatMap((other) => [pairId(answer, other), pairId(other, answer)]);
  if (all.get(answer.id) === good) return change({ delete: stale, unvote: answer.id });
  const messages = turnsBefore(answer);
  const pair = (chosen: Answer, rejected: Answer): Lesson => ({
    kind: "preference",
    id: pairId(chosen, rejected),
    createdAt: Date.now(),
    model: chosen.model,
    messages,
    chosen: chosen.content,
    rejected: rejected.content,
  });
  const pairs = siblings.flatMap((other) => {
    if (good && all.get(other.id) !== true) return [pair(answer, other)];
    return !good && all.get(other.id) === true ? [pair(other, answer)] : [];
  });
  const vote: Vote = { id: answer.id, good };
  return change({ delete: stale.filter((id) => !pairs.some((one) => one.id === id)), put: pairs, vote });
}

/** Changes what is to be learnt. */
export function editLesson(lesson: Lesson, content: string): Promise<void> {
  if (lesson.kind === "preference") return change({ put: [{ ...lesson, chosen: content }] });
  const last = lesson.messages.findLastIndex(({ role }) => role === "assistant");
  return change({
    put: [{ ...lesson, messages: lesson.messages.with(last, { role: "assistant", content }) }],
  });
}

export function deleteLessons(ids: readonly string[]): Promise<void> {
  return change({ delete: ids });
}

export function addLessons(list: readonly Content[]): Promise<void> {
  const now = Date.now();
  return change({
    put: list.map((content, index): Lesson => ({
      ...content,
      id: newId(),
      createdAt: now - index,
      model: "",
    })),
  });
}

/** Adds the lessons of a file. Lines that cannot be used are told. */
export async function importLessons(file: File): Promise<void> {
  if (file.size > MOST_BYTES) {
    lessonsError.value = new Error("The file is too large.");
    return;
  }
  const read = fromJsonl(await file.text());
  await addLessons(read.lessons);
  imported.value = { count: read.lessons.length, problems: read.problems };
}

export function exportLessons(list: readonly Lesson[]): void {
  download(toJsonl(list), `nomoat-lessons-${today()}.jsonl`, "application/jsonl");
}
