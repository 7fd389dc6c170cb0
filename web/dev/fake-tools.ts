/**
 * The scripted engine's tools: the question "use NAME JSON" calls this tool with these arguments, and answers
 * with its result. "use NAME JSON again" calls it as long as it may.
 */

/** What a request says about tools. */
export interface ToolParams {
  messages: { role: string; content: string }[];
  tools?: object[];
  tool_choice?: string;
}

/** The call that the last question wants, or null. */
export function wantedCall({ messages, tools, tool_choice }: ToolParams): AsyncIterable<object> | null {
  const question = messages.findLast(({ role }) => role === "user")?.content ?? "";
  const [, name = "", json = "", again] = /^use (\S+) (\{.*?\})( again)?$/.exec(question) ?? [];
  const mayCall = tools !== undefined && tool_choice !== "none";
  const isAnswered = messages.at(-1)?.role === "tool" && again === undefined;
  return name !== "" && mayCall && !isAnswered ? toolCall(name, json) : null;
}

/** Calls a tool, piece by piece. */
async function* toolCall(name: string, json: string) {
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    choices: [{ index: 0, delta, finish_reason }],
  });
  const id = `call_${Math.random().toString(36).slice(2)}`;
  yield await Promise.resolve(chunk({ content: "Let me look. " }));
  yield chunk({ tool_calls: [{ index: 0, id, type: "function", function: { name, arguments: "" } }] });
  for (const piece of [json.slice(0, 3), json.slice(3)])
    yield chunk({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
  yield chunk({}, "tool_calls");
}
