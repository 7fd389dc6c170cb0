/** Answers that are constrained to random JSON Schemas, checked by another implementation. */
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { expect, test } from "../support/fixtures.ts";
import { randomFrom } from "../support/history-model.ts";
import { randomSchema, type Schema } from "../support/schemas.ts";

const COUNT = 100;

test("every finished answer fits its schema", async ({ smallPage }) => {
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  const random = randomFrom(2024);
  const finished = { whole: 0, streamed: 0 };
  for (let number = 0; number < COUNT; number++) {
    const schema: Schema = {
      type: "object",
      properties: { value: randomSchema(random) },
      required: ["value"],
      additionalProperties: false,
    };
    const streamed = number % 2 === 1;
    const temperature = number % 4 < 2 ? 0 : 1;
    const answer = await smallPage.evaluate(
      async ([form, stream, warmth, seed]) => {
        const params = {
          messages: [{ role: "user" as const, content: "Make one up." }],
          response_format: {
            type: "json_schema" as const,
            json_schema: { name: "made", strict: true, schema: form },
          },
          temperature: warmth,
          seed,
          max_tokens: 300,
        };
        const { completions } = window.engine.chat;
        if (!stream) {
          const [choice] = (await completions.create(params)).choices;
          return { text: choice?.message.content ?? "", reason: choice?.finish_reason };
        }
        let [text, reason] = ["", null as string | null];
        for await (const { choices } of await completions.create({ ...params, stream: true })) {
          text += choices[0]?.delta.content ?? "";
          reason = choices[0]?.finish_reason ?? reason;
        }
        return { text, reason };
      },
      [schema, streamed, temperature, number] as const,
    );
    if (answer.reason !== "stop") continue;
    finished[streamed ? "streamed" : "whole"] += 1;
    const fits = ajv.compile(schema);
    const shown = `${JSON.stringify(schema)}\n${answer.text}`;
    expect(() => JSON.parse(answer.text), shown).not.toThrow();
    expect(fits(JSON.parse(answer.text)), `${shown}\n${ajv.errorsText(fits.errors)}`).toBe(true);
  }
  console.log(`answers that ended by themselves, of ${COUNT / 2} each:`, JSON.stringify(finished));
  expect(Math.min(finished.whole, finished.streamed)).toBeGreaterThan(COUNT / 4);
});
