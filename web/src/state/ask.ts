/** Answers outside of conversations: samples of what was learnt, and the arena. */
import type { AdapterUse, Engine } from "nomoat";
import type { Turn } from "../lessons/records";
import { recommendedSampling } from "./engine";
import { ask } from "./request";
import { sampling } from "./sampling";
import { settings } from "./settings";

/** How an answer is asked for. */
export interface Asked {
  messages: readonly Turn[];
  maxTokens: number;
  /** Null: what the model or its server does by default. */
  temperature: number | null;
  adapters: readonly AdapterUse[];
}

/** One answer. `onText` gets what there is of it so far. */
export async function answerTo(
  engine: Engine,
  { messages, maxTokens, temperature, adapters }: Asked,
  signal: AbortSignal,
  onText?: (text: string) => void,
): Promise<string> {
  const stream = await ask(
    engine,
    {
      messages: [...messages],
      tools: false,
      sampling: sampling(temperature, false, recommendedSampling.peek(), engine.model.parameters),
      temperature,
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
