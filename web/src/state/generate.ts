/** Generates one answer. */
import { AbortedError, ContextLengthError, DeviceLostError, InternalError, OutOfMemoryError } from "nomoat";
import type { ChatCompletionChunk, ChatStream, ChatToolCall, Engine } from "nomoat";
import type { Answer, Ending, Message, ToolUse } from "../history/records";
import type { Resume } from "../history/resume";
import { throttle } from "../lib/throttle";
import { adapterUses } from "./adapters";
import { digestOf, Draft, isInterrupted, messagesFor, type Interrupted } from "./draft";
import { failEngine, recommendedSampling } from "./engine";
import { onLeave } from "./history";
import { ask } from "./request";
import { sampling } from "./sampling";
import { settings } from "./settings";
import { learnSpeed } from "./speed";
import { MOST_ROUNDS, toolParams, toolsFor, use } from "./tools";
import { firstStart, laterStart } from "./turns";

/** An answer that is being written, for the screen. */
export interface Live {
  answer: Answer;
  /** How much of the prompt has been read; null once tokens come. */
  prefill: { done: number; total: number } | null;
  /** Another page has begun it. */
  continues: boolean;
}

/** Receives a running answer. */
export interface Sink {
  /** For the screen, at most every 50 ms. */
  update(live: Live): void;
  /** For the history, at most every second. */
  save(partial: Answer): void;
}

/** Milliseconds between two updates of the screen, and of the history. */
const SCREEN_INTERVAL = 50;
const HISTORY_INTERVAL = 1000;

/** A new answer, before its first token. */
export function newAnswer(
  place: Pick<Answer, "id" | "conversation" | "parent" | "createdAt">,
  model: string,
): Answer {
  return {
    ...place,
    role: "assistant",
    content: "",
    model,
    ending: null,
    promptTokens: null,
    cachedTokens: 0,
    completionTokens: 0,
    tokensPerSecond: null,
    omitted: 0,
  };
}

/**
 * Answers the last question of `list`, or continues an answer to it. Never rejects: an error is returned
 * together with what was written until then, and an empty answer is null. `isAgain`: the question has another
 * answer already. An error that ends the engine goes to the engine's state instead.
 */
