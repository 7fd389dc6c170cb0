/**
 * Tool calls by a real model whose chat template has tools, and what it fills in. Only the full test has
 * them, because the model is large.
 */
import type { BrowserContext, Page } from "@playwright/test";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { join } from "node:path";
import { barePage, dispose, openFile } from "../support/bare.ts";
import { serveBundle } from "../support/bundle.ts";
import { expect, test } from "../support/fixtures.ts";
import { isFull } from "../support/golden.ts";
import { places } from "../support/places.ts";
import type { Site } from "../support/server.ts";
import { QUESTIONS, TOOLS } from "../support/tool-questions.ts";

/** A page whose engine runs the model. */
async function modelPage(context: BrowserContext, bare: Site, id: string): Promise<Page> {
  const page = await barePage(context, bare);
  const file = join(places.models, id, `${id}-q4_k_m.gguf`);
  await openFile(page, file, { device: "cpu", threads: 2, contextLength: 2048 });
  return page;
}

for (const id of isFull ? ["qwen2.5-coder-0.5b"] : []) {
  test(`${id}: twenty required calls fit their schemas`, async ({ shared, bare }) => {
    test.setTimeout(600_000);
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    const page = await modelPage(shared, bare, id);
    expect(await page.evaluate(() => window.engine.model.tools)).toBe("template");

    const right: boolean[] = [];
    for (const [number, [wanted, content]] of QUESTIONS.entries()) {
      const call = await page.evaluate(
        async ([tools, question, stream]) => {
          const messages = [{ role: "user" as const, content: question }];
          const params = {
            messages,
            tools,
            tool_choice: "required" as const,
            temperature: 0,
            max_tokens: 200,
          };
          const { completions } = window.engine.chat;
          if (!stream) {
            const [choice] = (await completions.create(params)).choices;
            const calls = choice?.message.tool_calls ?? [];
            return { ...calls[0]?.function, count: calls.length, reason: choice?.finish_reason };
          }
          let [name, json, count, reason] = ["", "", 0, null as string | null];
          for await (const { choices } of await completions.create({ ...params, stream: true })) {
            for (const piece of choices[0]?.delta.tool_calls ?? []) {
              if (piece.id) count += 1;
              name += piece.function.name ?? "";
              json += piece.function.arguments;
            }
            reason = choices[0]?.finish_reason ?? reason;
          }
          return { name, arguments: json, count, reason };
        },
        [TOOLS, content, number % 2 === 1] as const,
      );
      const shown = `${content} ${JSON.stringify(call)}`;
      expect(call, shown).toMatchObject({ count: 1, reason: "tool_calls" });
      const schema = TOOLS.find((tool) => tool.function.name === call.name)?.function.parameters;
      const fits = ajv.compile(schema ?? false);
      expect(fits(JSON.parse(call.arguments ?? "")), `${shown} ${ajv.errorsText(fits.errors)}`).toBe(true);
      right.push(call.name === wanted);
      console.log(`${call.name === wanted ? "right" : "other"} tool: ${call.name} ${call.arguments}`);
    }
    console.log(`${id}: ${right.length} calls fit, ${right.filter(Boolean).length} are of the right tool`);
    expect(right.length).toBe(20);
    await dispose(page);
    await page.close();
  });

  test(`${id}: two tools answer a question, one after the other`, async ({ shared, bare }) => {
    const page = await modelPage(shared, bare, id);
    await serveBundle(bare, "tool-loop");
    const steps = await page.evaluate(async () => {
      const address = "/tool-loop.js";
      const { loop } = (await import(address)) as typeof import("../support/tool-loop.ts");
      return loop(window.engine.fetch);
    });
    console.log(`${id}:`, JSON.stringify(steps));
    expect(steps.map(({ calls }) => calls.map(({ name }) => name))).toEqual([
      ["find_person"],
      ["get_weather"],
      [],
    ]);
    expect(steps[0]?.calls[0]?.input).toEqual({ person: expect.stringContaining("Alice") });
    // What the first tool returned.
    expect(steps[1]?.calls[0]?.input).toMatchObject({ city: expect.stringContaining("Lisbon") });
    expect(steps[2]?.text).toMatch(/\S/);
    await dispose(page);
    await page.close();
  });

  // llama.cpp's greedy texts, on the tokens `<|fim_prefix|>` prompt `<|fim_suffix|>` suffix `<|fim_middle|>`.
  test(`${id}: what comes between two texts is llama.cpp's`, async ({ shared, bare }) => {
    const page = await modelPage(shared, bare, id);
    const between = (prompt: string, suffix: string, max_tokens: number) =>
      page.evaluate(
        async (params) => {
          const { choices, usage } = await window.engine.completions.create({ ...params, temperature: 0 });
          return [choices[0]?.text, usage?.prompt_tokens];
        },
        { prompt, suffix, max_tokens },
      );
    const fibonacci = "def fib(n):\n    if n < 2:\n        return n\n    ";
    expect(await between("function isEven(n) {\n  return ", ";\n}\n", 16)).toEqual([
      "n % 2 === 0;\n}\n\nfunction isOdd(n) {\n ",
      14,
    ]);
    expect(await between(fibonacci, "\n\nassert fib(10) == 55\n", 32)).toEqual([
      "else:\n        return fib(n-1) + fib(n-2)\n\nassert fib(1) == 1\nassert fib(0) == 0",
      31,
    ]);
    await dispose(page);
    await page.close();
  });
}
