/** Generates one answer. */
import { AbortedError, ContextLengthError, DeviceLostError, InternalError, OutOfMemoryError } from "nomoat";
import type { ChatCompletionChunk, ChatToolCall, Engine } from "nomoat";
import type { Answer, Ending, Message, ToolUse } from "../history/records";
import { throttle } from "../lib/throttle";
import { failEngine, recommendedSampling } from "./engine";
import { sampling } from "./sampling";
import { settings } from "./settings";
import { learnSpeed } from "./speed";
import { firstStart, laterStart, turns, withCalls } from "./turns";
import { MOST_ROUNDS, toolParams, toolsFor, use } from "./tools";
import { adapterUses } from "./adapters";
import { ask } from "./request";

/** An answer that is being written, for the screen. */
export interface Live {
  answer: Answer;
  /** How much of the prompt has been read; null once tokens come. */
  prefill: { done: number; total: number } | null;
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

/**
 * Answers the last question of `list`. Never rejects: an error is returned together with what was written
 * until then, and an empty answer is null. `isAgain`: the question has another answer already.
 * An error that ends the engine goes to the engine's state instead.
 */
export async function generate(
  engine: Engine,
  model: string,
  list: readonly Message[],
  place: Pick<Answer, "id" | "conversation" | "parent" | "createdAt">,
  isAgain: boolean,
  signal: AbortSignal,
  sink: Sink,
): Promise<{ answer: Answer | null; error: unknown }> {
  const answer: Answer = {
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
  let prefill: Live["prefill"] = { done: 0, total: 0 };
  const screen = throttle(SCREEN_INTERVAL, () => sink.update({ answer: { ...answer }, prefill }));
  const history = throttle(HISTORY_INTERVAL, () => sink.save({ ...answer }));
  const saveNow = () => {
    if (answer.content !== "" || answer.tools) sink.save({ ...answer });
  };
  // In the capture phase, so that it runs before the history's own handler, which keeps unsaved changes.
  addEventListener("pagehide", saveNow, { capture: true });
  sink.update({ answer: { ...answer }, prefill });

  let ending: Ending = "interrupted";
  let error: unknown = null;
  /** Takes what the model writes until it ends or calls tools. */
  const listen = async (stream: AsyncIterable<ChatCompletionChunk>): Promise<ChatToolCall[]> => {
    const calls: ChatToolCall[] = [];
    let firstTokenAt = 0;
    answer.completionTokens = 0;
    for await (const chunk of stream) {
      answer.omitted = chunk.omitted_messages ?? answer.omitted;
      const choice = chunk.choices[0];
      for (const { index, id = "", function: piece } of choice?.delta.tool_calls ?? []) {
        const { name = "", arguments: json } = piece;
        const call = (calls[index] ??= { id, type: "function", function: { name, arguments: "" } });
        call.function.arguments += json;
      }
      if (choice?.delta.content || choice?.delta.reasoning_content) {
        prefill = null;
        answer.content += choice.delta.content ?? "";
        if (choice.delta.reasoning_content)
          answer.reasoning = (answer.reasoning ?? "") + choice.delta.reasoning_content;
        answer.completionTokens += 1;
        if (firstTokenAt === 0) firstTokenAt = performance.now();
        const seconds = (performance.now() - firstTokenAt) / 1000;
        // The clock may not have advanced.
        if (answer.completionTokens > 1 && seconds > 0)
          answer.tokensPerSecond = (answer.completionTokens - 1) / seconds;
        screen.call();
        history.call();
      }
      if (choice?.finish_reason === "stop") ending = "stop";
      if (choice?.finish_reason === "length") ending = choice.context_full === true ? "context" : "length";
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
    return calls;
  };
  try {
    const { temperature, maxTokens, thinkingBudget, systemPrompt } = settings.value;
    const tools = toolsFor(engine);
    const withTools = tools.size > 0;
    const askFrom = (start: number, round: number) =>
      ask(
        engine,
        {
          messages: [
            ...turns(list.slice(start), systemPrompt, withTools),
            ...withCalls(answer, answer.tools ?? []),
          ],
          tools: withTools && {
            tools: toolParams(tools),
            tool_choice: round < MOST_ROUNDS ? "auto" : "none",
          },
          sampling: sampling(
            temperature,
            isAgain,
            recommendedSampling.peek(),
            engine.model.parameters || Infinity,
          ),
          temperature,
          maxTokens,
          thinkingBudget,
          adapters: adapterUses(),
        },
        {
          signal,
          onPrefill(done, total) {
            prefill = { done, total };
            screen.call();
          },
        },
      );
    // An engine on this device leaves out old messages by itself.
    const isRemote = engine.device.backend === "remote";
    if (isRemote) answer.omitted = firstStart(list);
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
    for (let round = 0; ; round++) {
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
    removeEventListener("pagehide", saveNow, { capture: true });
  }
  const fatal =
    error instanceof DeviceLostError || error instanceof OutOfMemoryError || error instanceof InternalError;
  if (fatal) failEngine(error);
  answer.ending = signal.aborted ? "stopped" : ending;
  const empty = answer.content === "" && !answer.tools && (error !== null || signal.aborted);
  return { answer: empty ? null : answer, error: fatal ? null : error };
}
