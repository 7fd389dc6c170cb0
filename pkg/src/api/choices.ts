/** Several answers of one call, such as the choices of `n`. They run together. */
import type { ChatCompletion, ChatCompletionChunk, CompletionOptions, CompletionUsage } from "../chat.js";
import { addUsages, type Told } from "../chat-builder.js";
import { InternalError } from "../errors.js";
import { randomId } from "../id.js";
import type { RuntimeRequest } from "../runtime.js";
import { ChatStream } from "../stream.js";

/** `n` answers as one. */
export async function wholeChoices(
  request: RuntimeRequest,
  n: number,
  options: CompletionOptions = {},
  whole: (request: RuntimeRequest, options: CompletionOptions) => Promise<ChatCompletion>,
): Promise<ChatCompletion> {
  const answers = await together(seeded(request, n), options, whole);
  const [first] = answers;
  if (!first) throw new InternalError("There is no choice.");
  return {
    ...first,
    choices: answers.flatMap(({ choices }, index) => choices.map((choice) => ({ ...choice, index }))),
    usage: usageOf(answers.map(({ usage }) => usage)),
  };
}

/** One stream of `n` streamed answers. */
export function streamedChoices(
  request: RuntimeRequest,
  n: number,
  told: Told,
  options: CompletionOptions = {},
  streamed: (request: RuntimeRequest, told: Told, options: CompletionOptions) => Promise<ChatStream>,
): Promise<ChatStream> {
  const id = `chatcmpl-${randomId()}`;
  return streamedTogether(
    seeded(request, n),
    options,
    (one, own) => streamed(one, { ...told, usage: true }, own),
    (chunk) => ({ ...chunk, id, ...(told.usage && { usage: null }) }),
    (usages) => (told.usage ? usageOf(usages) : null),
  );
}

/**
 * One stream of several answers, whose chunks are changed by `each`. `ask` must ask for counts; `count` makes
 * those of the last chunk of them, or none.
 */
export async function streamedTogether<I>(
  items: readonly I[],
  { signal: outer, ...options }: CompletionOptions,
  ask: (item: I, options: CompletionOptions) => Promise<ChatStream>,
  each: (chunk: ChatCompletionChunk) => ChatCompletionChunk,
  count: (usages: CompletionUsage[]) => CompletionUsage | null,
): Promise<ChatStream> {
  const controller = new AbortController();
  const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
  const answers = await together(items, { ...options, signal }, ask);
  const stream = new ChatStream(controller);
  const usages: CompletionUsage[] = [];
  const read = async (answer: ChatStream, index: number) => {
    let last: ChatCompletionChunk | null = null;
    for await (const { usage, ...chunk } of answer) {
      last = each({ ...chunk, choices: chunk.choices.map((choice) => ({ ...choice, index })) });
      if (usage) usages[index] = usage;
      else stream.push(last);
    }
    return last;
  };
  Promise.all(answers.map(read)).then(
    ([last]) => {
      const usage = count(usages);
      if (usage && last) stream.push({ ...last, usage });
      stream.end();
    },
    (error: unknown) => {
      controller.abort();
      stream.end(error);
    },
  );
  return stream;
}

/** The same request `n` times; with a seed, each has the next one. */
export function seeded(request: RuntimeRequest, n: number): RuntimeRequest[] {
  const { seed } = request;
  return Array.from({ length: n }, (_, i) => ({
    ...request,
    seed: seed === null ? null : (seed + i) % Number.MAX_SAFE_INTEGER,
  }));
}

/**
 * Asks for all at once: the engine computes them together. If one fails, the others are aborted. Only the
 * first tells of its prompt.
 */
export async function together<I, T>(
  items: readonly I[],
  { signal: outer, onPrefill }: CompletionOptions,
  ask: (item: I, options: CompletionOptions & { signal: AbortSignal }) => Promise<T>,
): Promise<T[]> {
  const controller = new AbortController();
  const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
  const one = (item: I, index: number) =>
    ask(item, { signal, ...(index === 0 && onPrefill && { onPrefill }) });
  try {
    return await Promise.all(items.map(one));
  } catch (error) {
    controller.abort();
    throw error;
  }
}

/** Counts of the choices of one prompt, which counts once. */
export function usageOf(usages: CompletionUsage[]): CompletionUsage {
  const sum = addUsages(usages);
  const { prompt_tokens, prompt_tokens_details } = usages[0] ?? sum;
  const total_tokens = prompt_tokens + sum.completion_tokens;
  return { ...sum, prompt_tokens, total_tokens, prompt_tokens_details };
}
