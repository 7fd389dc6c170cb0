/** OpenAI's `completions`: texts that continue a prompt, without a chat template. */
import { addUsages } from "../chat-builder.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  CompletionOptions,
  CompletionUsage,
  FinishReason,
} from "../chat.js";
import { InvalidRequestError } from "../errors.js";
import { boolean, integer, MAX_TOP_LOGPROBS, prompts } from "../request.js";
import type { RuntimeRequest } from "../runtime.js";
import { characters, textLogprobs, type TextLogprobs } from "./logprobs.js";

/** Parameters of `completions.create`: `prompt`, `echo`, and those of a chat that are not about messages. */
export type TextCompletionCreateParams = Omit<
  ChatCompletionCreateParams,
  "messages" | "max_completion_tokens" | "logprobs" | "top_logprobs" | "return_token_ids" | "continue_ids"
> & {
  /**
   * A text, or several, which are continued one after the other, or their tokens. Control tokens in a text
   * are parsed.
   */
  prompt: string | string[] | number[] | number[][];
  /** Most tokens to generate. Default 16. */
  max_tokens?: number | null;
  /** The text after the answer, for models that fill in the middle. */
  suffix?: string | null;
  /** Whether the answer begins with the prompt. */
  echo?: boolean | null;
  /**
   * Say of each token how likely it was, and name so many of the likeliest, up to 20; with `echo`, of the
   * prompt's tokens too.
   */
  logprobs?: number | null;
};

/** Parameters of a streamed completion. */
export type TextCompletionStreamParams = TextCompletionCreateParams & { stream: true };
/** Parameters of a completion in one piece. */
export type TextCompletionWholeParams = TextCompletionCreateParams & { stream?: false | null };

/** A completion, or a piece of a streamed one. */
export interface TextCompletion {
  id: string;
  object: "text_completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  /** One choice for each prompt; in a stream, one or none. */
  choices: {
    index: number;
    text: string;
    finish_reason: FinishReason | null;
    logprobs: TextLogprobs | null;
  }[];
  /** Of all prompts. In a stream: with `include_usage`, null, and the counts in the last piece. */
  usage?: CompletionUsage | null;
}

/** OpenAI's `completions`. */
export interface TextCompletions {
  /** A streamed completion; resolves when its generation starts. */
  create(
    params: TextCompletionStreamParams,
    options?: CompletionOptions,
  ): Promise<AsyncIterable<TextCompletion>>;
  /** A completion in one piece. */
  create(params: TextCompletionWholeParams, options?: CompletionOptions): Promise<TextCompletion>;
  create(
    params: TextCompletionCreateParams,
    options?: CompletionOptions,
  ): Promise<AsyncIterable<TextCompletion> | TextCompletion>;
}

/** Answers requests in the shapes of a chat. */
export interface Answering {
  /** The checked request of a chat; throws InvalidRequestError with the field that is wrong. */
  request(params: ChatCompletionCreateParams): RuntimeRequest;
  whole(request: RuntimeRequest, options?: CompletionOptions): Promise<ChatCompletion>;
  streamed(request: RuntimeRequest, options?: CompletionOptions): Promise<AsyncIterable<ChatCompletionChunk>>;
}

/** As many as `nomoat serve` takes. */
const MAX_PROMPTS = 128;

/** Parameters that a chat does not have, or has in another form. */
const OWN = new Set(["prompt", "suffix", "echo", "logprobs"]);

/** Parameters that only a chat has. */
const NOT_HERE = ["messages", "max_completion_tokens", "top_logprobs", "return_token_ids", "continue_ids"];

