/** The newest official clients with a tool and an object each, in few tokens. Bundled by a test. */
import { createOpenAI } from "@ai-sdk/openai";
import { tool as chainTool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { generateObject, generateText, stepCountIs, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ENGINE } from "./clients.ts";

export { askAll } from "./clients.ts";

const { baseURL, apiKey } = ENGINE;
const model = "any";
const QUESTION = "What is the weather in Rome?";
const place = z.object({ city: z.enum(["Paris", "Rome"]) });
const name = "weather";
const description = "The weather in a city.";

/** The tool's arguments, and an object, by each client. */
export async function callBriefly(fetch: typeof globalThis.fetch): Promise<Record<string, unknown[]>> {
  const options = { apiKey, baseURL, fetch, dangerouslyAllowBrowser: true, maxRetries: 0 };
  const client = new OpenAI(options);
  const parameters = {
    type: "object",
    properties: { city: { enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  };
  const response = await client.responses.create({
    model,
    input: QUESTION,
    tools: [{ type: "function", name, description, parameters, strict: true }],
    tool_choice: "required",
  });
  const [call] = response.output;
  const parsed = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: QUESTION }],
    response_format: zodResponseFormat(place, "place"),
  });

  const from = createOpenAI({ apiKey, baseURL, fetch })(model);
  const asked = { model: from, prompt: QUESTION, maxOutputTokens: 40, maxRetries: 0 };
  const seen: unknown[] = [];
  const { steps } = await generateText({
    ...asked,
    tools: {
      [name]: tool({
        description,
        inputSchema: place,
        execute: async (input) => (seen.push(input), "sunny"),
      }),
    },
    toolChoice: "required",
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  });
  const { object } = await generateObject({ ...asked, schema: place });

  const chain = new ChatOpenAI({ apiKey, model, maxTokens: 40, maxRetries: 0, configuration: options });
  const lookUp = chainTool(async () => "sunny", { name, description, schema: place });
  const answer = await chain.bindTools([lookUp], { tool_choice: name }).invoke(QUESTION);
  return {
    openai: [
      call?.type === "function_call" && JSON.parse(call.arguments),
      parsed.choices[0]?.message.parsed,
      response.status,
    ],
    ai: [...seen, object, steps.map(({ finishReason }) => finishReason)],
    langchain: [
      answer.tool_calls?.[0]?.args,
      await chain.withStructuredOutput(place, { name: "place" }).invoke(QUESTION),
    ],
  };
}
