/** The tools of a session: how the model is told about them, and how they are called. */
import type { ChatMessage, ChatTool, ChatToolCall, ChatToolCallDelta } from "../chat.js";
import type { LanguageModelTool } from "./types.js";

/** A checked copy of a page's tools. */
export function checkedTools(tools: readonly LanguageModelTool[] = []): readonly LanguageModelTool[] {
  const names = new Set<string>();
  return tools.map((tool) => {
    const { name, description, inputSchema, execute } = tool;
    const isObject = typeof inputSchema === "object" && inputSchema !== null;
    if (typeof name !== "string" || typeof description !== "string" || !isObject)
      throw new TypeError("A tool needs a `name`, a `description` and an `inputSchema`.");
    if (typeof execute !== "function") throw new TypeError(`The tool ${name} needs a function \`execute\`.`);
    if (names.has(name)) throw new TypeError(`There are two tools with the name ${name}.`);
    names.add(name);
    return { name, description, inputSchema, execute: (input) => execute.call(tool, input) };
  });
}

/** Tools in the shapes of a chat. */
export function chatTools(tools: readonly LanguageModelTool[]): ChatTool[] {
  return tools.map(({ name, description, inputSchema }) => ({
    type: "function",
    function: { name, description, parameters: inputSchema as Record<string, unknown> },
  }));
}

/** Adds the pieces of a chunk to the calls so far. */
export function collect(calls: ChatToolCall[], pieces: ChatToolCallDelta[] = []): void {
  for (const { index, id = "", function: piece } of pieces) {
    const call = (calls[index] ??= {
      id,
      type: "function",
      function: { name: piece.name ?? "", arguments: "" },
    });
    call.function.arguments += piece.arguments;
  }
}

/**
 * Calls the tools at the same time; resolves to their results in order. A call that cannot be made is
 * answered with the reason, so that the model can make another one. An error of a tool is the page's.
 */
export function execute(
  tools: readonly LanguageModelTool[],
  calls: readonly ChatToolCall[],
): Promise<ChatMessage[]> {
  return Promise.all(
    calls.map(async ({ id: tool_call_id, function: { name, arguments: json } }) => {
      const tool = tools.find((candidate) => candidate.name === name);
      const input = inputOf(json);
      let content: string;
      if (!tool) content = `There is no tool ${name}.`;
      else if (!input) content = "The arguments are not a JSON object.";
      else content = String(await tool.execute(input));
      return { role: "tool" as const, tool_call_id, content };
    }),
  );
}

function inputOf(json: string): Record<string, unknown> | null {
  try {
    const input: unknown = JSON.parse(json);
    const isObject = typeof input === "object" && input !== null && !Array.isArray(input);
    return isObject ? (input as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