export async function generate(
  engine: Engine,
  list: readonly Message[],
  begun: Answer | Interrupted,
  isAgain: boolean,
  signal: AbortSignal,
  sink: Sink,
): Promise<{ answer: Answer | null; error: unknown }> {
  const continued = isInterrupted(begun) ? begun.resume : null;
  const draft = new Draft(begun);
  const { answer } = draft;
  const isWritten = () => answer.content !== "" || answer.reasoning !== undefined || Boolean(answer.tools);
  let prefill: Live["prefill"] = { done: 0, total: 0 };
  const continues = continued !== null;
  const show = () => sink.update({ answer: { ...answer }, prefill, continues });
  const screen = throttle(SCREEN_INTERVAL, show);
  const history = throttle(HISTORY_INTERVAL, () => sink.save(draft.record()));
  let isGone = false;
  const stay = onLeave(({ persisted }) => {
    isGone = !persisted;
    if (isWritten()) sink.save(draft.record());
  });
  show();
  // So that the page knows that it tried, if this is what ends it.
  if (continues) sink.save(draft.record());

  let ending: Ending = "interrupted";
  let error: unknown = null;
  /** Takes what the model writes until it ends or calls tools. */
  const listen = async (stream: AsyncIterable<ChatCompletionChunk>): Promise<ChatToolCall[]> => {
    for await (const chunk of stream) {
      answer.omitted = chunk.omitted_messages ?? answer.omitted;
      const choice = chunk.choices[0];
      if (draft.take(chunk)) {
        prefill = null;
        screen.call();
        history.call();
      }
      if (choice?.finish_reason === "stop") ending = "stop";
      if (choice?.finish_reason === "length") ending = choice.context_full === true ? "context" : "length";
      if (ending !== "interrupted") answer.ending = ending;
      if (chunk.usage) {
        answer.promptTokens = chunk.usage.prompt_tokens;
        answer.cachedTokens = chunk.usage.prompt_tokens_details?.cached_tokens ?? 0;
        answer.completionTokens = chunk.usage.completion_tokens;
      }
      const rate = chunk.timings?.decode_tokens_per_second ?? 0;
      if (rate > 0) answer.tokensPerSecond = rate;
      const { backend } = engine.device;
      if (chunk.usage && backend !== "remote")
        learnSpeed(backend, engine.model.bytesPerToken, answer.completionTokens, rate);
    }
    return draft.calls;
  };
  try {
    const { temperature, maxTokens, thinkingBudget } = settings.value;
    const tools = toolsFor(engine);
    const offered = toolParams(tools);
    const adapters = continued === null ? adapterUses() : [];
    const request: Resume["request"] = continued?.request ?? {
      sampling: sampling(temperature, isAgain, recommendedSampling.peek(), engine.model.parameters),
      seed: crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
      maxTokens,
      thinkingBudget,
    };
    // An engine on this device leaves out old messages by itself.
    const isRemote = engine.device.backend === "remote";
    if (isRemote) answer.omitted = firstStart(list);
    const askFrom = async (start: number, round: number): Promise<ChatStream> => {
      const isBegun = draft.resume?.round === round;
      const content = isBegun ? answer.content.slice(0, draft.resume?.at) : answer.content;
      const { tools: calls } = answer;
      const messages = messagesFor(list.slice(start), { content, tools: calls }, tools.size > 0);
      if (!isBegun) {
        // What adapters were is not known later.
        const digest = adapters.length > 0 ? null : await digestOf(engine, messages, offered);
        draft.begin(round, request, digest);
      }
      signal.throwIfAborted();
      return ask(
        engine,
        {
          messages,
          tools: tools.size > 0 && {
            tools: offered,
            tool_choice: round < MOST_ROUNDS ? "auto" : "none",
          },
          sampling: request.sampling,
          temperature,
          maxTokens: request.maxTokens,
          thinkingBudget: request.thinkingBudget,
          adapters,
          tokens: { seed: request.seed, ids: draft.resume?.ids ?? [] },
        },
        {
          signal,
          onPrefill(done, total) {
            prefill = { done, total };
            screen.call();
          },
        },
      );
    };
    const begin = async (round: number) => {
      for (;;) {
        try {
          return await askFrom(isRemote ? answer.omitted : 0, round);
        } catch (reason) {
          const later =
            isRemote && reason instanceof ContextLengthError ? laterStart(list, answer.omitted) : null;
          if (later === null) throw reason;
          answer.omitted = later;
        }
      }
    };
    for (let round = continued?.round ?? 0; ; round++) {
      const calls = await listen(await begin(round));
      if (calls.length === 0) break;
      // One after the other: each may need the person's agreement.
      const before = answer.tools ?? [];
      const done: ToolUse[] = [];
      for (const call of calls) {
        const place = { round, at: answer.content.length };
        const report = (used: ToolUse) => {
          answer.tools = [...before, ...done, used];
          screen.call();
          history.call();
        };
        done.push(await use(tools, call, place, signal, report));
      }
      signal.throwIfAborted();
      prefill = { done: 0, total: 0 };
    }
  } catch (reason) {
    // Aborted without the signal: the model was replaced during the answer, which is then marked as
    // interrupted.
    if (!signal.aborted && !(reason instanceof AbortedError)) error = reason;
  } finally {
    screen.cancel();
    history.cancel();
    stay();
  }
  // The page's end has ended the engine. What was saved is what goes on.
  if (isGone) await new Promise(() => undefined);
  const fatal =
    error instanceof DeviceLostError || error instanceof OutOfMemoryError || error instanceof InternalError;
  if (fatal) failEngine(error);
  answer.ending = signal.aborted ? "stopped" : ending;
  const empty = !isWritten() && (error !== null || signal.aborted);
  return { answer: empty ? null : answer, error: fatal ? null : error };
}
