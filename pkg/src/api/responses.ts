/**
 * OpenAI's `responses`, computed by `chat.completions`. Each request has the whole conversation; the items of
 * the last answers are kept for clients that send references to them.
 */
import type { ChatCompletions, CompletionOptions } from "../chat.js";
import { ResponseBuilder } from "./response-builder.js";
import { chatParams } from "./response-input.js";
import type { ModelResponse, ResponseCreateParams, ResponseOutputItem, Responses } from "./response-types.js";

/** How many items of answers are kept. */
const MAX_KEPT = 1000;

/** `responses` that are computed by these `completions`. */
export function responsesOf(model: string, completions: ChatCompletions): Responses {
  const kept = new Map<string, ResponseOutputItem>();
  const keep = ({ output }: ModelResponse) => {
    for (const item of output) kept.set(item.id, item);
    for (const id of [...kept.keys()].slice(0, Math.max(0, kept.size - MAX_KEPT))) kept.delete(id);
  };
  const create = async (params: ResponseCreateParams, options?: CompletionOptions) => {
    const chat = chatParams(params, (id) => kept.get(id));
    const builder = new ResponseBuilder(model, params, params.store === false ? () => {} : keep);
    if (!params.stream) return builder.whole(await completions.create({ ...chat, stream: false }, options));
    const stream_options = { include_usage: true };
    return builder.events(await completions.create({ ...chat, stream: true, stream_options }, options));
  };
  return { create: create as Responses["create"] };
}
