/** Checks chat completion parameters and turns them into the runtime's request. */
import type {
  ChatCompletionCreateParams,
  ChatTool,
  ChatToolCall,
  ChatToolChoice,
  ContextOverflow,
  Grammar,
  ResponseFormat,
} from "./chat.js";
import { InvalidRequestError } from "./errors.js";
import type { KvFormat, RuntimeMessage, RuntimeRequest } from "./runtime.js";

const USED = [
  "messages",
  "model",
  "stream",
  "stream_options",
  "max_tokens",
  "max_completion_tokens",
  "context_overflow",
  "thinking_token_budget",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "typical_p",
  "top_n_sigma",
  "xtc_probability",
  "xtc_threshold",
  "dry_multiplier",
  "dry_base",
  "dry_allowed_length",
  "dry_penalty_last_n",
  "dry_sequence_breakers",
  "dynatemp_range",
  "dynatemp_exponent",
  "mirostat",
  "mirostat_tau",
  "mirostat_eta",
  "repetition_penalty",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "prediction",
  "seed",
  "stop",
  "n",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "response_format",
  "grammar",
  "adapters",
  "reasoning_effort",
  "chat_template_kwargs",
  "logprobs",
  "top_logprobs",
  "return_token_ids",
  "continue_ids",
] as const satisfies readonly (keyof ChatCompletionCreateParams)[];

/** OpenAI's parameters that do not affect the answer. */
export const IGNORED = [
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
];
const KNOWN = new Set<string>([...USED, ...IGNORED]);

/** OpenAI's parameters that are refused. */
const REFUSED = new Set([
  ...["functions", "function_call", "verbosity", "modalities", "audio", "web_search_options", "moderation"],
  ...["best_of", "previous_response_id", "conversation", "background", "prompt", "context_management"],
  ...["max_tool_calls", "top_logprobs", "image", "access_programs", "reasoning.summary"],
  ...["reasoning.generate_summary", "text.verbosity"],
]);
const MAX_STOPS = 16;
const MAX_CHOICES = 128;
export const MAX_TOP_LOGPROBS = 20;
const MAX_BREAKERS = 32;
const MAX_BREAKER_BYTES = 40;
/** Token ids have 32 bits. */
const MAX_ID = 0xffffffff;
const ROLES = new Map([
  ["system", "system"],
  ["developer", "system"],
  ["user", "user"],
  ["assistant", "assistant"],
  ["tool", "tool"],
]);

/** The runtime's request; throws InvalidRequestError naming the field that is wrong. */
export function toRuntimeRequest(params: ChatCompletionCreateParams): RuntimeRequest {
  const given = record(params, "the parameters");
  for (const [name, value] of Object.entries(given))
    if (value != null && !KNOWN.has(name)) throw refused(name);
  boolean(given, "stream");
  boolean(given, "parallel_tool_calls");
  boolean(given, "return_token_ids");
  if (given["stream_options"] != null) {
    if (given["stream"] !== true)
      throw new InvalidRequestError("`stream_options` needs `stream: true`.", "stream_options");
    boolean(
      record(given["stream_options"], "stream_options"),
      "include_usage",
      "stream_options.include_usage",
    );
  }
  const n = integer(given, "n", 1, MAX_CHOICES) ?? 1;

  const maxTokens = integer(given, "max_completion_tokens", 1) ?? integer(given, "max_tokens", 1);
  return defined({
    messages: messages(given["messages"]),
    max_tokens: maxTokens ?? null,
    context_overflow: overflow(given["context_overflow"], "context_overflow"),
    thinking_token_budget: integer(given, "thinking_token_budget", 0),
    temperature: number(given, "temperature", 0, 2) ?? 1,
    top_p: number(given, "top_p", Number.MIN_VALUE, 1) ?? 1,
    top_k: integer(given, "top_k", 0),
    min_p: number(given, "min_p", 0, 1),
    typical_p: number(given, "typical_p", Number.MIN_VALUE, 1),
    top_n_sigma: number(given, "top_n_sigma", -1, 100),
    xtc_probability: number(given, "xtc_probability", 0, 1),
    xtc_threshold: number(given, "xtc_threshold", 0, 1),
    dry_multiplier: number(given, "dry_multiplier", 0, 100),
    dry_base: number(given, "dry_base", 1, 100),
    dry_allowed_length: integer(given, "dry_allowed_length", 1),
    dry_penalty_last_n: integer(given, "dry_penalty_last_n", -1),
    dry_sequence_breakers: breakers(given["dry_sequence_breakers"]),
    dynatemp_range: number(given, "dynatemp_range", 0, 100),
    dynatemp_exponent: number(given, "dynatemp_exponent", 0, 100),
    mirostat: mirostat(given["mirostat"]),
    mirostat_tau: number(given, "mirostat_tau", 0, 100),
    mirostat_eta: number(given, "mirostat_eta", 0, 1),
    repetition_penalty: number(given, "repetition_penalty", Number.MIN_VALUE, 100),
    presence_penalty: number(given, "presence_penalty", -2, 2),
    frequency_penalty: number(given, "frequency_penalty", -2, 2),
    prediction: predicted(given["prediction"]),
    logit_bias: logitBias(given["logit_bias"]),
    seed: integer(given, "seed", 0) ?? null,
    stop: stops(given["stop"]),
    ...toolsOf(given),
    ...constraint(given),
    chat_template_kwargs: templateVariables(given),
    top_logprobs: topLogprobs(given),
    continue_ids: continued(given["continue_ids"], n),
  });
}