/** `completions` that are computed by `answering`. */
export function completionsOf(model: string, answering: Answering): TextCompletions {
  const create = async (params: TextCompletionCreateParams, options?: CompletionOptions) => {
    const { texts, requests, echo, usage } = checked(params, answering);
    const head = {
      id: `cmpl-${crypto.randomUUID().replaceAll("-", "")}`,
      object: "text_completion" as const,
      created: Math.floor(Date.now() / 1000),
      model,
    };
    if (params.stream) {
      const [first, ...others] = requests;
      const started = first && (await answering.streamed(first, options));
      const streams = async function* () {
        if (started) yield started;
        for (const request of others) yield await answering.streamed(request, options);
      };
      return pieces(head, streams(), echo ? texts : [], usage);
    }
    const choices: TextCompletion["choices"] = [];
    let sum = addUsages([]);
    for (const [index, request] of requests.entries()) {
      const answer = await answering.whole(request, options);
      const [choice] = answer.choices;
      const text = (echo ? (texts[index] ?? "") : "") + (choice?.message.content ?? "");
      const finish_reason = choice?.finish_reason ?? null;
      const logprobs = choice?.logprobs ? textLogprobs(choice.logprobs.content, 0) : null;
      choices.push({ index, text, finish_reason, logprobs });
      sum = addUsages([sum, answer.usage]);
    }
    return { ...head, choices, usage: sum };
  };
  return { create: create as TextCompletions["create"] };
}

/** The pieces of all streams, one stream after the other. */
async function* pieces(
  head: Omit<TextCompletion, "choices">,
  streams: AsyncIterable<AsyncIterable<ChatCompletionChunk>>,
  echoed: string[],
  wantsUsage: boolean,
): AsyncGenerator<TextCompletion, void> {
  const none = wantsUsage ? { usage: null } : {};
  let index = 0;
  let usage = addUsages([]);
  for await (const stream of streams) {
    let offset = 0;
    const piece = (
      text: string,
      finish_reason: FinishReason | null,
      logprobs: TextLogprobs | null = null,
    ): TextCompletion => ({ ...head, choices: [{ index, text, finish_reason, logprobs }], ...none });
    const prompt = echoed[index];
    if (prompt) yield piece(prompt, null);
    for await (const chunk of stream) {
      if (chunk.usage) usage = addUsages([usage, chunk.usage]);
      const [choice] = chunk.choices;
      const text = choice?.delta.content ?? "";
      const list = choice?.logprobs?.content;
      const logprobs = list ? textLogprobs(list, offset) : null;
      for (const { token } of list ?? []) offset += characters(token);
      if (text || logprobs || choice?.finish_reason)
        yield piece(text, choice?.finish_reason ?? null, logprobs);
    }
    index += 1;
  }
  if (wantsUsage) yield { ...head, choices: [], usage };
}

/** The runtime's requests, one for each prompt; throws InvalidRequestError with the field that is wrong. */
function checked(params: TextCompletionCreateParams, answering: Answering) {
  const given: Record<string, unknown> = { ...params };
  const { prompt, suffix, echo } = given;
  const inputs = prompts(prompt, "prompt", MAX_PROMPTS);
  boolean(given, "echo");
  if (given["n"] != null && given["n"] !== 1)
    throw new InvalidRequestError("`n` must be 1: one text for a prompt.", "n");
  const texts = inputs.filter((input) => typeof input === "string");
  if (echo && texts.length < inputs.length)
    throw new InvalidRequestError("`echo` needs prompts that are texts.", "echo");
  for (const name of NOT_HERE)
    if (given[name] != null) throw new InvalidRequestError(`\`${name}\` is not supported.`, name);
  if (suffix != null && typeof suffix !== "string")
    throw new InvalidRequestError("`suffix` must be a text.", "suffix");
  if (suffix && echo) throw new InvalidRequestError("`suffix` and `echo` exclude each other.", "suffix");
  // The only value of a parameter that is not supported with which nothing is asked for.
  if (given["best_of"] === 1) delete given["best_of"];
  const logprobs = integer(given, "logprobs", 0, MAX_TOP_LOGPROBS);
  for (const name of OWN) delete given[name];
  const scored = logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs };
  const max_tokens = params.max_tokens ?? 16;
  const requests = inputs.map((input): RuntimeRequest => {
    // Everything but the prompt is checked as in a chat, and is the same there.
    const content = typeof input === "string" ? input : "";
    const chat = { ...given, ...scored, max_tokens, messages: [{ role: "user" as const, content }] };
    const { messages, ...request } = answering.request(chat);
    const prompt_logprobs = echo === true && logprobs !== undefined;
    return {
      ...request,
      ...(prompt_logprobs && { prompt_logprobs }),
      ...(suffix && { suffix }),
      prompt: typeof input === "string" ? (messages?.[0]?.content ?? "") : input,
    };
  });
  const usage = params.stream_options?.include_usage === true;
  return { texts, requests, echo: echo === true, usage };
}
