/** Conversations as the model gets them. */
import type { Message } from "../history/records";
import { wellFormed } from "../lib/text";

interface Turn {
  role: "system" | "user" | "assistant";
  content: string;
  /** What the model thought before its answer. The chat template decides whether it is shown again. */
  reasoning_content?: string;
}

/**
 * Messages as the model gets them. Many templates require alternating roles, so consecutive questions are
 * joined.
 */
export function turns(list: readonly Message[], systemPrompt: string): Turn[] {
  const found: Turn[] =
    systemPrompt.trim() === "" ? [] : [{ role: "system", content: wellFormed(systemPrompt) }];
  for (const message of list) {
    const { role, content } = message;
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
