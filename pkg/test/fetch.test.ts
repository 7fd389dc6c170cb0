import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { RuntimeRequest } from "../src/runtime.js";
import { BASE, eventsOf, post } from "./api.js";
import { engineWith } from "./fake-worker.js";

test("a chat completion, whole and streamed", async () => {
  const { engine } = await engineWith({ tokens: ["Hel", "lo"] });
  const messages = [{ role: "user", content: "Hi" }];
  const whole = await engine.fetch(`${BASE}/chat/completions`, post({ messages }));
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("content-type"), "application/json");
  assert.equal((await whole.json()).choices[0].message.content, "Hello!");

  const streamed = await engine.fetch(`${BASE}/chat/completions`, post({ messages, stream: true }));
  assert.match(streamed.headers.get("content-type") ?? "", /^text\/event-stream/);
  const events = await eventsOf(streamed);
  assert.equal(events.pop()?.data, "[DONE]");
  const chunks = events.map(({ data }) => data as { choices: { delta: { content?: string } }[] });
  assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), "Hello!");
});

test("text completions that are left early, at the echo too, end all answers", async () => {
  let ended = 0;
  const { engine } = await engineWith({ tokens: Array(99).fill("a"), onCancel: () => (ended += 1) });
  const left = async (echo: boolean) => {
    ended = 0;
    for await (const _ of await engine.completions.create({ prompt: ["1", "2", "3"], echo, stream: true }))
      break;
    await new Promise((resolve) => setTimeout(resolve, 50));
    return ended;
  };
  assert.equal(await left(true), 3);
  assert.equal(await left(false), 3);
});

test("text completions: several prompts, echo, whole and streamed", async () => {
  const seen: RuntimeRequest[] = [];
  const { engine } = await engineWith({ tokens: ["Hel", "lo"], onStart: (request) => seen.push(request) });
  const params = { prompt: ["One", "Two"], echo: true, temperature: 0, best_of: 1, suffix: "" };
  const whole = await (await engine.fetch(`${BASE}/completions`, post(params))).json();
  assert.equal(whole.object, "text_completion");
  const expected = [
    { index: 0, text: "OneHello!", finish_reason: "stop", logprobs: null },
    { index: 1, text: "TwoHello!", finish_reason: "stop", logprobs: null },
  ];
  assert.deepEqual(whole.choices, expected);
  assert.deepEqual(whole.usage, {
    prompt_tokens: 6,
    completion_tokens: 4,
    total_tokens: 10,
    prompt_tokens_details: { cached_tokens: 2 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      accepted_prediction_tokens: 4,
      rejected_prediction_tokens: 2,
    },
  });
  assert.deepEqual(
    seen.map(({ prompt, messages, max_tokens }) => ({ prompt, messages, max_tokens })),
    ["One", "Two"].map((prompt) => ({ prompt, messages: undefined, max_tokens: 16 })),
  );

  const twice = await engine.completions.create({ prompt: ["One", "Two"], n: 2, seed: 5 });
  assert.deepEqual(
    seen.splice(2).map(({ prompt, seed }) => [prompt, seed]),
    [
      ["One", 5],
      ["One", 6],
      ["Two", 5],
      ["Two", 6],
    ],
  );
  assert.deepEqual(
    twice.choices.map(({ index, text }) => [index, text]),
    [0, 1, 2, 3].map((index) => [index, "Hello!"]),
  );
  // A prompt counts once.
  assert.deepEqual([twice.usage?.prompt_tokens, twice.usage?.completion_tokens], [6, 8]);
  const streamed = await engine.completions.create({ prompt: ["One", "Two"], n: 2, stream: true });
  const texts = ["", "", "", ""];
  for await (const { choices } of streamed) for (const { index, text } of choices) texts[index] += text;
  assert.deepEqual(texts, ["Hello!", "Hello!", "Hello!", "Hello!"]);
  await assert.rejects(engine.completions.create({ prompt: ["One", "Two"], n: 65 }), { param: "n" });
  seen.splice(2);

  for (const prompt of [
    [7, 8],
    [[7], [8]],
  ])
    assert.equal((await engine.fetch(`${BASE}/completions`, post({ prompt }))).status, 200);
  assert.deepEqual(
    seen.splice(0).map(({ prompt }) => prompt),
    ["One", "Two", [7, 8], [7], [8]],
  );
  const middle = { prompt: "f(", suffix: ")" };
  assert.equal((await engine.fetch(`${BASE}/completions`, post(middle))).status, 200);
  assert.deepEqual(
    seen.splice(0).map(({ prompt, suffix }) => ({ prompt, suffix })),
    [middle],
  );

  const streaming = { ...params, stream: true, stream_options: { include_usage: true } };
  const events = await eventsOf(await engine.fetch(`${BASE}/completions`, post(streaming)));
  assert.equal(events.pop()?.data, "[DONE]");
  type Piece = { choices: { index: number; text: string; finish_reason: string | null }[]; usage: unknown };
  const list = events.map(({ data }) => data as Piece);
  assert.deepEqual(list.pop()?.usage, whole.usage);
  for (const { index, text } of expected) {
    const own = list.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
    assert.equal(own.map((choice) => choice.text).join(""), text);
    assert.deepEqual(
      own.map((choice) => choice.finish_reason),
      own.map((_, at) => (at === own.length - 1 ? "stop" : null)),
    );
  }
});

