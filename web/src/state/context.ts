/** Which messages of a conversation fit into the model's context: its end, cut at questions. */
import type { Engine } from "nomoat";
import type { Message } from "../history/records";
import { wellFormed } from "../lib/text";

/** Tokens that a chat template puts around a message, at most of those that are common. */
const AROUND = 8;
/** Room for the answer: what it may take, but never more than this part of the context. */
const ANSWER_SHARE = 0.25;
/** Once messages are left out, so many are that the next turns need not move the cut again. */
const FILL = 0.75;

interface Turn {
  role: "system" | "user" | "assistant";
  content: string;
}

/**
 * Messages as the model gets them. Templates want questions and answers in turn, so questions that follow one
 * another are one.
 */
export function turns(list: readonly Message[], systemPrompt: string): Turn[] {
  const found: Turn[] =
    systemPrompt.trim() === "" ? [] : [{ role: "system", content: wellFormed(systemPrompt) }];
  for (const { role, content } of list) {
    if (role === "unreadable" || content === "") continue;
    const last = found.at(-1);
    if (last?.role === role) last.content += `\n\n${wellFormed(content)}`;
    else found.push({ role, content: wellFormed(content) });
  }
  return found;
}

// A message never changes, so its count holds as long as the model does.
const counted = new WeakMap<Engine, WeakMap<Message, number>>();

async function tokens(engine: Engine, message: Message): Promise<number> {
  const known = counted.get(engine) ?? new WeakMap<Message, number>();
  counted.set(engine, known);
  let count = known.get(message);
  if (count === undefined) {
    count = (await engine.tokenize(wellFormed(message.content))).length + AROUND;
    known.set(message, count);
  }
  return count;
}

/**
 * How many messages at the start are left out, so that the rest and an answer fit. The last question always
 * stays.
 */
export async function firstThatFits(
  engine: Engine,
  list: readonly Message[],
  { systemPrompt, maxTokens }: { systemPrompt: string; maxTokens: number },
): Promise<number> {
  const { contextLength } = engine.model;
  const room = contextLength - Math.min(maxTokens, Math.floor(contextLength * ANSWER_SHARE));
  // A token is at least one byte: most conversations need no count.
  const bytes = new TextEncoder().encode(systemPrompt + list.map(({ content }) => content).join("")).length;
  if (bytes + AROUND * (list.length + 1) <= room) return 0;
  const system = systemPrompt === "" ? 0 : (await engine.tokenize(wellFormed(systemPrompt))).length + AROUND;
  const counts: number[] = [];
  // From the end: what is before a full context need not be counted.
  let sum = system;
  for (const message of list.toReversed()) {
    counts.unshift(await tokens(engine, message));
    sum += counts[0] ?? 0;
    if (sum > room) break;
  }
  if (sum <= room) return 0;
  const from = (start: number) => {
    const skipped = list.length - counts.length;
    return start < skipped ? Infinity : system + counts.slice(start - skipped).reduce((a, b) => a + b, 0);
  };
  const before = list.findLast((message) => message.role === "assistant");
  if (before?.role === "assistant" && before.omitted > 0 && from(before.omitted) <= room)
    return before.omitted;
  const starts = questions(list);
  return starts.find((start) => from(start) <= FILL * room) ?? starts.at(-1) ?? 0;
}

/** A later place to cut than `start`, half of the way to the last question; null if that is the last one. */
export function laterStart(list: readonly Message[], start: number): number | null {
  const later = questions(list).filter((index) => index > start);
  return later[Math.floor(later.length / 2)] ?? null;
}

/** Places where a conversation can be cut: before a question that follows an answer. */
function questions(list: readonly Message[]): number[] {
  return list.flatMap(({ role }, index) =>
    role === "user" && (index === 0 || list[index - 1]?.role !== "user") ? [index] : [],
  );
}