/** The tokens that an answer already has; undefined if there are none. */
function continued(value: unknown, n: number): number[] | undefined {
  if (value == null || (Array.isArray(value) && value.length === 0)) return undefined;
  if (!isIds(value))
    throw new InvalidRequestError("`continue_ids` must be a list of token ids.", "continue_ids");
  if (n > 1) throw new InvalidRequestError("`continue_ids` needs `n` to be 1.", "continue_ids");
  return value;
}

/** A text or several, or their tokens. */
export function prompts(value: unknown, name: string, most: number): (string | number[])[] {
  const list: unknown[] = Array.isArray(value) && !isIds(value) ? value : [value];
  if (list.length > 0 && list.length <= most && list.every(isPrompt)) return list;
  const some = `a text, a list of up to ${most} texts, or their tokens`;
  const message = `\`${name}\` must be ${some}; none may be empty.`;
  if (typeof value === "string") throw new InvalidRequestError(message, name);
  throw wrongList(message, name, value);
}

function isPrompt(value: unknown): value is string | number[] {
  return (typeof value === "string" && value !== "") || isIds(value);
}

function isIds(value: unknown): value is number[] {
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_ID;
  return Array.isArray(value) && value.length > 0 && value.every(isId);
}

/** Token ids as the runtime takes them. */
export function tokenIds(ids: ArrayLike<number>): Uint32Array {
  const list: unknown[] = Array.from(ids ?? []);
  if (!list.every((id) => Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_ID))
    throw new InvalidRequestError("Token ids are integers from 0.", "ids");
  return Uint32Array.from(list as number[]);
}

/** How many likely tokens are named for each of the answer; undefined if probabilities are not asked for. */
function topLogprobs(given: Given): number | undefined {
  boolean(given, "logprobs");
  const top = integer(given, "top_logprobs", 0, MAX_TOP_LOGPROBS);
  if (top !== undefined && given["logprobs"] !== true)
    throw new InvalidRequestError("`top_logprobs` needs `logprobs: true`.", "top_logprobs");
  return given["logprobs"] === true ? (top ?? 0) : undefined;
}

/** What the chat template gets besides the messages. */
function templateVariables(given: Given): Record<string, unknown> | undefined {
  const { reasoning_effort: effort, chat_template_kwargs: others } = given;
  if (effort == null && others == null) return undefined;
  if (effort != null && typeof effort !== "string")
    throw mistyped("`reasoning_effort` must be a text.", "reasoning_effort", effort);
  const variables = others == null ? {} : record(others, "chat_template_kwargs");
  return effort == null ? variables : { ...variables, reasoning_effort: effort };
}

