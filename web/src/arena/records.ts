/** Votes between two answers, and their export. */
import * as v from "valibot";
import type { Preference, Turn } from "../lessons/records";
import type { Duel } from "./ratings";

/** What a person can say of two answers; as in LMSYS's data. */
export const WINNERS = ["model_a", "model_b", "tie", "tie (bothbad)"] as const;
export type Winner = (typeof WINNERS)[number];

const pair = v.strictTuple([v.string(), v.string()]);
const battle = v.object({
  id: v.string(),
  /** Milliseconds since 1970. */
  createdAt: v.pipe(v.number(), v.finite()),
  /** The model in use then. */
  model: v.string(),
  /** The contenders in the order in which they were shown. */
  names: pair,
  messages: v.pipe(
    v.array(v.object({ role: v.picklist(["system", "user", "assistant"]), content: v.string() })),
    v.minLength(1),
  ),
  answers: pair,
  winner: v.picklist(WINNERS),
});

/** A vote. */
export type Battle = v.InferOutput<typeof battle>;

/** Reads a vote from the store; null if it is none. */
export function readBattle(stored: unknown): Battle | null {
  const read = v.safeParse(battle, stored);
  return read.success ? read.output : null;
}

/** A vote as ratings count it. */
export function duelOf({ names, winner }: Battle): Duel {
  const scores: Record<Winner, number> = { model_a: 1, model_b: 0, tie: 0.5, "tie (bothbad)": 0.5 };
  return { names, score: scores[winner] };
}

/** What a vote teaches by DPO: the better answer; null if neither is, or both say the same. */
export function preferenceOf({ id, createdAt, model, messages, answers, winner }: Battle): Preference | null {
  const [a, b] = answers;
  if (a === b || a === "" || b === "" || winner.startsWith("tie")) return null;
  const [chosen, rejected] = winner === "model_a" ? [a, b] : [b, a];
  return { kind: "preference", id: `arena ${id}`, createdAt, model, messages, chosen, rejected };
}

/** Votes as JSONL, with the fields of LMSYS's `chatbot_arena_conversations`. */
export function toLmsys(battles: readonly Battle[]): string {
  const lines = battles.map(({ id, createdAt, names, messages, answers, winner }) => {
    const conversation = (content: string): Turn[] => [...messages, { role: "assistant", content }];
    return {
      question_id: id,
      model_a: names[0],
      model_b: names[1],
      winner,
      judge: "human",
      conversation_a: conversation(answers[0]),
      conversation_b: conversation(answers[1]),
      turn: 1,
      anony: true,
      language: "unknown",
      tstamp: createdAt / 1000,
    };
  });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
