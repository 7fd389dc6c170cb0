/** Several choices of one request (`n`), each an answer of its own. They run together. */
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
  const answers = await all(request, n, options, whole);
  const [first] = answers;
  if (!first) throw new InternalError("There is no choice.");
  return {
    ...first,
    choices: answers.flatMap(({ choices }, index) => choices.map((choice) => ({ ...choice, index }))),
    usage: usageOf(answers.map(({ usage }) => usage)),
  };
}

/** One stream of `n` streamed answers. */
export async function streamedChoices(
  request: RuntimeRequest,
  n: number,
  told: Told,
  { signal: outer, ...options }: CompletionOptions = {},
  streamed: (request: RuntimeRequest, told: Told, options: CompletionOptions) => Promise<ChatStream>,
): Promise<ChatStream> {
  const controller = new AbortController();
  const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
  const answers = await all(request, n, { ...options, signal }, (one, own) =>
    streamed(one, { ...told, usage: true }, own),
  );
  const stream = new ChatStream(controller);
  const id = `chatcmpl-${randomId()}`;
  const usages: CompletionUsage[] = [];
  const read = async (answer: ChatStream, index: number) => {
    let last: ChatCompletionChunk | null = null;
    for await (const { usage, ...chunk } of answer) {
      const choices = chunk.choices.map((choice) => ({ ...choice, index }));
      last = { ...chunk, id, choices, ...(told.usage && { usage: null }) };
      if (usage) usages[index] = usage;
      else stream.push(last);
    }
    return last;
  };
  Promise.all(answers.map(read)).then(
    ([last]) => {
      if (told.usage && last) stream.push({ ...last, usage: usageOf(usages) });
      stream.end();
    },
    (error: unknown) => {
      controller.abort();
      stream.end(error);
    },
  );
  return stream;
}

/** Asks for `n` answers, each with its own seed. Only the first tells of its prompt, which they share. */
function all<T>(
  request: RuntimeRequest,
  n: number,
  { signal, onPrefill }: CompletionOptions,
  ask: (request: RuntimeRequest, options: CompletionOptions) => Promise<T>,
): Promise<T[]> {
  return together(seeded(request, n), signal, (one, own, i) =>
    ask(one, { signal: own, ...(i === 0 && onPrefill && { onPrefill }) }),
  );
}

/** The same request `n` times; with a seed, each has the next one. */
export function seeded(request: RuntimeRequest, n: number): RuntimeRequest[] {
  const { seed } = request;
  return Array.from({ length: n }, (_, i) => ({
    ...request,
    seed: seed === null ? null : (seed + i) % Number.MAX_SAFE_INTEGER,
  }));
}

/** Asks for all at once: the engine computes them together. If one fails, the others are aborted. */
export async function together<I, T>(
  items: readonly I[],
  outer: AbortSignal | undefined,
  ask: (item: I, signal: AbortSignal, index: number) => Promise<T>,
): Promise<T[]> {
  const controller = new AbortController();
  const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
  try {
    return await Promise.all(items.map((item, index) => ask(item, signal, index)));
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
