/** How a request for a response becomes a chat's. */
import type {
  ChatCompletionCreateParams,
  ChatContent,
  ChatMessage,
  ChatTool,
  ChatToolCall,
  ChatToolChoice,
  ResponseFormat,
} from "../chat.js";
import { InvalidRequestError } from "../errors.js";
import { boolean, IGNORED, integer, mistyped, record, refused, wrongList } from "../request.js";
import type { ResponseCreateParams, ResponseOutputItem } from "./response-types.js";

/** Parameters that mean the same in a chat, with their names there. */
const SAME = new Map([
  ["max_output_tokens", "max_completion_tokens"],
  ["temperature", "temperature"],
  ["top_p", "top_p"],
  ["seed", "seed"],
  ["parallel_tool_calls", "parallel_tool_calls"],
]);

/** Parameters that are used here, or do not affect the answer. */
const OTHERS = new Set([
  "input",
  "instructions",
  "model",
  "stream",
  "stream_options",
  ...IGNORED,
  "include",
  "truncation",
  "text",
  "tools",
  "tool_choice",
  "reasoning",
]);

/**
 * The chat of a response; throws InvalidRequestError with the field that is wrong. `find` gives items of
 * earlier answers.
 */
export function chatParams(
  params: ResponseCreateParams,
  find: (id: string) => ResponseOutputItem | undefined,
): ChatCompletionCreateParams {
  const given = record(params, "the parameters");
  const chat: ChatCompletionCreateParams & Record<string, unknown> = { messages: messages(given, find) };
  for (const [name, value] of Object.entries(given)) {
    if (value == null || OTHERS.has(name)) continue;
    const same = SAME.get(name);
    if (!same) throw refused(name);
    chat[same] = value;
  }
  boolean(given, "stream");
  integer(given, "max_output_tokens", 1);
  oneOf(given, "truncation", ["auto", "disabled"]);
  if (given["truncation"] != null)
    chat.context_overflow = given["truncation"] === "auto" ? "truncate" : "stop";
  const tools = toolsOf(given["tools"]);
  if (tools) chat["tools"] = tools;
  const choice = choiceOf(given["tool_choice"]);
  if (choice) chat["tool_choice"] = choice;
  const effort = effortOf(given["reasoning"]);
  if (effort != null) chat["reasoning_effort"] = effort as string;
  const format = textFormat(given["text"]);
  if (format) chat["response_format"] = format;
  return chat;
}

function messages(
  { instructions, input }: Record<string, unknown>,
  find: (id: string) => ResponseOutputItem | undefined,
): ChatMessage[] {
  const list: ChatMessage[] = [];
  if (instructions != null) {
    if (typeof instructions !== "string")
      throw mistyped("`instructions` must be a text.", "instructions", instructions);
    list.push({ role: "system", content: instructions });
  }
  if (typeof input === "string") return [...list, { role: "user", content: input }];
  if (!Array.isArray(input) || input.length === 0)
    throw wrongList("`input` must be a text or a list with at least one item.", "input", input);
  // What the model thought belongs to the answer that follows.
  let thought = "";
  const answer = (message: Omit<ChatMessage & { role: "assistant" }, "role">) => {
    list.push({ role: "assistant", ...message, ...(thought && { reasoning_content: thought }) });
    thought = "";
  };
  for (const [index, item] of input.entries()) {
    const at = `input[${index}]`;
    const { type, role, content, ...others } = referred(record(item, at), at, find);
    switch (type ?? "message") {
      case "reasoning":
        thought += thoughtOf(content, `${at}.content`);
        break;
      case "function_call": {
        const { call_id: id, name, arguments: json } = others;
        const made = { id, type: "function", function: { name, arguments: json } } as ChatToolCall;
        const last = list.at(-1);
        // Calls of one answer belong to one message.
        if (last?.role === "assistant" && !thought) last.tool_calls = [...(last.tool_calls ?? []), made];
        else answer({ content: null, tool_calls: [made] });
        break;
      }
      case "function_call_output": {
        const { call_id, output } = others;
        const text = contentOf(output, `${at}.output`);
        list.push({ role: "tool", tool_call_id: call_id as string, content: text });
        break;
      }
      case "message": {
        const text = contentOf(content, `${at}.content`);
        if (role === "assistant") answer({ content: text });
        else list.push({ role: role as "user", content: text });
        break;
      }
      default:
        throw new InvalidRequestError(
          `Items of the type \`${String(type)}\` are not supported.`,
          `${at}.type`,
        );
    }
  }
  return list;
}

