/** OpenAI's `completions`: texts that continue a prompt, without a chat template. */
import { addUsages } from "../chat-builder.js";
import type {
  ChatCompletion,
  ChatCompletionCreateParams,
  CompletionOptions,
  CompletionUsage,
  FinishReason,
} from "../chat.js";
import { InvalidRequestError } from "../errors.js";
import { randomId } from "../id.js";
import { boolean, integer, MAX_TOP_LOGPROBS, mistyped, prompts, refused } from "../request.js";
import type { RuntimeRequest } from "../runtime.js";
import type { ChatStream } from "../stream.js";
import { seeded, streamedTogether, together, usageOf } from "./choices.js";
import { characters, textLogprobs, type TextLogprobs } from "./logprobs.js";

/** Parameters of `completions.create`: `prompt`, `echo`, and those of a chat that are not about messages. */
export type TextCompletionCreateParams = Omit<
  ChatCompletionCreateParams,
  "messages" | "max_completion_tokens" | "logprobs" | "top_logprobs" | "return_token_ids" | "continue_ids"
> & {
  /**
   * A text, or several, or their tokens. All are continued at once. Control tokens in a text are parsed.
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
  /** `n` choices for each prompt; in a stream, one or none. */
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
  streamed(request: RuntimeRequest, options?: CompletionOptions): Promise<ChatStream>;
}

/** As many as `nomoat serve` takes. */
const MAX_CHOICES = 128;

/** Parameters that a chat does not have, or has in another form. */
const OWN = new Set(["prompt", "suffix", "echo", "logprobs"]);

/** Parameters that only a chat has. */
const NOT_HERE = ["messages", "max_completion_tokens", "top_logprobs", "return_token_ids", "continue_ids"];

/** `completions` that are computed by `answering`. */
export function completionsOf(model: string, answering: Answering): TextCompletions {
  const create = async (params: TextCompletionCreateParams, options: CompletionOptions = {}) => {
    const { requests, n, echoed, usage: wantsUsage } = checked(params, answering);
    const head = {
      id: `cmpl-${randomId()}`,
      object: "text_completion" as const,
      created: Math.floor(Date.now() / 1000),
      model,
    };
    if (params.stream) {
      const stream = await streamedTogether(
        requests,
        options,
        (request, own) => answering.streamed(request, own),
        (chunk) => chunk,
        (usages) => usageOfAll(usages, n),
      );
      return pieces(head, stream, echoed, wantsUsage);
    }
    const answers = await together(requests, options, (request, own) => answering.whole(request, own));
    const choices = answers.map(({ choices: [choice] }, index) => ({
      index,
      text: (echoed[index] ?? "") + (choice?.message.content ?? ""),
      finish_reason: choice?.finish_reason ?? null,
      logprobs: choice?.logprobs ? textLogprobs(choice.logprobs.content, 0) : null,
    }));
    const usages = answers.map(({ usage }) => usage);
    return { ...head, choices, usage: usageOfAll(usages, n) };
  };
  return { create: create as TextCompletions["create"] };
}

/** The pieces of all answers, as they come. */
async function* pieces(
  head: Omit<TextCompletion, "choices">,
  stream: ChatStream,
  echoed: string[],
  wantsUsage: boolean,
): AsyncGenerator<TextCompletion, void> {
  const none = wantsUsage ? { usage: null } : {};
  const piece = (
    index: number,
    text: string,
    finish_reason: FinishReason | null,
    logprobs: TextLogprobs | null = null,
  ): TextCompletion => ({ ...head, choices: [{ index, text, finish_reason, logprobs }], ...none });
  const offsets: number[] = [];
  try {
    for (const [index, prompt] of echoed.entries()) if (prompt) yield piece(index, prompt, null);
    for await (const { choices, usage } of stream) {
      for (const { index, delta, finish_reason, logprobs: scored } of choices) {
        const text = delta.content ?? "";
        const list = scored?.content;
        const offset = offsets[index] ?? 0;
        const logprobs = list ? textLogprobs(list, offset) : null;
        offsets[index] = (list ?? []).reduce((sum, { token }) => sum + characters(token), offset);
        if (text || logprobs || finish_reason) yield piece(index, text, finish_reason, logprobs);
      }
      if (usage && wantsUsage) yield { ...head, choices: [], usage };
    }
  } finally {
    // Also where the loop is left before the first piece of an answer.
    stream.controller.abort();
  }
}

/** Counts of all choices, of which each prompt has `n`. */
function usageOfAll(usages: CompletionUsage[], n: number): CompletionUsage {
  const ofPrompt = (_: unknown, i: number) => usageOf(usages.slice(i * n, (i + 1) * n));
  return addUsages(Array.from({ length: usages.length / n }, ofPrompt));
}

/** The runtime's requests, `n` for each prompt; throws InvalidRequestError with the field that is wrong. */
function checked(params: TextCompletionCreateParams, answering: Answering) {
  const given: Record<string, unknown> = { ...params };
  const { prompt, suffix, echo } = given;
  const inputs = prompts(prompt, "prompt", MAX_CHOICES);
  boolean(given, "echo");
  const n = integer(given, "n", 1, Math.floor(MAX_CHOICES / inputs.length)) ?? 1;
  const texts = inputs.filter((input) => typeof input === "string");
  if (echo && texts.length < inputs.length)
    throw new InvalidRequestError("`echo` needs prompts that are texts.", "echo");
  for (const name of NOT_HERE) if (given[name] != null) throw refused(name);
  if (suffix != null && typeof suffix !== "string")
    throw mistyped("`suffix` must be a text.", "suffix", suffix);
  if (suffix && echo) throw new InvalidRequestError("`suffix` and `echo` exclude each other.", "suffix");
  // The only value of a parameter that is not supported with which nothing is asked for.
  if (given["best_of"] === 1) delete given["best_of"];
  const logprobs = integer(given, "logprobs", 0, MAX_TOP_LOGPROBS);
  for (const name of OWN) delete given[name];
  const scored = logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs };
  const max_tokens = params.max_tokens ?? 16;
  const requests = inputs.flatMap((input): RuntimeRequest[] => {
    // Everything but the prompt is checked as in a chat, and is the same there.
    const content = typeof input === "string" ? input : "";
    const chat = { ...given, ...scored, max_tokens, messages: [{ role: "user" as const, content }] };
    const { messages, ...request } = answering.request(chat);
    const prompt_logprobs = echo === true && logprobs !== undefined;
    const whole = {
      ...request,
      ...(prompt_logprobs && { prompt_logprobs }),
      ...(suffix && { suffix }),
      prompt: typeof input === "string" ? (messages?.[0]?.content ?? "") : input,
    };
    return seeded(whole, n);
  });
  const usage = params.stream_options?.include_usage === true;
  const echoed = echo ? texts.flatMap((text) => Array.from({ length: n }, () => text)) : [];
  return { requests, n, echoed, usage };
}
