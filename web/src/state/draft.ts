/** An answer as it is being written, and what another page needs to continue it. */
import type { ChatCompletionChunk, ChatMessage, ChatTool, ChatToolCall, Engine } from "nomoat";
import type { Answer, Message } from "../history/records";
import { MOST_TOKENS, MOST_TRIES, type Resume } from "../history/resume";
import { chosenModel } from "./models";
import { settings, templateOf } from "./settings";
import { toolParams, toolsFor } from "./tools";
import { turns, withCalls } from "./turns";

/** An answer that another page has begun. */
export type Interrupted = Answer & { resume: Resume };

/** Whether an answer was interrupted with its page, and has what is needed to continue it. */
export function isInterrupted(message: Message | undefined): message is Interrupted {
  if (message?.role !== "assistant" || message.ending !== null || message.resume === undefined) return false;
  const { content, reasoning = "", resume } = message;
  const fits = resume.content <= content.length && resume.reasoning <= reasoning.length;
  return fits && resume.at <= resume.content && resume.tries < MOST_TRIES;
}

/** The conversation as the model gets it in the round that is being written. */
export function messagesFor(
  list: readonly Message[],
  { content, tools = [] }: Pick<Answer, "content" | "tools">,
  withTools: boolean,
): ChatMessage[] {
  return [...turns(list, settings.peek().systemPrompt, withTools), ...withCalls({ content }, tools)];
}

/**
 * A digest of all that an answer depends on besides its parameters: the model's files, how it is loaded, the
 * conversation and the tools. Null where answers do not go on: on servers, and without what that needs.
 */
export async function digestOf(
  { model, device }: Engine,
  messages: readonly ChatMessage[],
  tools: readonly ChatTool[],
): Promise<string | null> {
  const { sha256, contextLength } = model;
  const isSecure = "locks" in navigator && "subtle" in crypto;
  if (device.backend === "remote" || sha256.length === 0 || !isSecure) return null;
  const { backend, kernels } = device;
  const chosen = chosenModel.peek();
  const template = chosen && templateOf(chosen.id);
  const parts = ["answer 1", sha256, contextLength, backend, kernels, template, messages, tools];
  const text = new TextEncoder().encode(JSON.stringify(parts));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether the model, the conversation and the tools are those with which an answer began. */
export async function isUnchanged(
  engine: Engine,
  list: readonly Message[],
  { content, tools, resume }: Interrupted,
): Promise<boolean> {
  const offered = toolParams(toolsFor(engine));
  const messages = messagesFor(list, { content: content.slice(0, resume.at), tools }, offered.length > 0);
  return (await digestOf(engine, messages, offered)) === resume.digest;
}

/** An answer that is being written. */
export class Draft {
  readonly answer: Answer;
  /** Calls of tools in this round. */
  calls: ChatToolCall[];
  #resume: Resume | null;
  #firstTokenAt = 0;
  /** How many tokens there were with the first that came. */
  #before = 0;

  /** A new answer, or one that goes on. */
  constructor(begun: Answer | Interrupted) {
    this.answer = { ...begun, resume: undefined };
    this.#resume = null;
    this.calls = [];
    if (!isInterrupted(begun)) return;
    const { content, reasoning, resume } = begun;
    this.answer.content = content.slice(0, resume.content);
    if (reasoning !== undefined) this.answer.reasoning = reasoning.slice(0, resume.reasoning);
    this.#resume = { ...resume, ids: [...resume.ids], tries: resume.tries + 1 };
    this.calls = structuredClone(resume.calls);
    this.answer.completionTokens = resume.ids.length;
  }

  /** Begins a round; `digest` is null if it cannot be continued elsewhere. */
  begin(round: number, request: Resume["request"], digest: string | null): void {
    const { content, reasoning = "" } = this.answer;
    this.#resume =
      digest === null
        ? null
        : {
            digest,
            request,
            round,
            at: content.length,
            ids: [],
            content: content.length,
            reasoning: reasoning.length,
            calls: [],
            tries: 0,
          };
    this.calls = [];
    this.#firstTokenAt = 0;
    this.answer.completionTokens = 0;
  }

  /** How the round that is being written can be continued elsewhere. */
  get resume(): Readonly<Resume> | null {
    return this.#resume;
  }

  /** Adds a piece; false if it has no text. */
  take(chunk: ChatCompletionChunk): boolean {
    const { answer } = this;
    const choice = chunk.choices[0];
    for (const { index, id = "", function: piece } of choice?.delta.tool_calls ?? []) {
      const { name = "", arguments: json } = piece;
      const call = (this.calls[index] ??= { id, type: "function", function: { name, arguments: "" } });
      call.function.arguments += json;
    }
    const { content = "", reasoning_content: reasoning = "" } = choice?.delta ?? {};
    answer.content += content;
    if (reasoning !== "") answer.reasoning = (answer.reasoning ?? "") + reasoning;
    const hasText = content !== "" || reasoning !== "";
    if (hasText) this.#count();
    if (choice?.token_ids) this.#journal(choice.token_ids);
    // It is complete, or calls are about to be made, which must not be made twice.
    if (choice?.finish_reason) this.#resume = null;
    return hasText;
  }

  #count(): void {
    const { answer } = this;
    answer.completionTokens += 1;
    if (this.#firstTokenAt === 0) {
      this.#firstTokenAt = performance.now();
      this.#before = answer.completionTokens;
    }
    const seconds = (performance.now() - this.#firstTokenAt) / 1000;
    const tokens = answer.completionTokens - this.#before;
    // The clock may not have advanced.
    if (tokens > 0 && seconds > 0) answer.tokensPerSecond = tokens / seconds;
  }

  #journal(ids: readonly number[]): void {
    const { content, reasoning = "" } = this.answer;
    const resume = this.#resume;
    if (resume === null) return;
    resume.ids.push(...ids);
    Object.assign(resume, { content: content.length, reasoning: reasoning.length, tries: 0 });
    if (resume.ids.length > MOST_TOKENS) this.#resume = null;
  }

  /** The answer as it is now, for the history. */
  record(): Answer {
    const resume = this.#resume;
    if (resume === null) return { ...this.answer };
    return {
      ...this.answer,
      resume: { ...resume, ids: [...resume.ids], calls: structuredClone(this.calls) },
    };
  }
}
