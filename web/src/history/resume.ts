/**
 * What an answer that is being written needs to go on in another page, from its tokens. It is part of the
 * answer's record: it is stored and deleted with it, and gone once the answer has ended.
 */
import * as v from "valibot";

/** Most tokens that are kept: longer answers do not go on. */
export const MOST_TOKENS = 32_768;
/** How often an answer is continued without getting a token, in case that is what ends the page. */
export const MOST_TRIES = 3;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const amount = v.optional(v.pipe(v.number(), v.finite()));
const call = v.strictObject({
  id: v.string(),
  type: v.literal("function"),
  function: v.strictObject({ name: v.string(), arguments: v.string() }),
});

export const resume = v.strictObject({
  /** Digest of the model, the conversation and whatever else the answer depends on. */
  digest: v.string(),
  /** How its tokens are chosen. */
  request: v.strictObject({
    sampling: v.strictObject({
      temperature: amount,
      top_k: amount,
      top_p: amount,
      min_p: amount,
      repetition_penalty: amount,
      frequency_penalty: amount,
    }),
    seed: count,
    maxTokens: count,
    thinkingBudget: v.nullable(count),
  }),
  /** The round that is being written, and how much of the content came before it. */
  round: count,
  at: count,
  /** Its tokens, and how much content and reasoning there was with the last of them. */
  ids: v.pipe(v.array(v.pipe(count, v.maxValue(0xffffffff))), v.maxLength(MOST_TOKENS)),
  content: count,
  reasoning: count,
  /** Calls of tools, as far as they are written. None is made before all are. */
  calls: v.array(call),
  /** Times that it was continued since its last token. */
  tries: count,
});

export type Resume = v.InferOutput<typeof resume>;