test("a response becomes a chat, and its events come in OpenAI's order", async () => {
  const seen: RuntimeRequest[] = [];
  const { engine } = await engineWith({ tokens: ["Hel", "lo"], onStart: (request) => seen.push(request) });
  const input = [
    { role: "user", content: [{ type: "input_text", text: "Hi" }] },
    { type: "reasoning", id: "rs_1", summary: [] },
    { type: "message", role: "assistant", content: [{ type: "output_text", text: "Yes?" }] },
    { role: "user", content: "Bye" },
  ];
  const text = {
    format: { type: "json_schema", name: "greeting", schema: { type: "object" }, strict: true },
  };
  const params = {
    input,
    instructions: "Be brief.",
    max_output_tokens: 5,
    temperature: 0,
    text,
    stream: true,
  };
  const events = await eventsOf(await engine.fetch(`${BASE}/responses`, post(params)));
  assert.deepEqual(seen[0]?.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Yes?" },
    { role: "user", content: "Bye" },
  ]);
  assert.equal(seen[0]?.max_tokens, 5);
  assert.equal(seen[0]?.temperature, 0);
  assert.deepEqual(seen[0]?.response_format, {
    type: "json_schema",
    json_schema: { name: "greeting", schema: { type: "object" } },
  });
  const names = events.map(({ name }) => name?.replace("response.", ""));
  assert.deepEqual(
    names.filter((name, index) => name !== names[index - 1]),
    [
      "created",
      "in_progress",
      "output_item.added",
      "content_part.added",
      "output_text.delta",
      "output_text.done",
      "content_part.done",
      "output_item.done",
      "completed",
    ],
  );
  const data = events.map((event) => event.data as Record<string, unknown>);
  assert.deepEqual(
    data.map(({ sequence_number }) => sequence_number),
    data.map((_, index) => index),
  );
  const deltas = data.filter(({ type }) => type === "response.output_text.delta");
  assert.equal(deltas.map(({ delta }) => delta).join(""), "Hello!");
  const { response } = data.at(-1) as { response: { output: unknown; usage: unknown; status: string } };
  assert.equal(response.status, "completed");
  assert.deepEqual(response.usage, {
    input_tokens: 3,
    input_tokens_details: { cached_tokens: 1 },
    output_tokens: 2,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 5,
  });
});

test("tools of a response become a chat's, and calls are items of the output", async () => {
  const seen: RuntimeRequest[] = [];
  const calls = [
    [{ index: 0, name: "add", arguments: "" }],
    [
      { index: 0, arguments: "{}" },
      { index: 1, name: "now", arguments: "{}" },
    ],
  ];
  const { engine } = await engineWith({
    tokens: ["", ""],
    calls,
    onStart: (request) => seen.push(request),
  });
  const params = {
    input: [
      { role: "user", content: "Hi" },
      { type: "function_call", call_id: "a", name: "add", arguments: "{}" },
      { type: "function_call", call_id: "b", name: "now", arguments: "{}" },
      { type: "function_call_output", call_id: "a", output: "2" },
    ],
    tools: [{ type: "function", name: "add", parameters: { type: "object" }, strict: true }],
    tool_choice: { type: "function", name: "add" },
    stream: true,
  };
  const events = await eventsOf(await engine.fetch(`${BASE}/responses`, post(params)));
  const call = (id: string, name: string) => ({ id, type: "function", function: { name, arguments: "{}" } });
  assert.deepEqual(seen[0]?.messages, [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "", tool_calls: [call("a", "add"), call("b", "now")] },
    { role: "tool", tool_call_id: "a", content: "2" },
  ]);
  assert.deepEqual(seen[0]?.tool_choice, { type: "function", function: { name: "add" } });
  const add = { name: "add", parameters: { type: "object" }, strict: true };
  assert.deepEqual(seen[0]?.tools, [{ type: "function", function: add }]);
  assert.deepEqual(
    events.map(({ name }) => name?.replace("response.", "")),
    [
      "created",
      "in_progress",
      "output_item.added",
      "function_call_arguments.delta",
      "function_call_arguments.done",
      "output_item.done",
      "output_item.added",
      "function_call_arguments.delta",
      "function_call_arguments.done",
      "output_item.done",
      "completed",
    ],
  );
  const { response } = events.at(-1)?.data as { response: { output: Record<string, unknown>[] } };
  assert.deepEqual(
    response.output.map(({ type, name, arguments: json, status }) => [type, name, json, status]),
    [
      ["function_call", "add", "{}", "completed"],
      ["function_call", "now", "{}", "completed"],
    ],
  );
});

