/**
 * Official clients of OpenAI's API in a page, unmodified: the newest major version of each and the one
 * before. Bundled by `e2e/clients.spec.ts`.
 */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import * as ai from "ai";
import * as ai6 from "ai-6";
import { createOpenAICompatible as createOpenAICompatible2 } from "ai-sdk-openai-compatible-2";
import { createOpenAI as createOpenAI3 } from "ai-sdk-openai-3";
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { ChatOpenAI as ChatOpenAI0 } from "../langchain-0/index.ts";

const MODEL = "any";
const MAX = 6;

/** Where an engine is that is asked through its `fetch`. */
export const ENGINE = { baseURL: "http://nomoat/v1", apiKey: "-" };

/** What a client makes of the question. */
type Answers = Record<string, unknown>;

/** The client `openai`, by every way that it has to ask for a text. */
async function openai(client: OpenAI, question: string): Promise<Answers> {
  const chat = {
    model: MODEL,
    messages: [{ role: "user" as const, content: question }],
    temperature: 0,
    max_completion_tokens: MAX,
  };
  const response = { model: MODEL, input: question, temperature: 0, max_output_tokens: MAX };
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...chat, stream: true }))
    streamed += chunk.choices[0]?.delta.content ?? "";
  const whole = await client.chat.completions.create(chat);
  const made = await client.responses.create(response);
  const final = await client.responses.stream(response).finalResponse();
  const schema = {
    type: "object",
    properties: { city: { enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  };
  const json = await client.chat.completions.create({
    model: MODEL,
    messages: chat.messages,
    temperature: 0,
    max_completion_tokens: 100,
    response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
  });
  const continued = await client.completions.create({
    model: MODEL,
    prompt: "The quick brown fox",
    echo: true,
    temperature: 0,
    max_tokens: MAX,
  });
  // The clients ask for base64 by default.
  const embedded = await client.embeddings.create({ model: MODEL, input: [question, "The sea"] });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  return {
    streamed,
    whole: whole.choices[0]?.message.content,
    helper: await client.chat.completions.stream(chat).finalContent(),
    response: made.output_text,
    json: json.choices[0]?.message.content,
    continued: continued.choices[0]?.text,
    embeddings: embedded.data.map(({ embedding }) => embedding),
    responseStatus: made.status,
    responseStream: final.output_text,
    usage: [whole.usage?.completion_tokens, made.usage?.output_tokens, final.usage?.output_tokens],
    models,
  };
}

/** A wrong request, an address that does not exist, and an answer that is stopped. */
async function errors(client: OpenAI, question: string): Promise<Answers> {
  const messages = [{ role: "user" as const, content: question }];
  const shape = (error: unknown) => {
    const { status, code, param, constructor } = Object(error) as Record<string, unknown>;
    // A bundler adds a number to one of two classes with the same name.
    return { class: (constructor as { name: string }).name.replace(/\$\d+$/, ""), status, code, param };
  };
  const controller = new AbortController();
  const aborted = (async () => {
    const stream = await client.chat.completions.create(
      { model: MODEL, messages, stream: true, max_tokens: 400 },
      { signal: controller.signal },
    );
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) controller.abort();
    return chunks;
  })();
  return {
    aborted: (await aborted) < 50,
    temperature: await client.chat.completions
      .create({ model: MODEL, messages, temperature: 9 })
      .catch(shape),
    previous: await client.responses
      .create({ model: MODEL, input: question, previous_response_id: "resp_1" })
      .catch(shape),
    files: await client.files.list().catch(shape),
    model: await client.models.retrieve("another").catch(shape),
  };
}

/** The AI SDK with one of its providers. */
async function sdk(
  { generateText, streamText }: Pick<typeof ai, "generateText" | "streamText">,
  model: ai.LanguageModel,
  prompt: string,
): Promise<Answers> {
  const given = { model, prompt, temperature: 0, maxOutputTokens: MAX, maxRetries: 0 };
  const { text, finishReason, usage } = await generateText(given);
  let streamed = "";
  for await (const piece of streamText(given).textStream) streamed += piece;
  return { text, streamed, finishReason, tokens: usage.outputTokens };
}

/** LangChain's chat model. */
async function langchain(model: ChatOpenAI, question: string): Promise<Answers> {
  let streamed = "";
  for await (const piece of await model.stream(question)) streamed += String(piece.content);
  return { whole: (await model.invoke(question)).content, streamed };
}

/** What every client makes of the question, through this `fetch`. */
export async function askAll(
  fetch: typeof globalThis.fetch,
  question: string,
): Promise<Record<string, Answers>> {
  const { baseURL, apiKey } = ENGINE;
  const provider = { apiKey, baseURL, fetch, name: "nomoat", includeUsage: true };
  const options = { apiKey, baseURL, fetch, dangerouslyAllowBrowser: true, maxRetries: 0 };
  const newest = new OpenAI(options);
  const before = new OpenAI6(options) as unknown as OpenAI;
  const chain = {
    apiKey,
    model: MODEL,
    temperature: 0,
    maxTokens: MAX,
    maxRetries: 0,
    configuration: { baseURL, fetch, dangerouslyAllowBrowser: true },
  };
  const old = ai6 as unknown as typeof ai;
  const model = (any: unknown) => any as ai.LanguageModel;
  return {
    openai: await openai(newest, question),
    "openai 6": await openai(before, question),
    errors: await errors(newest, question),
    "errors 6": await errors(before, question),
    "ai, openai-compatible": await sdk(ai, createOpenAICompatible(provider)(MODEL), question),
    "ai, openai": await sdk(ai, createOpenAI(provider)(MODEL), question),
    "ai 6, openai-compatible": await sdk(old, model(createOpenAICompatible2(provider)(MODEL)), question),
    "ai 6, openai": await sdk(old, model(createOpenAI3(provider)(MODEL)), question),
    langchain: await langchain(new ChatOpenAI(chain), question),
    "langchain 0": await langchain(new ChatOpenAI0(chain) as unknown as ChatOpenAI, question),
  };
}
