/**
 * Official clients that call tools and ask for objects in a page, unmodified: the newest major version of
 * each and the one before. Bundled by `e2e/tool-clients.spec.ts`.
 */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  HumanMessage,
  type AIMessageChunk,
  type BaseMessage,
  type ToolMessage,
} from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import * as ai from "ai";
import * as ai6 from "ai-6";
import { createOpenAICompatible as createOpenAICompatible2 } from "ai-sdk-openai-compatible-2";
import { createOpenAI as createOpenAI3 } from "ai-sdk-openai-3";
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import * as chain0 from "../langchain-0/index.ts";
import { ENGINE } from "./clients.ts";

const model = "any";
const QUESTION = "What is the weather?";
const MAX = 80;

/** What a client got, for the test to judge. */
export interface Got {
  /** Arguments of calls, which fit `weather`. */
  calls: unknown[];
  /** Objects, which fit `weather` too. */
  objects: unknown[];
  /** Everything else: the test knows each value. */
  rest: Record<string, unknown>;
}

/** The arguments of the tool. */
const weather = z.object({ city: z.enum(["Paris", "Rome"]), days: z.number().int().min(1).max(7) });
const schema = {
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] }, days: { type: "integer", minimum: 1, maximum: 7 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const name = "weather";
const description = "The weather in a city.";

/** Whether a call's id is one that any chat template takes. */
const isId = (id: unknown) => /^[a-z0-9]{9}$/i.test(String(id));

/** The client `openai`: chat completions. */
async function chat(client: OpenAI): Promise<Got> {
  const { completions } = client.chat;
  const messages = [{ role: "user" as const, content: QUESTION }];
  const tools = [
    { type: "function" as const, function: { name, description, parameters: schema, strict: true } },
  ];
  const asked = { model, messages, temperature: 0, max_completion_tokens: MAX };
  const required = { ...asked, tools, tool_choice: "required" as const };
  const got: Got = { calls: [], objects: [], rest: {} };

  const whole = (await completions.create(required)).choices[0];
  const [made] = whole?.message.tool_calls ?? [];
  if (made?.type === "function") got.calls.push(JSON.parse(made.function.arguments));

  // By hand, as code from before the helpers does it.
  let [text, pieces, reason] = ["", 0, ""];
  const ids = new Set<string>();
  for await (const { choices } of await completions.create({ ...required, stream: true }))
    for (const { delta, finish_reason } of choices) {
      reason = finish_reason ?? reason;
      for (const piece of delta.tool_calls ?? []) {
        if (piece.id) ids.add(piece.id);
        text += piece.function?.arguments ?? "";
        pieces += 1;
      }
    }
  got.calls.push(JSON.parse(text));

  const helper = completions.stream(required);
  const deltas: string[] = [];
  helper.on("tool_calls.function.arguments.delta", ({ arguments_delta }) => deltas.push(arguments_delta));
  const [helped] = (await helper.finalChatCompletion()).choices[0]?.message.tool_calls ?? [];
  if (helped?.type === "function") got.calls.push(JSON.parse(helped.function.arguments));

  const runnable = (seen: unknown[]) => ({
    type: "function" as const,
    function: {
      name,
      description,
      parameters: schema,
      parse: (text: string) => JSON.parse(text) as unknown,
      function: (given: unknown) => (seen.push(given), "sunny"),
    },
  });
  const named = { type: "function" as const, function: { name } };
  const one = completions.runTools({ ...asked, tools: [runnable(got.calls)], tool_choice: named });
  const result = await one.finalFunctionToolCallResult();
  // The second request has the first call and its result among its messages.
  const twice: unknown[] = [];
  const runner = completions.runTools(
    { ...asked, tools: [runnable(twice)], tool_choice: "required", stream: true },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  got.calls.push(...twice);

  const parsed = await completions.parse({
    ...asked,
    tools: [zodFunction({ name, description, parameters: weather })],
    tool_choice: "required",
  });
  const [zod] = parsed.choices[0]?.message.tool_calls ?? [];
  if (zod?.type === "function") got.calls.push(zod.function.parsed_arguments);
  const format = { ...asked, response_format: zodResponseFormat(weather, name) };
  got.objects.push((await completions.parse(format)).choices[0]?.message.parsed);
  got.objects.push((await completions.stream(format).finalChatCompletion()).choices[0]?.message.parsed);
  got.rest = {
    finish: whole?.finish_reason,
    content: whole?.message.content,
    id: isId(made?.id),
    name: made?.type === "function" && made.function.name,
    streamed: [ids.size, [...ids].every(isId), pieces > 1, reason],
    helper: deltas.join("") === (helped?.type === "function" && helped.function.arguments),
    result,
    ran: twice.length,
    roles: runner.messages.map(({ role }) => role),
  };
  return got;
}

/** The client `openai`: responses. */
async function responses(client: OpenAI): Promise<Got> {
  const got: Got = { calls: [], objects: [], rest: {} };
  const input: OpenAI.Responses.ResponseInput = [{ role: "user", content: QUESTION }];
  const tools = [{ type: "function" as const, name, description, parameters: schema, strict: true }];
  const asked = { model, input, temperature: 0, max_output_tokens: MAX };
  const required = { ...asked, tools, tool_choice: "required" as const };

  const whole = await client.responses.create(required);
  const [call] = whole.output;
  if (call?.type !== "function_call") throw new Error(`no call: ${JSON.stringify(whole.output)}`);
  got.calls.push(JSON.parse(call.arguments));

  const stream = client.responses.stream(required);
  let deltas = "";
  stream.on("response.function_call_arguments.delta", ({ delta }) => (deltas += delta));
  const [streamed] = (await stream.finalResponse()).output;
  if (streamed?.type === "function_call") got.calls.push(JSON.parse(streamed.arguments));

  const parsed = await client.responses.parse({
    ...asked,
    tools: [zodResponsesFunction({ name, description, parameters: weather })],
    tool_choice: { type: "function", name },
  });
  const [first] = parsed.output;
  if (first?.type === "function_call") got.calls.push(first.parsed_arguments);
  const text = { format: zodTextFormat(weather, name) };
  got.objects.push((await client.responses.parse({ ...asked, text })).output_parsed);

  const answer = await client.responses.create({
    ...asked,
    input: [...input, call, { type: "function_call_output", call_id: call.call_id, output: "sunny" }],
    tools,
    tool_choice: "none",
    max_output_tokens: 4,
  });
  got.rest = {
    status: [whole.status, call.status],
    ids: [isId(call.call_id), call.id?.startsWith("fc_")],
    name: call.name,
    deltas: streamed?.type === "function_call" && streamed.arguments === deltas,
    answer: answer.output.map(({ type }) => type),
  };
  return got;
}

type Sdk = Pick<
  typeof ai,
  "generateText" | "streamText" | "generateObject" | "streamObject" | "stepCountIs" | "tool"
>;

/** The AI SDK with one of its providers: a call and an answer to its result, and objects. */
async function sdk(
  { generateText, streamText, generateObject, streamObject, stepCountIs, tool }: Sdk,
  from: ai.LanguageModel,
): Promise<Got> {
  const got: Got = { calls: [], objects: [], rest: {} };
  const asked = { model: from, prompt: QUESTION, temperature: 0, maxOutputTokens: MAX, maxRetries: 0 };
  const looped = {
    ...asked,
    tools: {
      [name]: tool({
        description,
        inputSchema: weather,
        execute: async (input) => (got.calls.push(input), "sunny"),
      }),
    },
    toolChoice: "required" as const,
    stopWhen: stepCountIs(2),
    prepareStep: async ({ stepNumber }: { stepNumber: number }) => ({
      toolChoice: stepNumber === 0 ? ("required" as const) : ("none" as const),
    }),
  };
  const { steps, response } = await generateText(looped);
  // What was said and called so far goes back in the provider's own way, which may be by references.
  const messages = [
    { role: "user" as const, content: QUESTION },
    ...response.messages,
    { role: "user" as const, content: "Thanks" },
  ];
  const { prompt: _, ...settings } = asked;
  const more = await generateText({ ...settings, maxOutputTokens: 4, messages });
  const stream = streamText(looped);
  const kinds: string[] = [];
  let [input, called] = ["", ""];
  for await (const part of stream.fullStream) {
    if (part.type === "tool-input-delta") input += part.delta;
    if (part.type === "tool-call") called = JSON.stringify(part.input);
    if (part.type === "error") throw part.error;
    if (kinds.at(-1) !== part.type) kinds.push(part.type);
  }
  got.objects.push((await generateObject({ ...asked, schema: weather })).object);
  const objects = streamObject({ ...asked, schema: weather });
  let partial = 0;
  for await (const _ of objects.partialObjectStream) partial += 1;
  got.objects.push(await objects.object);
  got.rest = {
    steps: steps.map(({ finishReason, toolCalls, toolResults, text }) => [
      finishReason,
      toolCalls.map(({ toolName }) => toolName),
      toolResults.map(({ output }) => output as unknown),
      text !== "",
    ]),
    streamed: kinds.filter((kind) => kind.startsWith("tool-")),
    input: JSON.stringify(JSON.parse(input)) === called,
    partial: partial > 1,
    more: more.text !== "",
  };
  return got;
}

/** LangChain: what the newest version and the one before have under these names. */
type Chain = { ChatOpenAI: typeof ChatOpenAI; HumanMessage: typeof HumanMessage; tool: typeof tool };

/** LangChain's chat model with these settings. */
async function langchain(
  { ChatOpenAI, HumanMessage, tool }: Chain,
  fields: ConstructorParameters<typeof ChatOpenAI>[0],
): Promise<Got> {
  const given = new ChatOpenAI(fields);
  const got: Got = { calls: [], objects: [], rest: {} };
  const lookUp = tool(async () => "sunny", { name, description, schema: weather });
  const bound = given.bindTools([lookUp], { tool_choice: name });
  const asked: BaseMessage[] = [new HumanMessage(QUESTION)];
  const answer = await bound.invoke(asked);
  const [call] = answer.tool_calls ?? [];
  if (!call) throw new Error("no call");
  let whole: AIMessageChunk | undefined;
  for await (const piece of await bound.stream(asked)) whole = whole ? whole.concat(piece) : piece;
  got.calls.push(call.args, whole?.tool_calls?.[0]?.args);
  const result = (await lookUp.invoke(call)) as ToolMessage;
  const last = await given.invoke([...asked, answer, result], { max_tokens: 4 } as object);
  for (const method of ["jsonSchema", "functionCalling"] as const)
    got.objects.push(await given.withStructuredOutput(weather, { name, method }).invoke(QUESTION));
  got.rest = {
    call: [call.name, isId(call.id)],
    result: result.content,
    answered: last.content !== "",
  };
  return got;
}

/** What every client got, through this `fetch`; with `only`, those of these names. */
export async function callAll(
  fetch: typeof globalThis.fetch,
  { baseURL, apiKey } = ENGINE,
  only?: readonly string[],
): Promise<Record<string, Got>> {
  const options = { apiKey, baseURL, fetch, dangerouslyAllowBrowser: true, maxRetries: 0 };
  const newest = new OpenAI(options);
  const before = new OpenAI6(options) as unknown as OpenAI;
  const provider = { apiKey, baseURL, fetch, name: "nomoat", supportsStructuredOutputs: true };
  const chain = {
    apiKey,
    model,
    temperature: 0,
    maxTokens: MAX,
    maxRetries: 0,
    configuration: { baseURL, fetch, dangerouslyAllowBrowser: true },
  };
  const old = ai6 as unknown as Sdk;
  const as = (any: unknown) => any as ai.LanguageModel;
  const newestChain: Chain = { ChatOpenAI, HumanMessage, tool };
  const oldChain = chain0 as unknown as Chain;
  const byResponses = { ...chain, useResponsesApi: true };
  const clients: Record<string, () => Promise<Got>> = {
    "openai, chat": () => chat(newest),
    "openai, responses": () => responses(newest),
    "openai 6, chat": () => chat(before),
    "openai 6, responses": () => responses(before),
    "ai, openai-compatible": () => sdk(ai, createOpenAICompatible(provider)(model)),
    "ai, openai": () => sdk(ai, createOpenAI(provider)(model)),
    "ai, openai.chat": () => sdk(ai, createOpenAI(provider).chat(model)),
    "ai 6, openai-compatible": () => sdk(old, as(createOpenAICompatible2(provider)(model))),
    "ai 6, openai": () => sdk(old, as(createOpenAI3(provider)(model))),
    langchain: () => langchain(newestChain, chain),
    "langchain, responses": () => langchain(newestChain, byResponses),
    "langchain 0": () => langchain(oldChain, chain),
    "langchain 0, responses": () => langchain(oldChain, byResponses),
  };
  const got: Record<string, Got> = {};
  for (const [name, ask] of Object.entries(clients))
    if (only?.includes(name) ?? true) got[name] = await ask();
  return got;
}
