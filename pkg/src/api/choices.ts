/** Several choices of one request (`n`), each an answer of its own. They run together. */
import type { ChatCompletion, ChatCompletionChunk, CompletionUsage } from "../chat.js";
import { InternalError } from "../errors.js";
import { randomId } from "../id.js";
import type { RuntimeRequest } from "../runtime.js";
import { ChatStream } from "../stream.js";

/** The requests of `n` choices. With a seed, each choice has the next one. */
export function choicesOf(request: RuntimeRequest, n: number): RuntimeRequest[] {
  const { seed } = request;
  return Array.from({ length: n }, (_, i) => ({
    ...request,
    seed: seed === null ? null : (seed + i) % Number.MAX_SAFE_INTEGER,
  }));
}

/** Waits for all; if one fails, the others are aborted. */
export async function all<T>(
  outer: AbortSignal | undefined,
  requests: RuntimeRequest[],
  ask: (request: RuntimeRequest, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const controller = new AbortController();
  const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
  try {
    return await Promise.all(requests.map((request) => ask(request, signal)));
  } catch (error) {
    controller.abort();
    throw error;
  }
}

/** One completion of the completions of all choices. */
export function joined(answers: ChatCompletion[]): ChatCompletion {
  const [first] = answers;
  if (!first) throw new InternalError("There is no choice.");
  return {
    ...first,
    choices: answers.flatMap(({ choices }, index) => choices.map((choice) => ({ ...choice, index }))),
    usage: usageOf(answers.map(({ usage }) => usage)),
  };
}

/** One stream of the streams of all choices, each of which tells its usage. */
export function joinedStream(
  answers: ChatStream[],
  controller: AbortController,
  includeUsage: boolean,
): ChatStream {
  const stream = new ChatStream(controller);
  const id = `chatcmpl-${randomId()}`;
  const usages: CompletionUsage[] = [];
  const read = async (answer: ChatStream, index: number) => {
    let last: ChatCompletionChunk | null = null;
    for await (const { usage, ...chunk } of answer) {
      const choices = chunk.choices.map((choice) => ({ ...choice, index }));
      last = { ...chunk, id, choices, ...(includeUsage && { usage: null }) };
      if (usage) usages[index] = usage;
      else stream.push(last);
    }
    return last;
  };
  Promise.all(answers.map(read)).then(
    ([last]) => {
      if (includeUsage && last) stream.push({ ...last, usage: usageOf(usages) });
      stream.end();
    },
    (error: unknown) => {
      controller.abort();
      stream.end(error);
    },
  );
  return stream;
}

/** The prompt counts once. */
function usageOf(usages: CompletionUsage[]): CompletionUsage {
  const completion_tokens = usages.reduce((sum, usage) => sum + usage.completion_tokens, 0);
  const { prompt_tokens = 0, prompt_tokens_details = { cached_tokens: 0 } } = usages[0] ?? {};
  const total_tokens = prompt_tokens + completion_tokens;
  return { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details };
}
