import assert from "node:assert/strict";
import { test } from "node:test";
import { languageModel, type LanguageModelTool } from "../src/language-model.js";
import type { RuntimeCallDelta, RuntimeRequest } from "../src/runtime.js";
import { engineWith } from "./fake-worker.js";
import type { Script } from "./fakes.js";

/** An answer: a text, or calls as tool and arguments. */
type Answer = string | [name: string, json: string][];

/** A session whose model gives these answers, and the requests that it sees. */
async function session(answers: Answer[], tools: LanguageModelTool[], initial: string[] = []) {
  const seen: RuntimeRequest[] = [];
  const left = [...answers];
  const script: Script = { contextLength: 1000 };
  script.onStart = (request) => {
    seen.push(request);
    const answer = left.shift() ?? "";
    delete script.calls;
    script.tokens = [""];
    if (typeof answer === "string") script.tokens = [answer];
    else script.calls = [answer.flatMap(pieces)];
  };
  const { engine } = await engineWith(script);
  const initialPrompts = initial.map((content) => ({ role: "system" as const, content }));
  const model = await languageModel(engine).create({ tools, initialPrompts });
  return { seen, model };
}

/** A call comes in three pieces. */
function pieces([name, json]: [string, string], index: number): RuntimeCallDelta[] {
  const half = json.length >> 1;
  return [
    { index, name, arguments: "" },
    { index, arguments: json.slice(0, half) },
    { index, arguments: json.slice(half) },
  ];
}

const inputSchema = { type: "object", properties: { city: { type: "string" } } };
const weather = (execute: LanguageModelTool["execute"]): LanguageModelTool => ({
  name: "weather",
  description: "The weather in a city",
  inputSchema,
  execute,
});

test("calls run at the same time, and the model answers with their results", async () => {
  let running = 0;
  let most = 0;
  const tool = weather(async ({ city }) => {
    most = Math.max(most, (running += 1));
    await new Promise((resolve) => setTimeout(resolve, city === "Rome" ? 4 : 2));
    running -= 1;
    return `sunny in ${String(city)}`;
  });
  const calls: Answer = [
    ["weather", '{"city":"Rome"}'],
    ["weather", '{"city":"Oslo"}'],
  ];
  const { seen, model } = await session([calls, "Fine", "Bye"], [tool], ["S"]);
  assert.ok(model.contextUsage > JSON.stringify(inputSchema).length, "tools take room");
  assert.equal(await model.prompt("How is it?"), "Fine!");
  assert.equal(most, 2);
  const told = { name: "weather", description: "The weather in a city", parameters: inputSchema };
  assert.deepEqual(seen[0]?.tools, [{ type: "function", function: told }]);
  const made = seen[1]?.messages?.[2]?.tool_calls ?? [];
  assert.equal(new Set(made.map(({ id }) => id)).size, 2);
  assert.deepEqual(
    made.map((call) => [call.type, call.function]),
    calls.map(([name, json]) => ["function", { name, arguments: json }]),
  );
  assert.deepEqual(seen[1]?.messages?.slice(3), [
    { role: "tool", tool_call_id: made[0]?.id, content: "sunny in Rome" },
    { role: "tool", tool_call_id: made[1]?.id, content: "sunny in Oslo" },
  ]);
  const copy = await model.clone();
  assert.equal(await copy.prompt("Thanks"), "Bye!");
  const roles = ["system", "user", "assistant", "tool", "tool", "assistant", "user"];
  assert.deepEqual(
    seen[2]?.messages?.map(({ role }) => role),
    roles,
  );
});

test("the model is told about calls that cannot be made", async () => {
  const tool = weather(() => Promise.reject(new Error("is not called")));
  const { seen, model } = await session(
    [
      [
        ["wether", "{}"],
        ["weather", "[1]"],
        ["weather", '{"city'],
      ],
      "Sorry",
    ],
    [tool],
  );
  let streamed = "";
  for await (const text of model.promptStreaming("?")) streamed += text;
  assert.equal(streamed, "Sorry!");
  assert.deepEqual(
    seen[1]?.messages?.slice(2).map(({ content }) => content),
    [
      "There is no tool wether.",
      "The arguments are not a JSON object.",
      "The arguments are not a JSON object.",
    ],
  );
});

test("an error of a tool is the prompt's, which is forgotten; a signal does not wait for tools", async () => {
  const broken = new Error("broken");
  const never = new Promise<string>(() => {});
  const results = [() => Promise.reject(broken), () => never];
  const tool = weather(() => results.shift()?.() ?? never);
  const call: Answer = [["weather", "{}"]];
  const { seen, model } = await session([call, call, "Fine"], [tool]);
  await assert.rejects(model.prompt("1"), (error) => error === broken);
  const controller = new AbortController();
  const asked = model.prompt("2", { signal: controller.signal });
  while (results.length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  controller.abort(new Error("enough"));
  await assert.rejects(asked, { message: "enough" });
  assert.equal(await model.prompt("3"), "Fine!");
  assert.deepEqual(seen.at(-1)?.messages, [{ role: "user", content: "3" }]);
});

test("tools are checked, and need a chat template", async () => {
  const good = weather(async () => "");
  const { engine } = await engineWith({ contextLength: 1000 });
  const model = languageModel(engine);
  const wrong = [
    { ...good, execute: undefined },
    { ...good, name: undefined },
    { ...good, inputSchema: null },
  ] as unknown as LanguageModelTool[];
  for (const tool of wrong) await assert.rejects(model.create({ tools: [tool] }), { name: "TypeError" });
  await assert.rejects(model.create({ tools: [good, good] }), { name: "TypeError" });
  const options = {
    tools: [good],
    expectedInputs: [{ type: "text" }, { type: "tool-response" }],
    expectedOutputs: [{ type: "tool-call" }],
  };
  assert.equal(await model.availability(options), "available");
  await model.create(options);
  const bare = languageModel((await engineWith({ contextLength: 1000, tools: null })).engine);
  assert.equal(await bare.availability(options), "unavailable");
  await assert.rejects(bare.create(options), { name: "NotSupportedError" });
});
