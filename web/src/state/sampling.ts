/** How the tokens of the page's answers are chosen. */
import type { RecommendedSampling } from "nomoat";

/**
 * For models whose makers recommend nothing. A small model's second guess is often wrong, and in another
 * language; without a penalty, it repeats itself. Both run on the device.
 */
const USUAL = { temperature: 0, repetition_penalty: 1.1 };
/** What an answer that is asked for again needs to become another one, and to stay sensible. */
const AGAIN = { temperature: 0.7, minP: 0.1 };
/**
 * A model of so few parameters begins wrong answers with nearly the probability of right ones, so only tokens
 * that are about as likely as the best may replace it. It also repeats whole lines for ever: a frequency
 * penalty ends that, as it grows with each time. `tests/tries` has what comes of both.
 */
const TINY = { parameters: 3e8, minP: 0.9, frequencyPenalty: 0.15 };

/** How tokens are chosen: parameters of a chat. */
export interface Sampling extends RecommendedSampling {
  frequency_penalty?: number;
}

/**
 * Parameters of an answer. `temperature`: the person's; null: what suits the model, of which `recommended` is
 * what its makers say and `parameters` how many it has. `isAgain`: the question has an answer already, and
 * another one is wanted.
 */
export function sampling(
  temperature: number | null,
  isAgain: boolean,
  recommended: RecommendedSampling = {},
  parameters = 0,
): Sampling {
  const isTiny = parameters > 0 && parameters < TINY.parameters;
  const usual = isTiny ? { ...USUAL, frequency_penalty: TINY.frequencyPenalty } : USUAL;
  const suits = recommended.temperature === undefined ? { ...usual, ...recommended } : recommended;
  const chosen = temperature ?? suits.temperature ?? USUAL.temperature;
  if (!isAgain) return { ...suits, temperature: chosen };
  const isOpen = suits.top_p === undefined && suits.min_p === undefined;
  return {
    ...suits,
    temperature: Math.max(chosen, AGAIN.temperature),
    ...(isOpen && { min_p: isTiny ? TINY.minP : AGAIN.minP }),
  };
}
