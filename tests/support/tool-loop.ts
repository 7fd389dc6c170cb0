/** A loop of two tools through the AI SDK, unmodified. Bundled by `e2e/real-tools.spec.ts`. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

/** A step of the loop: its calls, and what was said. */
export interface Step {
  calls: { name: string; input: unknown }[];
  text: string;
}

const CHOICES = [
  { type: "tool", toolName: "find_person" },
  { type: "tool", toolName: "get_weather" },
  "none",
] as const;

/** Asks for something that takes both tools, the second with what the first returned. */
export async function loop(fetch: typeof globalThis.fetch): Promise<Step[]> {
  const nomoat = createOpenAICompatible({ name: "nomoat", baseURL: "http://nomoat/v1", fetch });
  const { steps } = await generateText({
    model: nomoat("any"),
    temperature: 0,
    maxOutputTokens: 120,
    maxRetries: 0,
    prompt: "Find the city where Alice lives. Then tell me the weather there.",
    tools: {
      find_person: tool({
        description: "Find the city where a person lives",
        inputSchema: z.object({ person: z.string().max(40) }),
        execute: async () => ({ city: "Lisbon" }),
      }),
      get_weather: tool({
        description: "Get the weather in a city",
        inputSchema: z.object({ city: z.string().max(40), unit: z.enum(["celsius", "fahrenheit"]) }),
        execute: async () => ({ temperature: 21, sky: "sunny" }),
      }),
    },
    stopWhen: stepCountIs(3),
    // Left to itself, a small model calls the first tool again; with what it calls a tool is its choice.
    prepareStep: async ({ stepNumber }) => ({ toolChoice: CHOICES[stepNumber] }),
  });
  return steps.map(({ toolCalls, text }) => ({
    calls: toolCalls.map(({ toolName: name, input }) => ({ name, input: input as unknown })),
    text,
  }));
}