/** The tools and how they may be called. Names and schemas are checked by the runtime. */
function toolsOf(given: Given): Pick<RuntimeRequest, "tools" | "tool_choice" | "parallel_tool_calls"> {
  const { tools, tool_choice: choice, parallel_tool_calls: parallel } = given;
  if (tools != null && !Array.isArray(tools)) throw mistyped("`tools` must be a list.", "tools", tools);
  const list = (tools ?? []) as unknown[];
  for (const [index, tool] of list.entries()) {
    const at = `tools[${index}]`;
    const { type, function: described } = record(tool, at);
    if (type !== "function")
      throw new InvalidRequestError(`\`${at}.type\` must be "function".`, `${at}.type`);
    record(described, `${at}.function`);
  }
  const name = typeof choice === "object" && choice !== null && "function" in choice;
  if (choice != null && !name && !["auto", "none", "required"].includes(choice as string))
    throw new InvalidRequestError(
      '`tool_choice` must be "auto", "none", "required" or { type: "function", function: { name } }.',
      "tool_choice",
    );
  if (list.length === 0 && (name || choice === "required"))
    throw new InvalidRequestError("`tool_choice` needs `tools`.", "tool_choice");
  if (list.length === 0) return {};
  return defined({
    tools: list as ChatTool[],
    tool_choice: (choice ?? undefined) as ChatToolChoice | undefined,
    parallel_tool_calls: (parallel ?? undefined) as boolean | undefined,
  });
}

/** `response_format` and `grammar`, of which a request has one. What they hold is checked by the runtime. */
function constraint(given: Given): Pick<RuntimeRequest, "response_format" | "grammar"> {
  const form = responseFormat(given["response_format"]);
  const grammar = grammarOf(given["grammar"]);
  if (form && grammar)
    throw new InvalidRequestError("Use either a `response_format` of JSON or a `grammar`.", "grammar");
  return defined({ response_format: form, grammar });
}

function responseFormat(value: unknown): ResponseFormat | undefined {
  if (value == null) return undefined;
  const format = record(value, "response_format");
  if (format["type"] === "text") return undefined;
  if (format["type"] === "json_object") return { type: "json_object" };
  if (format["type"] !== "json_schema")
    throw new InvalidRequestError(
      "`response_format.type` must be text, json_object or json_schema.",
      "response_format.type",
    );
  const named = record(format["json_schema"], "response_format.json_schema");
  const schema = record(named["schema"], "response_format.json_schema.schema");
  return { type: "json_schema", json_schema: { name: String(named["name"] ?? ""), schema } };
}

function grammarOf(value: unknown): Grammar | undefined {
  if (value == null) return undefined;
  const grammar = record(value, "grammar");
  const [first, ...others] = Object.entries(grammar);
  const [kind, text] = first ?? [];
  if (others.length === 0 && typeof text === "string") {
    if (kind === "regex") return { regex: wellFormed(text) };
    if (kind === "lark") return { lark: wellFormed(text) };
    if (kind === "gbnf") return { gbnf: wellFormed(text) };
  }
  throw new InvalidRequestError(
    "`grammar` must be { regex: text }, { lark: text } or { gbnf: text }.",
    "grammar",
  );
}

