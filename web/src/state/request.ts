/** Asks an engine for an answer, on this device or on a server. */
import { InvalidRequestError } from "nomoat";
import type {
  AdapterUse,
  ChatMessage,
  ChatCompletionStreamParams,
  ChatStream,
  CompletionOptions,
  Engine,
} from "nomoat";
import type { Sampling } from "./sampling";

/** How an answer is asked for. */
export interface Asked {
  messages: ChatMessage[];
  /** The tools that the model may call; false: none. */
  tools: false | Pick<ChatCompletionStreamParams, "tools" | "tool_choice">;
  maxTokens: number;
  /** How tokens are chosen on this device. */
  sampling: Sampling;
  /** The temperature on a server; null: what the server does by default. */
  temperature: number | null;
  /** `top_p` on a server. */
  topP?: number;
  thinkingBudget: number | null;
  adapters: AdapterUse[];
  /** On this device, to be told the answer's tokens: the seed, and the tokens that it already has. */
  tokens?: { seed: number; ids: readonly number[] };
}

/** Engines on servers that take the limit of tokens under its newer name only, as OpenAI's own does. */
const takesNewName = new WeakSet<Engine>();

/** A streamed answer. A server gets what OpenAI's API has, and nothing that the person has not set. */
export async function ask(engine: Engine, asked: Asked, options: CompletionOptions): Promise<ChatStream> {
  const { messages, tools, maxTokens, sampling, temperature, topP, thinkingBudget, adapters, tokens } = asked;
  const { completions } = engine.chat;
  const streamed = { stream: true, stream_options: { include_usage: true } } as const;
  if (engine.device.backend !== "remote")
    return completions.create(
      {
        messages,
        ...(tools && tools),
        ...streamed,
        ...sampling,
        max_tokens: maxTokens,
        thinking_token_budget: thinkingBudget,
        adapters,
        ...(tokens && { seed: tokens.seed, continue_ids: [...tokens.ids], return_token_ids: true }),
      },
      options,
    );
  const params = {
    messages: messages.map(forServer),
    ...(tools && tools),
    ...streamed,
    ...(temperature !== null && { temperature }),
    ...(topP !== undefined && { top_p: topP }),
    ...(thinkingBudget !== null && { thinking_token_budget: thinkingBudget }),
  };
  if (!takesNewName.has(engine)) {
    try {
      return await completions.create({ ...params, max_tokens: maxTokens }, options);
    } catch (error) {
      if (!(error instanceof InvalidRequestError && error.param === "max_tokens")) throw error;
      takesNewName.add(engine);
    }
  }
  return completions.create({ ...params, max_completion_tokens: maxTokens }, options);
}

/** A message without what OpenAI's API does not have. */
function forServer(message: ChatMessage): ChatMessage {
  const sent = { ...message };
  if ("reasoning_content" in sent) delete sent.reasoning_content;
  return sent;
}
