/** How the tokens of the page's answers are chosen. */

/** Without it, small models repeat themselves. It runs on the device. */
const REPETITION_PENALTY = 1.1;
/** What an answer that is asked for again needs to become another one, and to stay sensible. */
const AGAIN = { temperature: 0.7, minP: 0.1 };

/** Parameters of an answer. `isAgain`: the question has an answer already, and another one is wanted. */
export function sampling(temperature: number, isAgain: boolean) {
  return {
    temperature: isAgain ? Math.max(temperature, AGAIN.temperature) : temperature,
    repetition_penalty: REPETITION_PENALTY,
    ...(isAgain && { min_p: AGAIN.minP }),
  };
}