function messages(value: unknown): RuntimeMessage[] {
  if (!Array.isArray(value) || value.length === 0)
    throw wrongList("`messages` must be a list with at least one message.", "messages", value);
  return value.map((item: unknown, index) => {
    const at = `messages[${index}]`;
    const message = record(item, at);
    const role = ROLES.get(String(message["role"]));
    if (!role) {
      const wrong = `\`${at}.role\` must be one of ${[...ROLES.keys()].join(", ")}.`;
      if (typeof message["role"] !== "string") throw mistyped(wrong, `${at}.role`, message["role"]);
      throw new InvalidRequestError(wrong, `${at}.role`);
    }
    const { reasoning_content: reasoning } = message;
    if (reasoning != null && typeof reasoning !== "string")
      throw mistyped(`\`${at}.reasoning_content\` must be a text.`, `${at}.reasoning_content`, reasoning);
    const calls = role === "assistant" ? toolCalls(message["tool_calls"], `${at}.tool_calls`) : undefined;
    const said = message["content"];
    const text = calls && said == null ? "" : content(said, `${at}.content`);
    const { tool_call_id: id, name } = message;
    if (role === "tool" && typeof id !== "string")
      throw mistyped(`\`${at}.tool_call_id\` must be a text.`, `${at}.tool_call_id`, id);
    return defined({
      role,
      name: typeof name === "string" ? wellFormed(name) : undefined,
      content: text,
      reasoning_content: reasoning ? wellFormed(reasoning) : undefined,
      tool_calls: calls,
      tool_call_id: role === "tool" ? (id as string) : undefined,
    });
  });
}

/** The calls of an earlier answer. */
function toolCalls(value: unknown, at: string): ChatToolCall[] | undefined {
  if (value == null || (Array.isArray(value) && value.length === 0)) return undefined;
  if (!Array.isArray(value)) throw mistyped(`\`${at}\` must be a list.`, at, value);
  return value.map((item: unknown, index) => {
    const { id, function: called } = record(item, `${at}[${index}]`);
    const { name, arguments: json } = record(called, `${at}[${index}].function`);
    if (typeof id !== "string" || typeof name !== "string" || typeof json !== "string")
      throw new InvalidRequestError(
        `\`${at}[${index}]\` must be { id, type: "function", function: { name, arguments } }, all texts.`,
        `${at}[${index}]`,
      );
    return { id, type: "function", function: { name: wellFormed(name), arguments: wellFormed(json) } };
  });
}

/** Replaces lone surrogates, such as half an emoji, which are not valid text. */
function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}

function content(value: unknown, at: string): string {
  if (typeof value === "string") return wellFormed(value);
  if (!Array.isArray(value)) throw mistyped(`\`${at}\` must be a string or a list of text parts.`, at, value);
  return value
    .map((item: unknown, index) => {
      const part = record(item, `${at}[${index}]`);
      if (part["type"] !== "text" || typeof part["text"] !== "string")
        throw new InvalidRequestError(
          `\`${at}[${index}]\` must be { type: "text", text }.`,
          `${at}[${index}]`,
        );
      return wellFormed(part["text"]);
    })
    .join("");
}

/** The text of a prediction. */
function predicted(value: unknown): string | undefined {
  if (value == null) return undefined;
  const prediction = record(value, "prediction");
  if (prediction["type"] !== "content")
    throw new InvalidRequestError("`prediction.type` must be content.", "prediction.type");
  return content(prediction["content"], "prediction.content");
}

function stops(value: unknown): string[] {
  if (value == null) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > MAX_STOPS || !list.every((stop) => typeof stop === "string" && stop !== ""))
    throw new InvalidRequestError(
      `\`stop\` must be a text or up to ${MAX_STOPS} texts, none of them empty.`,
      "stop",
    );
  return (list as string[]).map(wellFormed);
}

function breakers(value: unknown): string[] | undefined {
  if (value == null) return undefined;
  const list: unknown[] = Array.isArray(value) ? value.map((item) => item as unknown) : [];
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  const fits = (text: unknown) => typeof text === "string" && text !== "" && bytes(text) <= MAX_BREAKER_BYTES;
  if (!Array.isArray(value) || list.length > MAX_BREAKERS || !list.every(fits))
    throw new InvalidRequestError(
      `\`dry_sequence_breakers\` must be up to ${MAX_BREAKERS} texts of 1 to ${MAX_BREAKER_BYTES} bytes.`,
      "dry_sequence_breakers",
    );
  return (list as string[]).map(wellFormed);
}

