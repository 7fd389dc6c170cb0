/** Cuts the start of a conversation that is longer than the model's context, at a question. */
import type { ChatMessage, Engine } from "nomoat";
import type { Answer, Message, ToolUse } from "../history/records";
import { wellFormed } from "../lib/text";

/** Upper estimate of the tokens that a chat template adds to a message. */
const AROUND = 8;
/** The answer gets its maximum length, but at most this share of the context. */
const ANSWER_SHARE = 0.25;
/** When messages are left out, this share of the room is filled, so that the next turns need no other cut. */
const FILL = 0.75;

type Turn = ChatMessage & { content?: string };

/**
 * Messages as the model gets them. Many templates require alternating roles, so consecutive questions are
 * joined. Calls of tools are left out unless the model is told about tools.
 */
export function turns(list: readonly Message[], systemPrompt: string, withTools = false): ChatMessage[] {
  const found: Turn[] =
    systemPrompt.trim() === "" ? [] : [{ role: "system", content: wellFormed(systemPrompt) }];
  for (const message of list) {
    const { role, content } = message;
    if (role === "assistant" && withTools && message.tools) {
      found.push(...withCalls(message, message.tools));
      continue;
    }
    if (role === "unreadable" || content === "") continue;
    const last = found.at(-1);
    const reasoning = role === "assistant" ? message.reasoning : undefined;
    if (last?.role === role) last.content += `\n\n${wellFormed(content)}`;
    else
      found.push({
        role,
        content: wellFormed(content),
        ...(reasoning && { reasoning_content: wellFormed(reasoning) }),
      });
  }
  return found;
}

/** An answer with its calls: what was said before each, the calls, their results, and the rest. */
export function withCalls({ content }: Pick<Answer, "content">, calls: readonly ToolUse[]): Turn[] {
  const found: Turn[] = [];
  const said = (from: number, to?: number) => wellFormed(content.slice(from, to));
  let from = 0;
  for (const round of new Set(calls.map((call) => call.round))) {
    const together = calls.filter((call) => call.round === round);
    const at = together[0]?.at ?? from;
    found.push({
      role: "assistant",
      content: said(from, at),
      tool_calls: together.map(({ id, name, arguments: json }) => ({
        id,
        type: "function",
        function: { name, arguments: json },
      })),
    });
    for (const { id, result } of together)
      found.push({ role: "tool", tool_call_id: id, content: wellFormed(result) });
    from = at;
  }
  if (from < content.length) found.push({ role: "assistant", content: said(from) });
  return found;
}

/** All that the model may get of a message. */
function textOf(message: Message): string {
  const calls = message.role === "assistant" ? (message.tools ?? []) : [];
  return message.content + calls.map(({ arguments: json, result }) => json + result).join("");
}

// Messages are immutable, so counts are valid as long as the model is loaded.
const counted = new WeakMap<Engine, WeakMap<Message, number>>();

async function tokens(engine: Engine, message: Message): Promise<number> {
  const known = counted.get(engine) ?? new WeakMap<Message, number>();
  counted.set(engine, known);
  let count = known.get(message);
  if (count === undefined) {
    count = (await engine.tokenize(wellFormed(textOf(message)))).length + AROUND;
    known.set(message, count);
  }
  return count;
}

/**
 * How many messages at the start must be left out so that the rest and an answer fit. The last question is
 * always kept.
 */
export async function firstThatFits(
  engine: Engine,
  list: readonly Message[],
  { systemPrompt, maxTokens }: { systemPrompt: string; maxTokens: number },
): Promise<number> {
  const { contextLength } = engine.model;
  const before = list.findLast((message) => message.role === "assistant");
  const omitted = before?.role === "assistant" ? before.omitted : 0;
  // On a server, where only an error tells that it is full.
  if (contextLength === 0) return omitted;
  const room = contextLength - Math.min(maxTokens, Math.floor(contextLength * ANSWER_SHARE));
  // A token is at least one byte: most conversations need no count.
  const bytes = new TextEncoder().encode(systemPrompt + list.map(textOf).join("")).length;
  if (bytes + AROUND * (list.length + 1) <= room) return 0;
  const system = systemPrompt === "" ? 0 : (await engine.tokenize(wellFormed(systemPrompt))).length + AROUND;
  const counts: number[] = [];
  // Counted from the end, until the context is full.
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
  if (omitted > 0 && from(omitted) <= room) return omitted;
  const starts = questions(list);
  return starts.find((start) => from(start) <= FILL * room) ?? starts.at(-1) ?? 0;
}

/** A later cut than `start`, halfway to the last question; null if there is none. */
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
