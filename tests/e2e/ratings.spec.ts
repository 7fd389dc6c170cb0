/** Ratings of the arena, against values from elsewhere. */
import { expect, test } from "@playwright/test";
import { ratings, type Duel } from "../../web/src/arena/ratings.ts";
import { preferenceOf, readBattle, toLmsys, type Battle } from "../../web/src/arena/records.ts";

const times = (count: number, first: string, second: string, score = 1): Duel[] =>
  Array.from({ length: count }, () => ({ names: [first, second], score }));
const of = (duels: Duel[]) => Object.fromEntries(ratings(duels).map((one) => [one.name, one]));

test("two contenders differ by 400 log10 of their wins' ratio", () => {
  const { a, b } = of([...times(30, "a", "b"), ...times(10, "b", "a")]);
  expect((a?.rating ?? 0) - (b?.rating ?? 0)).toBeCloseTo(400 * Math.log10(3), 3);
  expect((a?.rating ?? 0) + (b?.rating ?? 0)).toBeCloseTo(2000, 6);
  expect([a?.votes, a?.share, b?.share]).toEqual([40, 0.75, 0.25]);
  // A tie is half a win for both: here 4 to 2.
  const tied = of([...times(3, "a", "b"), ...times(2, "b", "a", 0.5), ...times(1, "b", "a")]);
  expect((tied.a?.rating ?? 0) - (tied.b?.rating ?? 0)).toBeCloseTo(400 * Math.log10(2), 3);
});

test("four teams of the article on the Bradley-Terry model have its strengths", () => {
  // Wikipedia, “Bradley–Terry model”, the worked example: wins of A to D, and what they converge to.
  const wins = { A: { B: 2, D: 1 }, B: { A: 3, C: 5 }, C: { B: 3, D: 1 }, D: { A: 4, C: 3 } };
  const duels = Object.entries(wins).flatMap(([winner, against]) =>
    Object.entries(against).flatMap(([loser, count]) => times(count, winner, loser)),
  );
  const all = ratings(duels);
  expect(all.map(({ name }) => name)).toEqual(["D", "B", "C", "A"]);
  const strengths = { A: 0.64, B: 1.043, C: 0.66, D: 2.27 };
  for (const { name, rating, interval } of all) {
    const strength = 10 ** ((rating - 1000) / 400);
    expect(strength).toBeCloseTo(strengths[name as keyof typeof strengths], 3);
    expect(interval?.[0]).toBeLessThan(rating);
    expect(interval?.[1]).toBeGreaterThan(rating);
  }
});

test("intervals have the width that theory gives, and narrow with the root of the votes", () => {
  // By the delta method, log odds of 50 to 50 in 100 have the standard error 2 / sqrt(100); each of the two
  // ratings has half of the difference. 1.96 of them in Elo: 1.96 * 400 / ln 10 * 0.2 / 2 = 34.
  const even = of([...times(50, "a", "b"), ...times(50, "b", "a")]).a?.interval ?? [0, 0];
  expect(even[0]).toBeGreaterThan(1000 - 42);
  expect(even[0]).toBeLessThan(1000 - 27);
  expect(even[1]).toBeGreaterThan(1000 + 27);
  expect(even[1]).toBeLessThan(1000 + 42);
  const many = of([...times(800, "a", "b"), ...times(800, "b", "a")]).a?.interval ?? [0, 0];
  expect((even[1] - even[0]) / (many[1] - many[0])).toBeGreaterThan(3);
});

test("one who only wins is limited, and has no interval", () => {
  const all = ratings([...times(5, "a", "b"), ...times(2, "b", "c"), ...times(1, "c", "b")]);
  expect(all.map(({ name }) => name)).toEqual(["a", "b", "c"]);
  expect((all[0]?.rating ?? 0) - (all[1]?.rating ?? 0)).toBeCloseTo(400, 6);
  expect(all.map(({ interval }) => interval)).toEqual([null, null, null]);
  // What is known stays right: b beats c two to one.
  expect((all[1]?.rating ?? 0) - (all[2]?.rating ?? 0)).toBeCloseTo(400 * Math.log10(2), 1);
  expect(ratings([])).toEqual([]);
  expect(ratings(times(3, "a", "a"))).toEqual([]);
});

test("votes have LMSYS's fields, and the better answer is a preference", () => {
  const vote: Battle = {
    id: "1",
    createdAt: 1_700_000_000_500,
    model: "m",
    names: ["m", "m:pirate"],
    messages: [{ role: "user", content: "Hi" }],
    answers: ["Hello", "Ahoy"],
    winner: "model_b",
  };
  expect(JSON.parse(toLmsys([vote]))).toEqual({
    question_id: "1",
    model_a: "m",
    model_b: "m:pirate",
    winner: "model_b",
    judge: "human",
    conversation_a: [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello" },
    ],
    conversation_b: [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Ahoy" },
    ],
    turn: 1,
    anony: true,
    language: "unknown",
    tstamp: 1_700_000_000.5,
  });
  expect(preferenceOf(vote)).toMatchObject({ chosen: "Ahoy", rejected: "Hello", messages: vote.messages });
  expect(preferenceOf({ ...vote, winner: "model_a" })).toMatchObject({ chosen: "Hello", rejected: "Ahoy" });
  for (const none of [{ winner: "tie" }, { winner: "tie (bothbad)" }, { answers: ["x", "x"] }] as const)
    expect(preferenceOf({ ...vote, ...none } as Battle)).toBeNull();
  expect(readBattle(vote)).toEqual(vote);
  for (const bad of [
    null,
    {},
    { ...vote, winner: "a" },
    { ...vote, names: ["m"] },
    { ...vote, messages: [] },
  ])
    expect(readBattle(bad)).toBeNull();
});