test("what a model thinks is an item of a response, and comes back with the next request", async () => {
  const seen: RuntimeRequest[] = [];
  const { engine } = await engineWith({
    tokens: ["", "", "Hi"],
    reasoning: ["Let me", " see.", ""],
    onStart: (request) => seen.push(request),
  });
  const params = { input: "Hello", reasoning: { effort: "low" } };
  const streamed = post({ ...params, stream: true });
  const events = await eventsOf(await engine.fetch(`${BASE}/responses`, streamed));
  assert.deepEqual(seen[0]?.chat_template_kwargs, { reasoning_effort: "low" });
  const data = events.map((event) => event.data as Record<string, unknown>);
  const deltas = data.filter(({ type }) => type === "response.reasoning_text.delta");
  assert.deepEqual(
    deltas.map(({ delta, output_index }) => [delta, output_index]),
    [
      ["Let me", 0],
      [" see.", 0],
    ],
  );
  const done = data.find(({ type }) => type === "response.reasoning_text.done");
  assert.equal(done?.["text"], "Let me see.");
  // It ends before the message begins.
  const order = data.map(({ type }) => type);
  assert.ok(
    order.indexOf("response.output_item.done") < order.indexOf("response.output_text.delta"),
    order.join(),
  );
  type Item = { id: string; type: string; content: { type: string; text: string }[] };
  const { response } = data.at(-1) as { response: { output: Item[] } };
  const contents = (output: Item[]) => output.map(({ type, content }) => [type, content[0]?.text]);
  const expected = [
    ["reasoning", "Let me see."],
    ["message", "Hi!"],
  ];
  assert.deepEqual(contents(response.output), expected);
  const whole = await engine.fetch(`${BASE}/responses`, post({ ...params, store: false }));
  const { output: others } = (await whole.json()) as { output: Item[] };
  assert.deepEqual(contents(others), expected);

  // Whole items, or references to those of answers that may be kept.
  const user = { role: "user", content: "And?" };
  const references = response.output.map(({ id }) => ({ type: "item_reference", id }));
  for (const items of [response.output, references]) {
    await engine.fetch(`${BASE}/responses`, post({ input: [...items, user] }));
    assert.deepEqual(seen.at(-1)?.messages, [
      { role: "assistant", content: "Hi!", reasoning_content: "Let me see." },
      user,
    ]);
  }
  const unkept = [{ type: "item_reference", id: others[1]?.id }];
  const refused = await engine.fetch(`${BASE}/responses`, post({ input: unkept }));
  assert.equal(refused.status, 400);
});

test("a text between two calls has its own place in a streamed response", async () => {
  const calls = [
    [{ index: 0, name: "add", arguments: "{}" }],
    [],
    [{ index: 1, name: "now", arguments: "{}" }],
  ];
  const { engine } = await engineWith({ tokens: ["", "and", ""], calls });
  const tools = ["add", "now"].map((name) => ({ type: "function", name }));
  const params = { input: "Hi", tools, stream: true };
  const events = await eventsOf(await engine.fetch(`${BASE}/responses`, post(params)));
  const places = new Map<unknown, unknown>();
  for (const { data } of events) {
    const { type, output_index, item } = data as { type: string; output_index: number; item: { id: string } };
    if (type === "response.output_item.added") places.set(output_index, item.id);
    if (type === "response.output_item.done") assert.equal(places.get(output_index), item.id);
  }
  const { response } = events.at(-1)?.data as { response: { output: { id: string; type: string }[] } };
  assert.deepEqual(
    response.output.map(({ type }) => type),
    ["function_call", "message", "function_call"],
  );
  assert.deepEqual(
    response.output.map(({ id }, index) => [index, id]),
    [...places],
  );
});

