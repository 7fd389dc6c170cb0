/** Answers outside of conversations: samples of what was learnt, and the arena. */
import type { AdapterUse, Engine, RecommendedSampling } from "nomoat";
import type { Turn } from "../lessons/records";
import { recommendedSampling } from "./engine";
import { ask } from "./request";
import { sampling, type Sampling } from "./sampling";
import { settings } from "./settings";

/** How an answer is asked for. */
export interface Asked {
  messages: readonly Turn[];
  maxTokens: number;
  /** Null: what the model or its server does by default. */
  temperature: number | null;
  adapters: readonly AdapterUse[];
  /** What the model's makers recommend, if it is not the model in use. */
  recommended?: RecommendedSampling;
  /** How tokens are chosen, where it is not as usual. */
  otherwise?: Omit<Sampling, "temperature">;
}

/** One answer. `onText` gets what there is of it so far. */
export async function answerTo(
  engine: Engine,
  { messages, maxTokens, temperature, adapters, recommended, otherwise }: Asked,
  signal: AbortSignal,
  onText?: (text: string) => void,
): Promise<string> {
  const suits = recommended ?? recommendedSampling.peek();
  const stream = await ask(
    engine,
    {
      messages: [...messages],
      tools: false,
      sampling: { ...sampling(temperature, false, suits, engine.model.parameters), ...otherwise },
      temperature,
      ...(otherwise?.top_p !== undefined && { topP: otherwise.top_p }),
      maxTokens,
      thinkingBudget: settings.peek().thinkingBudget,
      adapters: [...adapters],
    },
    { signal },
  );
  let text = "";
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta.content;
    if (!piece) continue;
    text += piece;
    onText?.(text);
  }
  return text;
}
