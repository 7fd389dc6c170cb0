/** Lessons in the formats that people have. */
import { expect, test } from "@playwright/test";
import { fromJsonl, toJsonl } from "../../web/src/lessons/formats.ts";
import { matches, type Lesson } from "../../web/src/lessons/records.ts";

const user = (content: string) => ({ role: "user" as const, content });
const assistant = (content: string) => ({ role: "assistant" as const, content });
const read = (...lines: unknown[]) => fromJsonl(lines.map((line) => JSON.stringify(line)).join("\n"));

test("every format is read", () => {
  const conversation = { kind: "example" as const, messages: [user("hi"), assistant("yo")] };
  const formats = [
    { messages: [user("hi"), assistant("yo")] },
    { messages: [user("hi"), assistant("yo"), user("and then")] },
    { prompt: "hi", completion: "yo" },
    { prompt: [user("hi")], completion: [assistant("yo")] },
    { instruction: "hi", input: "", output: "yo" },
    {
      conversations: [
        { from: "human", value: "hi" },
        { from: "gpt", value: "yo" },
      ],
    },
  ];
  const { lessons, problems } = read(...formats);
  expect(problems).toEqual([]);
  expect(lessons).toEqual(formats.map(() => conversation));
  expect(read({ instruction: "add", input: "1 2", output: "3" }).lessons).toEqual([
    { kind: "example", messages: [user("add\n\n1 2"), assistant("3")] },
  ]);
  const pair = { kind: "preference" as const, messages: [user("hi")], chosen: "yo", rejected: "no" };
  const pairs = [
    { prompt: "hi", chosen: "yo", rejected: "no" },
    { prompt: [user("hi")], chosen: [assistant("yo")], rejected: [assistant("no")] },
    { chosen: [user("hi"), assistant("yo")], rejected: [user("hi"), assistant("no")] },
    {
      input: { messages: [user("hi")] },
      preferred_output: [assistant("yo")],
      non_preferred_output: [assistant("no")],
    },
  ];
  expect(read(...pairs)).toEqual({ lessons: pairs.map(() => pair), problems: [] });
  expect(fromJsonl(JSON.stringify(formats)).lessons).toEqual(lessons);
});

test("an Open Assistant tree gives the best answers and pairs of neighbours", () => {
  const reply = (text: string, rank: number, replies: unknown[] = []) => ({
    text,
    role: "assistant",
    rank,
    replies,
  });
  const more = { text: "why", role: "prompter", replies: [reply("because", 0)] };
  const prompt = {
    text: "hi",
    role: "prompter",
    replies: [reply("no", 2), reply("yo", 0, [more]), { ...reply("bad", 3), deleted: true }, reply("hm", 1)],
  };
  const { lessons, problems } = read({ message_tree_id: "1", prompt });
  expect(problems).toEqual([]);
  expect(lessons).toEqual([
    { kind: "example", messages: [user("hi"), assistant("yo")] },
    { kind: "preference", messages: [user("hi")], chosen: "yo", rejected: "hm" },
    { kind: "example", messages: [user("hi"), assistant("yo"), user("why"), assistant("because")] },
    { kind: "preference", messages: [user("hi")], chosen: "hm", rejected: "no" },
  ]);
});

test("lines that cannot be used are told by number, and the rest is kept", () => {
  let deep: unknown = { text: "end", role: "assistant", replies: [] };
  for (let i = 0; i < 150; i += 1)
    deep = { text: "x", role: i % 2 === 0 ? "prompter" : "assistant", replies: [deep] };
  const lines = [
    '{"prompt": "hi", "completion": "yo"}',
    "{",
    '{"text": "hi"}',
    '{"messages": [{"role": "user", "content": "hi"}]}',
    '{"messages": [{"role": "tool", "content": "hi"}, {"role": "assistant", "content": "yo"}]}',
    '{"messages": [{"role": "constructor", "content": "hi"}]}',
    '{"prompt": "hi", "chosen": "a", "rejected": [{"role": "user", "content": "b"}]}',
    JSON.stringify({ prompt: { text: "hi", replies: [{ ...(deep as object), role: "assistant" }] } }),
    "",
    '{"prompt": "ho", "completion": "yo"}',
  ];
  const { lessons, problems } = fromJsonl(lines.join("\r\n"));
  expect(lessons.length).toBe(2);
  expect(problems.map(({ line, problem }) => `${line} ${problem}`)).toEqual([
    "2 json",
    "3 format",
    "4 answer",
    "5 role",
    "6 role",
    "7 answer",
    expect.stringMatching(/^8 (format|role)$/),
  ]);
});

test("what is exported is read again, and a search looks at all texts", () => {
  const base = { createdAt: 1, model: "m" };
  const example: Lesson = { ...base, kind: "example", id: "1", messages: [user("Hi"), assistant("a\nb")] };
  const pair: Lesson = {
    ...base,
    kind: "preference",
    id: "2",
    messages: [user("Why")],
    chosen: "x",
    rejected: "Zebra",
  };
  const { lessons, problems } = fromJsonl(toJsonl([example, pair]));
  expect(problems).toEqual([]);
  expect(lessons).toEqual([
    { kind: "example", messages: example.messages },
    { kind: "preference", messages: pair.messages, chosen: "x", rejected: "Zebra" },
  ]);
  expect(matches(pair, "zebra why")).toBe(true);
  expect(matches(pair, "zebra hi")).toBe(false);
});
