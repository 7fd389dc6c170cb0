import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidRequestError } from "../src/errors.js";
import { toRuntimeRequest } from "../src/request.js";

const messages = [{ role: "user", content: "Hi" }];
const convert = (params: unknown) => toRuntimeRequest(params as Parameters<typeof toRuntimeRequest>[0]);

test("defaults are OpenAI's", () => {
  assert.deepEqual(convert({ messages }), {
    messages,
    max_tokens: null,
    temperature: 1,
    top_p: 1,
    seed: null,
    stop: [],
  });
});

test("halves of characters are replaced, whole ones are not", () => {
  const content = "a \ud83d b \ude00 c \ud83d\ude00";
  const repaired = "a \ufffd b \ufffd c \ud83d\ude00";
  const parts = [{ type: "text", text: content }];
  const { messages: sent, stop } = convert({
    messages: [
      { role: "user", content },
      { role: "user", content: parts },
    ],
    stop: content,
  });
  assert.deepEqual(
    sent?.map((message) => message.content),
    [repaired, repaired],
  );
  assert.deepEqual(stop, [repaired]);
});

test("everything given arrives", () => {
  const request = convert({
    model: "any",
    messages: [
      {
        role: "developer",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
      ...messages,
    ],
    max_tokens: 5,
    max_completion_tokens: 6,
    temperature: 0,
    top_k: 40,
    min_p: 0.1,
    repetition_penalty: 1.1,
    presence_penalty: -1,
    frequency_penalty: 2,
    logit_bias: { "50": -100 },
    seed: 7,
    stop: "\n",
    n: 1,
    tools: [],
    user: "me",
    response_format: { type: "text" },
  });
  assert.deepEqual(request, {
    messages: [{ role: "system", content: "ab" }, ...messages],
    max_tokens: 6,
    temperature: 0,
    top_p: 1,
    top_k: 40,
    min_p: 0.1,
    repetition_penalty: 1.1,
    presence_penalty: -1,
    frequency_penalty: 2,
    logit_bias: { "50": -100 },
    seed: 7,
    stop: ["\n"],
  });
});

test("llama.cpp's samplers arrive by their names", () => {
  const samplers = {
    typical_p: 0.9,
    top_n_sigma: -1,
    xtc_probability: 0.5,
    xtc_threshold: 0.2,
    dry_multiplier: 0.8,
    dry_base: 2,
    dry_allowed_length: 3,
    dry_penalty_last_n: -1,
    dry_sequence_breakers: ["\n", "é"],
    dynatemp_range: 0.4,
    dynatemp_exponent: 1.5,
    mirostat: 2,
    mirostat_tau: 4,
    mirostat_eta: 0.2,
  };
  const {
    messages: _m,
    max_tokens: _t,
    temperature,
    top_p,
    seed: _s,
    stop: _stop,
    ...rest
  } = convert({
    messages,
    ...samplers,
  });
  assert.deepEqual(rest, samplers);
  assert.deepEqual([temperature, top_p], [1, 1]);
});

test("a wrong field is named", () => {
  const wrong: [unknown, string][] = [
    [{}, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: [{ role: "robot", content: "" }] }, "messages[0].role"],
    [{ messages: [...messages, { role: "user", content: null }] }, "messages[1].content"],
    [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "messages[0].content[0]"],
    [{ messages, temperature: 3 }, "temperature"],
    [{ messages, temperature: Number.NaN }, "temperature"],
    [{ messages, top_p: 0 }, "top_p"],
    [{ messages, typical_p: 1.5 }, "typical_p"],
    [{ messages, top_n_sigma: -2 }, "top_n_sigma"],
    [{ messages, xtc_probability: 2 }, "xtc_probability"],
    [{ messages, xtc_threshold: "0.1" }, "xtc_threshold"],
    [{ messages, dry_multiplier: -1 }, "dry_multiplier"],
    [{ messages, dry_base: 0.9 }, "dry_base"],
    [{ messages, dry_allowed_length: 0 }, "dry_allowed_length"],
    [{ messages, dry_penalty_last_n: 1.5 }, "dry_penalty_last_n"],
    [{ messages, dry_sequence_breakers: "x" }, "dry_sequence_breakers"],
    [{ messages, dry_sequence_breakers: ["ü".repeat(21)] }, "dry_sequence_breakers"],
    [{ messages, dynatemp_range: -1 }, "dynatemp_range"],
    [{ messages, dynatemp_exponent: -1 }, "dynatemp_exponent"],
    [{ messages, mirostat: 1 }, "mirostat"],
    [{ messages, mirostat_tau: -1 }, "mirostat_tau"],
    [{ messages, mirostat_eta: 1.1 }, "mirostat_eta"],
    [{ messages, max_tokens: 0 }, "max_tokens"],
    [{ messages, context_overflow: "drop" }, "context_overflow"],
    [{ messages, prediction: "Hi" }, "prediction"],
    [{ messages, prediction: { type: "text", content: "Hi" } }, "prediction.type"],
    [{ messages, prediction: { type: "content", content: 1 } }, "prediction.content"],
    [{ messages, max_completion_tokens: 1.5 }, "max_completion_tokens"],
    [{ messages, seed: -1 }, "seed"],
    [{ messages, stop: [""] }, "stop"],
    [{ messages, logit_bias: { x: 1 } }, "logit_bias.x"],
    [{ messages, logit_bias: { "9999999999": 1 } }, "logit_bias.9999999999"],
    [{ messages, logit_bias: { "4294967296": 1 } }, "logit_bias.4294967296"],
    [{ messages, n: 0 }, "n"],
    [{ messages, n: 129 }, "n"],
    [{ messages, n: 1.5 }, "n"],
    [{ messages, logprobs: 1 }, "logprobs"],
    [{ messages, response_format: { type: "xml" } }, "response_format.type"],
    [{ messages, response_format: { type: "json_schema" } }, "response_format.json_schema"],
    [
      { messages, response_format: { type: "json_schema", json_schema: { name: "a" } } },
      "response_format.json_schema.schema",
    ],
    [{ messages, grammar: { yacc: "a" } }, "grammar"],
    [{ messages, grammar: { regex: "a", lark: "b" } }, "grammar"],
    [{ messages, grammar: { regex: "a" }, response_format: { type: "json_object" } }, "grammar"],
    [{ messages, stream: 1 }, "stream"],
    [{ messages, stream_options: {} }, "stream_options"],
    [{ messages, reasoning_effort: 1 }, "reasoning_effort"],
    [{ messages, thinking_token_budget: -1 }, "thinking_token_budget"],
    [
      { messages: [{ role: "assistant", content: "a", reasoning_content: 1 }] },
      "messages[0].reasoning_content",
    ],
    [{ messages, chat_template_kwargs: [] }, "chat_template_kwargs"],
    [{ messages, temprature: 1 }, "temprature"],
  ];
  for (const [params, param] of wrong)
    assert.throws(
      () => convert(params),
      (error) => error instanceof InvalidRequestError && error.param === param,
      param,
    );
});

