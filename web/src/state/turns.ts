/** Conversations as the model gets them. */
import type { ChatMessage } from "nomoat";
import type { Answer, Message, ToolUse } from "../history/records";
import { wellFormed } from "../lib/text";

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

/**
 * Where a conversation begins that a server may have no room for: where it began last time. Only an error of
 * the server tells that it is full.
 */
export function firstStart(list: readonly Message[]): number {
  const before = list.findLast((message) => message.role === "assistant");
  return before?.role === "assistant" ? before.omitted : 0;
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
