/** What a page gives to a session, as the engine's parameters. */
import type { ChatCompletionStreamParams, ChatMessage } from "../chat.js";
import type { LanguageModelPrompt, LanguageModelPromptOptions } from "./types.js";

/** The engine's messages of a prompt. `isLater`: there are messages before it. */
export function messagesOf(input: LanguageModelPrompt, isLater: boolean): ChatMessage[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  if (input.length === 0) return [{ role: "user", content: "" }];
  return input.map(({ role, content, prefix }, index) => {
    if (prefix && (role !== "assistant" || index < input.length - 1))
      throw new DOMException(
        "Only the last message can be a prefix, and only of the assistant.",
        "SyntaxError",
      );
    if (role === "system" && (isLater || index > 0))
      throw new TypeError("The system message must be the first one.");
    if (typeof content === "string") return { role, content };
    const texts = content.map(({ type, value }) => {
      if (type !== "text")
        throw new DOMException(`This model takes text only, not ${type}.`, "NotSupportedError");
      if (typeof value !== "string") throw new TypeError("The value of a text must be a string.");
      return value;
    });
    return { role, content: texts.join("") };
  });
}

/** Whether the last message begins the answer. */
export function isBegun(input: LanguageModelPrompt): boolean {
  return typeof input !== "string" && input.at(-1)?.prefix === true;
}

/** A constraint as the engine's parameters. */
export function constraintOf({
  responseConstraint: constraint,
  omitResponseConstraintInput: omit = false,
}: LanguageModelPromptOptions): Pick<ChatCompletionStreamParams, "response_format" | "grammar"> {
  if (constraint === undefined) {
    if (omit) throw new TypeError("`omitResponseConstraintInput` needs a `responseConstraint`.");
    return {};
  }
  if (typeof constraint !== "object" || constraint === null || Array.isArray(constraint))
    throw new TypeError("`responseConstraint` must be a JSON Schema or a regular expression.");
  if (!(constraint instanceof RegExp)) {
    const schema = constraint as Record<string, unknown>;
    return { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } };
  }
  const flags = constraint.flags.replace(/[gyud]/g, "");
  if (flags)
    throw new DOMException(`The flags ${flags} of a constraint are not supported.`, "NotSupportedError");
  // The whole answer matches anyway.
  return { grammar: { regex: constraint.source.replace(/^\^/, "").replace(/(?<!\\)\$$/, "") } };
}