/** The item itself, or the one of an earlier answer that it refers to. */
function referred(
  item: Record<string, unknown>,
  at: string,
  find: (id: string) => ResponseOutputItem | undefined,
): Record<string, unknown> {
  const { type, id } = item;
  if (type !== "item_reference") return item;
  const found = typeof id === "string" ? find(id) : undefined;
  if (!found)
    throw new InvalidRequestError(
      `There is no item \`${String(id)}\`: only the last answers are kept. Send the item itself, which ` +
        "clients do with `store: false`.",
      `${at}.id`,
    );
  return { ...found };
}

/** The text of a reasoning item. One that has only a summary says nothing to the model. */
function thoughtOf(content: unknown, at: string): string {
  if (content == null) return "";
  if (!Array.isArray(content)) throw mistyped(`\`${at}\` must be a list.`, at, content);
  return content
    .map((item: unknown, index) => {
      const { type, text } = record(item, `${at}[${index}]`);
      if (type === "reasoning_text" && typeof text === "string") return text;
      throw new InvalidRequestError(
        `\`${at}[${index}]\` must be { type: "reasoning_text", text }.`,
        `${at}[${index}]`,
      );
    })
    .join("");
}

/** `reasoning.effort`. */
function effortOf(reasoning: unknown): unknown {
  if (reasoning == null) return undefined;
  const { effort, ...others } = record(reasoning, "reasoning");
  for (const [name, value] of Object.entries(others)) if (value != null) throw refused(`reasoning.${name}`);
  return effort;
}

/** A response's tools as a chat's, where they lie one level deeper. */
function toolsOf(tools: unknown): ChatTool[] | undefined {
  if (tools == null) return undefined;
  if (!Array.isArray(tools)) throw mistyped("`tools` must be a list.", "tools", tools);
  return tools.map((tool: unknown, index) => {
    const { type, ...described } = record(tool, `tools[${index}]`);
    // What it holds is checked with the rest of the chat.
    return { type, function: described } as unknown as ChatTool;
  });
}

function choiceOf(choice: unknown): ChatToolChoice | undefined {
  if (choice == null) return undefined;
  if (typeof choice === "string") return choice as ChatToolChoice;
  const { type, name } = record(choice, "tool_choice");
  if (type !== "function" || typeof name !== "string")
    throw new InvalidRequestError(
      '`tool_choice` must be "auto", "none", "required" or { type: "function", name }.',
      "tool_choice",
    );
  return { type, function: { name } };
}

function contentOf(content: unknown, at: string): ChatContent {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    throw mistyped(`\`${at}\` must be a text or a list of text parts.`, at, content);
  return content.map((item: unknown, index) => {
    const { type, text } = record(item, `${at}[${index}]`);
    if ((type !== "input_text" && type !== "output_text") || typeof text !== "string")
      throw new InvalidRequestError(
        `\`${at}[${index}]\` must be { type: "input_text" or "output_text", text }.`,
        `${at}[${index}]`,
      );
    return { type: "text", text };
  });
}

/** `text.format` as `response_format` of a chat, where the schema lies one level deeper. */
function textFormat(text: unknown): ResponseFormat | undefined {
  if (text == null) return undefined;
  const { format, ...others } = record(text, "text");
  for (const [name, value] of Object.entries(others)) if (value != null) throw refused(`text.${name}`);
  if (format == null) return undefined;
  const { type, ...rest } = record(format, "text.format");
  // What it holds is checked with the rest of the chat.
  return (type === "json_schema" ? { type, json_schema: rest } : { type }) as ResponseFormat;
}

function oneOf(given: Record<string, unknown>, name: string, values: string[]): void {
  const value = given[name];
  if (value != null && !values.includes(value as string))
    throw new InvalidRequestError(`\`${name}\` must be ${values.map((it) => `"${it}"`).join(" or ")}.`, name);
}
