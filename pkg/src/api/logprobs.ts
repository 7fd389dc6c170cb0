/** How likely tokens are, in the shapes of OpenAI's two APIs. */

/** A token's text. */
export interface SpelledToken {
  /** With U+FFFD for bytes that are no whole character; a control token's name. */
  token: string;
  /** UTF-8. */
  bytes: number[];
}

/** A token, and how likely it was by the model's own distribution, before temperature and penalties. */
export interface TokenLogprob extends SpelledToken {
  /** The natural logarithm of its probability. */
  logprob: number;
  /** The likeliest tokens in its place, the likeliest first. */
  top_logprobs: (SpelledToken & { logprob: number })[];
}

/** A prompt's token; nothing predicts the first one. */
export type PromptLogprob = Omit<TokenLogprob, "logprob"> & { logprob: number | null };

/** `logprobs` of a chat's choice. */
export interface ChatLogprobs {
  /** All tokens of the answer, those of its reasoning too, without the one that ends the turn. */
  content: TokenLogprob[];
  refusal: null;
}

/** `logprobs` of a completion's choice. */
export interface TextLogprobs {
  tokens: string[];
  /** Null for the first token of a prompt. */
  token_logprobs: (number | null)[];
  /** The likeliest tokens in each place, and the token itself. */
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the choice's text, in characters. */
  text_offset: number[];
}

/** The tokens of a completion's text, which begin at `offset` in it. */
export function textLogprobs(list: PromptLogprob[], offset: number): TextLogprobs {
  const result: TextLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  for (const { token, logprob, top_logprobs } of list) {
    result.tokens.push(token);
    result.token_logprobs.push(logprob);
    const top = [...top_logprobs.map((other) => [other.token, other.logprob]), [token, logprob]];
    result.top_logprobs.push(logprob === null ? null : (Object.fromEntries(top) as Record<string, number>));
    result.text_offset.push(offset);
    offset += characters(token);
  }
  return result;
}

/** Characters of a text. */
export function characters(text: string): number {
  return [...text].length;
}
