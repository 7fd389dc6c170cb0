/**
 * Lessons as JSONL, in the formats that people have: OpenAI's for fine-tuning and for preferences, Alpaca,
 * ShareGPT, Open Assistant's message trees, and prompt with completion, or with chosen and rejected (TRL).
 */
import * as v from "valibot";
import type { Lesson, Turn } from "./records";

/** A lesson without what the store adds. */
export type Content =
  | { kind: "example"; messages: Turn[] }
  | { kind: "preference"; messages: Turn[]; chosen: string; rejected: string };

/** What is wrong with a line. */
export type Problem = "json" | "format" | "role" | "answer";

/** What a file has: lessons, and lines that cannot be used, by number from 1. */
export interface Read {
  lessons: Content[];
  problems: { line: number; problem: Problem }[];
}

/** A line that is not what it should be. */
class LineError extends Error {
  constructor(readonly problem: Problem) {
    super(problem);
  }
}

const ROLES: Record<string, Turn["role"]> = {
  system: "system",
  developer: "system",
  user: "user",
  human: "user",
  prompter: "user",
  assistant: "assistant",
  gpt: "assistant",
  chatgpt: "assistant",
  bing: "assistant",
  bard: "assistant",
  model: "assistant",
};

function roleOf(role: string): Turn["role"] {
  const known = Object.hasOwn(ROLES, role) ? ROLES[role] : undefined;
  if (known === undefined) throw new LineError("role");
  return known;
}

const message = v.object({ role: v.string(), content: v.string() });
const messages = v.pipe(v.array(message), v.minLength(1));
const textOrMessages = v.union([v.string(), messages]);

const openAi = v.object({ messages });
const openAiPreference = v.object({
  input: v.object({ messages }),
  preferred_output: messages,
  non_preferred_output: messages,
});
const pair = v.object({ prompt: textOrMessages, chosen: textOrMessages, rejected: textOrMessages });
const implicitPair = v.object({ chosen: messages, rejected: messages });
const completion = v.object({ prompt: textOrMessages, completion: textOrMessages });
const alpaca = v.object({
  instruction: v.string(),
  input: v.optional(v.nullable(v.string())),
  output: v.string(),
});
const shareGpt = v.object({
  conversations: v.pipe(v.array(v.object({ from: v.string(), value: v.string() })), v.minLength(1)),
});
const oasst = v.object({ prompt: v.looseObject({ text: v.string(), replies: v.array(v.unknown()) }) });
const reply = v.looseObject({
  text: v.string(),
  role: v.string(),
  rank: v.optional(v.nullable(v.number())),
  deleted: v.optional(v.nullable(v.boolean())),
  replies: v.fallback(v.array(v.unknown()), []),
});

function turns(list: readonly { role: string; content: string }[]): Turn[] {
  return list.map(({ role, content }) => ({ role: roleOf(role), content }));
}

function before(prompt: v.InferOutput<typeof textOrMessages>): Turn[] {
  return typeof prompt === "string" ? [{ role: "user", content: prompt }] : turns(prompt);
}

/** The text of one answer. */
function answer(given: v.InferOutput<typeof textOrMessages>): string {
  if (typeof given === "string") return given;
  const last = given.length === 1 ? given[0] : undefined;
  if (last === undefined || roleOf(last.role) !== "assistant") throw new LineError("answer");
  return last.content;
}

function example(list: Turn[]): Content {
  // What follows the last answer teaches nothing.
  const end = list.findLastIndex(({ role }) => role === "assistant");
  if (end < 1) throw new LineError("answer");
  return { kind: "example", messages: list.slice(0, end + 1) };
}

