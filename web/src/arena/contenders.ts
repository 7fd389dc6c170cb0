/** Contenders of the arena: how tokens are chosen, and those that a person put together. */
import * as v from "valibot";

/** Smallest and largest value, and the step between values; names are those of OpenAI's API. */
export const SAMPLED = {
  temperature: [0, 2, "any"],
  top_p: [0.01, 1, "any"],
  top_k: [1, 1000, 1],
  min_p: [0, 1, "any"],
  repetition_penalty: [0.1, 2, "any"],
} as const;

function number(name: keyof typeof SAMPLED) {
  const [min, max] = SAMPLED[name];
  return v.optional(v.pipe(v.number(), v.minValue(min), v.maxValue(max)));
}

/** What of choosing tokens is not as usual for the model. */
const sampled = v.object({
  temperature: number("temperature"),
  top_p: number("top_p"),
  top_k: number("top_k"),
  min_p: number("min_p"),
  repetition_penalty: number("repetition_penalty"),
});
export type Sampled = v.InferOutput<typeof sampled>;

/** The settings that models on servers take, too. */
export const ON_SERVERS: readonly (keyof Sampled)[] = ["temperature", "top_p"];

const own = v.object({
  /** The model's id in the page. */
  model: v.string(),
  /** What it has learnt, by name; null: nothing. */
  adapter: v.nullable(v.string()),
  sampled,
});

/** A contender that a person put together. */
export type Own = v.InferOutput<typeof own>;

/** Reads those that are stored; others are left out. */
export function readOwn(stored: unknown): readonly Own[] {
  if (!Array.isArray(stored)) return [];
  return stored.flatMap((item: unknown) => {
    const read = v.safeParse(own, item);
    return read.success ? [read.output] : [];
  });
}

const WORDS: Record<keyof Sampled, string> = {
  temperature: "temperature",
  top_p: "top-p",
  top_k: "top-k",
  min_p: "min-p",
  repetition_penalty: "repetition penalty",
};

/** What a contender is called: in the list, after a vote, in ratings and in exports. */
export function nameOf(
  base: string,
  adapter: { name: string; scale: number } | null,
  sampled: Sampled,
): string {
  const parts = (Object.keys(WORDS) as (keyof Sampled)[]).flatMap((key) => {
    const value = sampled[key];
    return value === undefined ? [] : [`${WORDS[key]} ${value}`];
  });
  const learnt = adapter === null ? "" : `:${adapter.name}${adapter.scale === 1 ? "" : ` ×${adapter.scale}`}`;
  return base + learnt + (parts.length === 0 ? "" : ` @ ${parts.join(", ")}`);
}