test("variables go to the chat template", () => {
  const chat_template_kwargs = { enable_thinking: false };
  assert.deepEqual(
    convert({ messages, reasoning_effort: "low", chat_template_kwargs }).chat_template_kwargs,
    {
      enable_thinking: false,
      reasoning_effort: "low",
    },
  );
});

test("earlier thoughts and the budget of the next ones go to the runtime", () => {
  const turns = [
    { role: "user", content: "a" },
    { role: "assistant", content: "b", reasoning_content: "Hm \ud83d" },
    { role: "user", content: "c", reasoning_content: null },
  ];
  const request = convert({ messages: turns, thinking_token_budget: 0 });
  assert.equal(request.thinking_token_budget, 0);
  assert.deepEqual(request.messages, [
    { role: "user", content: "a" },
    { role: "assistant", content: "b", reasoning_content: "Hm \ufffd" },
    { role: "user", content: "c" },
  ]);
  assert.ok(!("thinking_token_budget" in convert({ messages, thinking_token_budget: null })));
});

test("constraints go to the runtime", () => {
  const schema = { type: "object", properties: {} };
  const json_schema = { name: "a", schema, strict: true };
  const format = convert({ messages, response_format: { type: "json_schema", json_schema } }).response_format;
  assert.deepEqual(format, { type: "json_schema", json_schema: { name: "a", schema } });
  assert.deepEqual(convert({ messages, response_format: { type: "json_object" } }).response_format, {
    type: "json_object",
  });
  assert.equal(convert({ messages, response_format: { type: "text" } }).response_format, undefined);
  assert.deepEqual(convert({ messages, grammar: { regex: "a+" } }).grammar, { regex: "a+" });
});

test("tools, calls and their results arrive", () => {
  const add = { type: "function", function: { name: "add", parameters: { type: "object" } } };
  const call = { id: "abc", type: "function", function: { name: "add", arguments: '{"a": 1}' } };
  const request = convert({
    messages: [
      ...messages,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "abc", content: [{ type: "text", text: "2" }] },
    ],
    tools: [add],
    tool_choice: { type: "function", function: { name: "add" } },
    parallel_tool_calls: false,
  });
  assert.deepEqual(request.messages?.slice(1), [
    { role: "assistant", content: "", tool_calls: [call] },
    { role: "tool", content: "2", tool_call_id: "abc" },
  ]);
  assert.deepEqual(request.tools, [add]);
  assert.deepEqual(request.tool_choice, { type: "function", function: { name: "add" } });
  assert.equal(request.parallel_tool_calls, false);
  // An empty list is none.
  assert.deepEqual(convert({ messages, tools: [], tool_choice: "auto" }), convert({ messages }));
});

test("wrong tools are named", () => {
  const add = { type: "function", function: { name: "add" } };
  for (const [params, field] of [
    [{ tools: {} }, "tools"],
    [{ tools: [{ type: "custom" }] }, "tools[0].type"],
    [{ tools: [{ type: "function" }] }, "tools[0].function"],
    [{ tools: [add], tool_choice: "any" }, "tool_choice"],
    [{ tool_choice: "required" }, "tool_choice"],
    [{ tools: [add], parallel_tool_calls: 1 }, "parallel_tool_calls"],
    [{ messages: [{ role: "tool", content: "2" }] }, "messages[0].tool_call_id"],
    [{ messages: [{ role: "assistant", tool_calls: [{ id: "a" }] }] }, "messages[0].tool_calls[0].function"],
    [{ messages: [{ role: "assistant", content: null }] }, "messages[0].content"],
  ] as const)
    assert.throws(
      () => convert({ messages, ...params }),
      (error) => error instanceof InvalidRequestError && error.param === field,
      field,
    );
});