/** A line's lessons. */
function readLine(line: unknown): Content[] {
  const as = <T extends v.GenericSchema>(schema: T): v.InferOutput<T> | null => {
    const read = v.safeParse(schema, line);
    return read.success ? read.output : null;
  };
  const tree = as(oasst);
  if (tree) return readTree(tree.prompt.text, tree.prompt.replies);
  const given = as(openAi);
  if (given) return [example(turns(given.messages))];
  const preferred = as(openAiPreference);
  if (preferred)
    return [
      {
        kind: "preference",
        messages: turns(preferred.input.messages),
        chosen: answer(preferred.preferred_output),
        rejected: answer(preferred.non_preferred_output),
      },
    ];
  const two = as(pair);
  if (two) {
    const [chosen, rejected] = [answer(two.chosen), answer(two.rejected)];
    return [{ kind: "preference", messages: before(two.prompt), chosen, rejected }];
  }
  const whole = as(implicitPair);
  if (whole) return [readImplicit(turns(whole.chosen), turns(whole.rejected))];
  const one = as(completion);
  if (one) return [example([...before(one.prompt), { role: "assistant", content: answer(one.completion) }])];
  const instructed = as(alpaca);
  if (instructed) {
    const { instruction, input, output } = instructed;
    const question = input ? `${instruction}\n\n${input}` : instruction;
    return [
      example([
        { role: "user", content: question },
        { role: "assistant", content: output },
      ]),
    ];
  }
  const shared = as(shareGpt);
  if (shared)
    return [example(turns(shared.conversations.map(({ from, value }) => ({ role: from, content: value }))))];
  throw new LineError("format");
}

/** Two conversations that differ in the last answer. */
function readImplicit(chosen: Turn[], rejected: Turn[]): Content {
  const [good, bad] = [chosen.at(-1), rejected.at(-1)];
  const rest = chosen.slice(0, -1);
  const isSame = JSON.stringify(rest) === JSON.stringify(rejected.slice(0, -1));
  if (!isSame || rest.length === 0 || good?.role !== "assistant" || bad?.role !== "assistant")
    throw new LineError("answer");
  return { kind: "preference", messages: rest, chosen: good.content, rejected: bad.content };
}

/** Deepest tree that is read. */
const DEEPEST = 100;

/**
 * Open Assistant: of the answers to a message, the best rank is an example, and each neighbouring pair of
 * ranks a preference.
 */
function readTree(text: string, replies: readonly unknown[]): Content[] {
  const found: Content[] = [];
  const visit = (path: Turn[], list: readonly unknown[], depth: number) => {
    if (depth > DEEPEST) throw new LineError("format");
    const read = list
      .map((item) => v.parse(reply, item))
      .filter(({ deleted }) => deleted !== true)
      .sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || 0);
    const isAnswer = path.at(-1)?.role === "user";
    for (const [index, item] of read.entries()) {
      const role = roleOf(item.role);
      if ((role === "assistant") !== isAnswer) throw new LineError("role");
      const own: Turn[] = [...path, { role, content: item.text }];
      if (isAnswer && index === 0) found.push({ kind: "example", messages: own });
      const next = read[index + 1];
      if (isAnswer && next && item.rank != null && next.rank != null && item.rank < next.rank)
        found.push({ kind: "preference", messages: path, chosen: item.text, rejected: next.text });
      visit(own, item.replies, depth + 1);
    }
  };
  visit([{ role: "user", content: text }], replies, 0);
  if (found.length === 0) throw new LineError("answer");
  return found;
}

/** Reads JSONL, or a JSON array, whose items count as lines. */
export function fromJsonl(text: string): Read {
  const read: Read = { lessons: [], problems: [] };
  const take = (line: number, parse: () => unknown) => {
    let value: unknown;
    try {
      value = parse();
    } catch {
      read.problems.push({ line, problem: "json" });
      return;
    }
    try {
      read.lessons.push(...readLine(value));
    } catch (error) {
      read.problems.push({ line, problem: error instanceof LineError ? error.problem : "format" });
    }
  };
  const items = arrayOf(text);
  if (items) for (const [index, item] of items.entries()) take(index + 1, () => item);
  else
    for (const [index, line] of text.split(/\r?\n/).entries())
      if (line.trim() !== "") take(index + 1, () => JSON.parse(line) as unknown);
  return read;
}

function arrayOf(text: string): unknown[] | null {
  if (!text.trimStart().startsWith("[")) return null;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Lessons in OpenAI's formats: examples for fine-tuning, or preferences. */
export function toJsonl(lessons: readonly Lesson[]): string {
  const assistant = (content: string) => [{ role: "assistant", content }];
  const lines = lessons.map((lesson) =>
    lesson.kind === "example"
      ? { messages: lesson.messages }
      : {
          input: { messages: lesson.messages },
          preferred_output: assistant(lesson.chosen),
          non_preferred_output: assistant(lesson.rejected),
        },
  );
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
