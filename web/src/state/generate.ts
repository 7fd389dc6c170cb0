/** Generates one answer. */
import { AbortedError, DeviceLostError, InternalError, OutOfMemoryError } from "nomoat";
import type { Engine } from "nomoat";
import type { Answer, Ending, Message } from "../history/records";
import { throttle } from "../lib/throttle";
import { turns } from "./turns";
import { failEngine, recommendedSampling } from "./engine";
import { sampling } from "./sampling";
import { settings } from "./settings";
import { learnSpeed } from "./speed";
import { adapterUses } from "./adapters";

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
    if (answer.content !== "") sink.save({ ...answer });
  };
  // In the capture phase, so that it runs before the history's own handler, which keeps unsaved changes.
  addEventListener("pagehide", saveNow, { capture: true });
  sink.update({ answer: { ...answer }, prefill });

  let ending: Ending = "interrupted";
  let firstTokenAt = 0;
  let error: unknown = null;
  try {
    const { temperature, maxTokens, thinkingBudget, systemPrompt } = settings.value;
    const stream = await engine.chat.completions.create(
      {
        messages: turns(list, systemPrompt),
        stream: true,
        stream_options: { include_usage: true },
        ...sampling(temperature, isAgain, recommendedSampling.peek()),
        max_tokens: maxTokens,
        thinking_token_budget: thinkingBudget,
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
    for await (const chunk of stream) {
      answer.omitted = chunk.omitted_messages ?? answer.omitted;
      const choice = chunk.choices[0];
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
  const empty = answer.content === "" && (error !== null || signal.aborted);
  return { answer: empty ? null : answer, error: fatal ? null : error };
}