/** What becomes of a longer conversation, or undefined. */
export function overflow(value: unknown, name: string): ContextOverflow | undefined {
  if (value == null) return undefined;
  if (value !== "stop" && value !== "truncate" && value !== "shift")
    throw new InvalidRequestError(`\`${name}\` must be "stop", "truncate" or "shift".`, name);
  return value;
}

/** How keys and values are stored; f16 if it is not said. */
export function kvFormat(value: unknown): KvFormat {
  if (value == null) return "f16";
  if (value !== "f16" && value !== "q8_0" && value !== "q4_0")
    throw new InvalidRequestError('`kvFormat` must be "f16", "q8_0" or "q4_0".', "kvFormat");
  return value;
}

/** A response template as JSON; its keys are checked when the model is loaded. */
export function responseTemplate(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidRequestError("`responseTemplate` must be an object.", "responseTemplate");
  return JSON.stringify(value);
}

function mirostat(value: unknown): number | undefined {
  if (value == null) return undefined;
  if (value !== 0 && value !== 2)
    throw new InvalidRequestError("`mirostat` must be 0 (off) or 2.", "mirostat");
  return value;
}

function logitBias(value: unknown): Record<string, number> | undefined {
  if (value == null) return undefined;
  const bias = record(value, "logit_bias");
  const isId = (id: string) => /^\d{1,10}$/.test(id) && Number(id) <= MAX_ID;
  for (const [id, amount] of Object.entries(bias))
    if (!isId(id) || typeof amount !== "number" || !(Math.abs(amount) <= 100))
      throw new InvalidRequestError(
        "`logit_bias` maps token ids to numbers from -100 to 100.",
        `logit_bias.${id}`,
      );
  return bias as Record<string, number>;
}

type Given = Record<string, unknown>;

/** The error for a parameter that is not supported. */
export function refused(name: string): InvalidRequestError {
  const code = REFUSED.has(name) ? "unsupported_parameter" : "unknown_parameter";
  return new InvalidRequestError(`\`${name}\` is not supported.`, name, code);
}

/** The error for a parameter that is missing, or is of another type than it must be. */
export function mistyped(message: string, at: string, value: unknown): InvalidRequestError {
  return new InvalidRequestError(message, at, value == null ? "missing_required_parameter" : "invalid_type");
}

/** The error for a list that is missing, empty, too long or no list. */
export function wrongList(message: string, at: string, value: unknown): InvalidRequestError {
  if (!Array.isArray(value)) return mistyped(message, at, value);
  return new InvalidRequestError(message, at, value.length === 0 ? "empty_array" : "invalid_value");
}

/** An object, or an error that names the field. */
export function record(value: unknown, at: string): Given {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw mistyped(`\`${at}\` must be an object.`, at, value);
  return value as Given;
}

/** Checks that a parameter is true, false or absent. */
export function boolean(given: Given, name: string, at = name): void {
  const value = given[name];
  if (value != null && typeof value !== "boolean")
    throw mistyped(`\`${at}\` must be true or false.`, at, value);
}

function number(given: Given, name: string, min: number, max: number): number | undefined {
  const value = given[name];
  if (value == null) return undefined;
  if (typeof value !== "number" || !(value >= min && value <= max)) {
    const from = min === Number.MIN_VALUE ? "above 0" : `from ${min}`;
    const message = `\`${name}\` must be a number ${from} to ${max}.`;
    if (typeof value !== "number") throw mistyped(message, name, value);
    const code = value > max ? "decimal_above_max_value" : "decimal_below_min_value";
    throw new InvalidRequestError(message, name, code);
  }
  return value;
}

/** A parameter that is an integer, or undefined. */
export function integer(given: Given, name: string, min: number, max = Infinity): number | undefined {
  const value = given[name];
  if (value == null) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
    const to = max === Infinity ? "" : ` to ${max}`;
    const message = `\`${name}\` must be an integer from ${min}${to}.`;
    if (!Number.isInteger(value)) throw mistyped(message, name, value);
    const code = (value as number) < min ? "integer_below_min_value" : "integer_above_max_value";
    throw new InvalidRequestError(message, name, code);
  }
  return value as number;
}

function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined)) as T;
}
