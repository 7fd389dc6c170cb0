/** A session of the Prompt API: a conversation that an engine answers. */
import type { ChatCompletionStreamParams, ChatMessage, ChatToolCall } from "../chat.js";
import type { Engine } from "../engine-types.js";
import { ContextLengthError } from "../errors.js";
import type { ChatStream } from "../stream.js";
import { abortable, inDom, quotaExceeded } from "./errors.js";
import { constraintOf, isBegun, messagesOf } from "./input.js";
import { chatTools, collect, execute } from "./tools.js";
import type {
  LanguageModelPrompt,
  LanguageModelPromptOptions,
  LanguageModelSession,
  LanguageModelTool,
  SamplingMode,
} from "./types.js";

/** What stays the same in a session and its copies. */
export interface SessionSetup {
  engine: Engine;
  topK: number;
  temperature: number;
  samplingMode: SamplingMode | "default";
  tools: readonly LanguageModelTool[];
  /** The session's own messages come first and are never left out. */
  initial: readonly ChatMessage[];
}

/** @internal */
export class Session extends EventTarget implements LanguageModelSession {
  readonly #setup: SessionSetup;
  /** Messages after the initial ones. */
  #turns: readonly ChatMessage[] = [];
  #usage = 0;
  /** Ends what runs, and says that the session is destroyed. */
  readonly #end = new AbortController();
  /** Prompts are answered one after the other. It never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  oncontextoverflow: ((event: Event) => void) | null = null;

  constructor(setup: SessionSetup) {
    super();
    this.#setup = setup;
    this.addEventListener("contextoverflow", (event) => this.oncontextoverflow?.(event));
  }

  get contextUsage() {
    return this.#usage;
  }
  get inputUsage() {
    return this.#usage;
  }
  get contextWindow() {
    return this.#setup.engine.model.contextLength;
  }
  get inputQuota() {
    return this.contextWindow;
  }
  get topK() {
    return this.#setup.topK;
  }
  get temperature() {
    return this.#setup.temperature;
  }
  get samplingMode() {
    return this.#setup.samplingMode;
  }

  /** Counts the tools and the initial messages. */
  async measure(): Promise<void> {
    const { engine, initial, tools } = this.#setup;
    const told = tools.length > 0 ? await engine.tokenize(JSON.stringify(chatTools(tools))) : [];
    this.#usage = told.length + (await this.#count(initial));
    if (this.#usage > this.contextWindow) throw quotaExceeded(this.#usage, this.contextWindow);
  }

  async prompt(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<string> {
    let answer = "";
    for await (const text of this.#answer(input, options)) answer += text;
    return answer;
  }

  promptStreaming(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): ReadableStream<string> {
    this.#signal(options.signal).throwIfAborted();
    const texts = this.#answer(input, options);
    return new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await texts.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          controller.error(error);
        }
      },
      async cancel() {
        await texts.return(undefined);
      },
    });
  }

  async append(input: LanguageModelPrompt, options: { signal?: AbortSignal } = {}): Promise<void> {
    const signal = this.#signal(options.signal);
    const leave = await this.#turn(signal);
    try {
      const messages = messagesOf(input, this.#hasMessages);
      const requested = this.#usage + (await abortable(this.#count(messages), signal));
      if (requested > this.contextWindow) throw quotaExceeded(requested, this.contextWindow);
      this.#turns = [...this.#turns, ...messages];
      this.#usage = requested;
    } finally {
      leave();
    }
  }

  async measureContextUsage(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): Promise<number> {
    constraintOf(options);
    return abortable(this.#count(messagesOf(input, false)), this.#signal(options.signal));
  }

  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  async clone({ signal }: { signal?: AbortSignal } = {}): Promise<LanguageModelSession> {
    this.#signal(signal).throwIfAborted();
    const copy = new Session(this.#setup);
    copy.#turns = this.#turns;
    copy.#usage = this.#usage;
    return copy;
  }

  destroy(): void {
    this.end(new DOMException("The session is destroyed.", "AbortError"));
  }

  /** Destroys the session for this reason. */
  end(reason: unknown): void {
    this.#end.abort(reason);
  }

  /** Generates an answer. Prompt and answer become part of the session if the answer is completed. */
  async *#answer(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions,
  ): AsyncGenerator<string, void> {
    const { temperature, topK, tools } = this.#setup;
    const signal = this.#signal(options.signal);
    const leave = await this.#turn(signal);
    try {
      const asked = messagesOf(input, this.#hasMessages);
      let begun = isBegun(input) ? String(asked.pop()?.content) : "";
      // What is begun is the answer, not what the model thinks before it.
      let more: Partial<ChatCompletionStreamParams> =
        begun === ""
          ? {}
          : {
              continue_ids: await abortable(this.#idsOf(begun), signal),
              chat_template_kwargs: { enable_thinking: false },
            };
      const params: Omit<ChatCompletionStreamParams, "messages"> = {
        stream: true,
        stream_options: { include_usage: true },
        temperature,
        top_k: topK,
        ...(tools.length > 0 && { tools: chatTools(tools) }),
        ...constraintOf(options),
      };
      for (let isAnswered = false; !isAnswered;) {
        let content = begun;
        const calls: ChatToolCall[] = [];
        for await (const chunk of await this.#start(asked, { ...params, ...more }, signal)) {
          const delta = chunk.choices[0]?.delta;
          const piece = delta?.content ?? "";
          content += piece;
          collect(calls, delta?.tool_calls);
          if (chunk.usage) this.#usage = chunk.usage.total_tokens;
          if (piece) yield piece;
        }
        [begun, more] = ["", {}];
        isAnswered = calls.length === 0;
        asked.push({ role: "assistant", content, ...(!isAnswered && { tool_calls: calls }) });
        if (!isAnswered) asked.push(...(await abortable(execute(tools, calls), signal)));
      }
      this.#turns = [...this.#turns, ...asked];
    } catch (error) {
      throw signal.aborted ? signal.reason : inDom(error);
    } finally {
      leave();
    }
  }

  /** Starts an answer. While the prompt is too long, the oldest question and its answer are left out. */
  async #start(
    asked: readonly ChatMessage[],
    params: Omit<ChatCompletionStreamParams, "messages">,
    signal: AbortSignal,
  ): Promise<ChatStream> {
    const { engine, initial } = this.#setup;
    for (let turns = this.#turns; ; turns = withoutOldest(turns)) {
      const messages = [...initial, ...turns, ...asked];
      try {
        const stream = await engine.chat.completions.create({ ...params, messages }, { signal });
        if (turns !== this.#turns) {
          this.#turns = turns;
          this.dispatchEvent(new Event("contextoverflow"));
        }
        return stream;
      } catch (error) {
        if (!(error instanceof ContextLengthError)) throw error;
        if (turns.length === 0) throw quotaExceeded(await this.#count(messages), this.contextWindow);
      }
    }
  }

  /** Waits for what was asked before; resolves to what ends this turn. */
  async #turn(signal: AbortSignal): Promise<() => void> {
    const before = this.#last;
    let leave = () => {};
    const own = new Promise<void>((resolve) => (leave = resolve));
    this.#last = before.then(() => own);
    try {
      await abortable(before, signal);
    } catch (error) {
      leave();
      throw error;
    }
    return leave;
  }

  /** Whether there are messages. */
  get #hasMessages(): boolean {
    return this.#setup.initial.length + this.#turns.length > 0;
  }

  /** Fires when the session is destroyed, or with the given signal. */
  #signal(own?: AbortSignal): AbortSignal {
    return own ? AbortSignal.any([this.#end.signal, own]) : this.#end.signal;
  }

  /** The tokens of an answer's beginning, without those that the model wants around whole texts. */
  async #idsOf(begun: string): Promise<number[]> {
    const { engine } = this.#setup;
    const [ids, around] = [await engine.tokenize(begun), await engine.tokenize("")];
    if (around.length > 0 && ids[0] === around[0]) ids.shift();
    if (around.length > 0 && ids.at(-1) === around.at(-1)) ids.pop();
    return ids;
  }

  /** Tokens of the messages' texts. The template's own tokens are counted once there is an answer. */
  async #count(messages: readonly ChatMessage[]): Promise<number> {
    let count = 0;
    for (const { content } of messages)
      if (typeof content === "string") count += (await this.#setup.engine.tokenize(content)).length;
    return count;
  }
}

/** The turns after the oldest question and its answer. */
function withoutOldest(turns: readonly ChatMessage[]): readonly ChatMessage[] {
  const next = turns.findIndex(({ role }, index) => index > 0 && role === "user");
  return next < 0 ? [] : turns.slice(next);
}