test("errors have OpenAI's shape and codes, and name the field", async () => {
  const { engine } = await engineWith({});
  // `nomoat serve` is checked against the same file.
  const file = new URL("../../../../tests/golden/errors.json", import.meta.url);
  const refused = JSON.parse(readFileSync(file, "utf8")) as {
    path: string;
    request: object;
    param: string;
    code: string;
  }[];
  const cases: [string, RequestInit, number, string, string | null][] = [
    ...refused.map(
      ({ path, request, code, param }) => [`/${path}`, post(request), 400, code, param] as (typeof cases)[0],
    ),
    ["/chat/completions", post("{"), 400, "invalid_request", null],
    ["/chat/completions", post("[]"), 400, "invalid_type", "the parameters"],
    ["/chat/completions", {}, 405, "method_not_allowed", null],
    ["/completions", post({ prompt: [[1], [-1]] }), 400, "invalid_value", "prompt"],
    ["/completions", post({ prompt: [1, 2], echo: true }), 400, "invalid_value", "echo"],
    ["/completions", post({ prompt: "Hi", suffix: "!", echo: true }), 400, "invalid_value", "suffix"],
    ["/completions", post({ prompt: "Hi", messages: [] }), 400, "unknown_parameter", "messages"],
    ["/models/another", {}, 404, "model_not_found", "model"],
    ["/files", {}, 404, "unknown_url", null],
  ];
  for (const [path, init, status, code, param] of cases) {
    const response = await engine.fetch(BASE + path, init);
    const { error } = await response.json();
    const shown = `${path} ${String(init.body)}`;
    assert.deepEqual([response.status, error?.code, error?.param], [status, code, param], shown);
    assert.equal(error.type, "invalid_request_error");
    assert.ok(error.message);
  }
});

test("a prompt that is too long is named as OpenAI names it", async () => {
  const onStart = () => {
    throw Object.assign(new Error("too long"), { code: "context_length_exceeded" });
  };
  const { engine } = await engineWith({ onStart });
  const messages = [{ role: "user", content: "Hi" }];
  for (const [path, body, param] of [
    ["/chat/completions", { messages }, "messages"],
    ["/chat/completions", { messages, stream: true }, "messages"],
    ["/responses", { input: "Hi" }, "input"],
    ["/completions", { prompt: "Hi" }, null],
  ] as const) {
    const response = await engine.fetch(BASE + path, post(body));
    const { error } = await response.json();
    const found = [response.status, error.code, error.param];
    assert.deepEqual(found, [400, "context_length_exceeded", param], path);
  }
});

test("an error in the middle of a stream is its last event", async () => {
  const fails = () => {
    throw Object.assign(new Error("broken"), { code: "internal" });
  };
  const onNext = (generated: number) => (generated === 2 ? fails() : undefined);
  const { engine } = await engineWith({ tokens: ["a", "b", "c", "d"], onNext });
  const messages = [{ role: "user", content: "Hi" }];
  const chat = await eventsOf(
    await engine.fetch(`${BASE}/chat/completions`, post({ messages, stream: true })),
  );
  assert.deepEqual(chat.at(-1)?.data, {
    error: { message: "broken", type: "server_error", param: null, code: "internal" },
  });
  const events = await eventsOf(await engine.fetch(`${BASE}/responses`, post({ input: "Hi", stream: true })));
  const { type, response } = events.at(-1)?.data as { type: string; response: Record<string, unknown> };
  assert.equal(type, "response.failed");
  assert.deepEqual(response["error"], { code: "internal", message: "broken" });
});

test("aborting the client's signal stops the generation", async () => {
  let cancelled = 0;
  const tokens = Array.from({ length: 500 }, () => "x");
  const { engine } = await engineWith({ tokens, onCancel: () => void cancelled++ });
  const controller = new AbortController();
  const body = { messages: [{ role: "user", content: "Hi" }], stream: true };
  const response = await engine.fetch(`${BASE}/chat/completions`, post(body, { signal: controller.signal }));
  const reader = response.body?.getReader();
  await reader?.read();
  controller.abort();
  await assert.rejects(
    async () => {
      while (!(await reader?.read())?.done);
    },
    { name: "AbortError" },
  );
  await engine.tokenize("waits for the generation's end");
  assert.equal(cancelled, 1);
  await assert.rejects(engine.fetch(`${BASE}/models`, { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
});

test("cancelling the body stops the generation", async () => {
  let cancelled = 0;
  const tokens = Array.from({ length: 500 }, () => "x");
  const { engine } = await engineWith({ tokens, onCancel: () => void cancelled++ });
  const body = { messages: [{ role: "user", content: "Hi" }], stream: true };
  const response = await engine.fetch(`${BASE}/chat/completions`, post(body));
  await response.body?.cancel();
  await engine.tokenize("waits for the generation's end");
  assert.equal(cancelled, 1);
});
