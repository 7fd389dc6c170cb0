/** The package's engine on a server, and `nomoat serve`: each against the other, from a page in Chromium. */
import { serveBundle } from "../support/bundle.ts";
import { expect, test } from "../support/fixtures.ts";
import { API_KEY, connect } from "../support/native.ts";

const QUESTION = "What is the capital of France?";

/** Everything that an engine answers to the same requests. Runs in the page. */
async function askEngine([which, content]: readonly ["engine" | "remote", string]) {
  const engine = window[which];
  const all = async <T>(stream: Promise<AsyncIterable<T>>) => {
    const list: T[] = [];
    for await (const item of await stream) list.push(item);
    return list;
  };
  const failed = async (act: () => Promise<unknown>) => {
    try {
      await act();
      return null;
    } catch (error) {
      const { name, code, param } = error as { name: string; code: string; param?: string };
      return { name, code, param };
    }
  };
  const { completions } = engine.chat;
  const messages = [{ role: "user" as const, content }];
  const same = { messages, temperature: 0, max_tokens: 6 };
  const usage = { stream: true as const, stream_options: { include_usage: true } };
  const text = { prompt: "The quick brown fox", temperature: 0, max_tokens: 6 };
  const parameters = {
    type: "object",
    properties: { city: { enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  };
  const tools = [{ type: "function" as const, function: { name: "weather", parameters } }];
  const called = { ...same, max_tokens: 64, tools, tool_choice: "required" as const };
  const response = { input: content, temperature: 0, max_output_tokens: 6 };
  const wrong = { ...same, top_p: 2 };
  const long = { ...same, messages: [{ role: "user" as const, content: "word ".repeat(2000) }] };
  return {
    whole: await completions.create(same),
    chunks: await all(completions.create({ ...same, ...usage })),
    logprobs: await completions.create({ ...same, logprobs: true, top_logprobs: 2 }),
    two: await completions.create({ ...same, n: 2 }),
    calls: await completions.create(called),
    callChunks: await all(completions.create({ ...called, stream: true })),
    text: await engine.completions.create({ ...text, echo: true, logprobs: 2 }),
    texts: await engine.completions.create({ ...text, prompt: ["One", "Two"] }),
    textChunks: await all(engine.completions.create({ ...text, ...usage })),
    response: await engine.responses.create(response),
    events: await all(engine.responses.create({ ...response, stream: true })),
    embeddings: await engine.embeddings.create({ input: [content, "Another."], dimensions: 3 }),
    base64: await engine.embeddings.create({ input: content, encoding_format: "base64", dimensions: 3 }),
    models: await engine.models.list(),
    model: await engine.models.retrieve(engine.model.name),
    errors: {
      wrong: await failed(() => completions.create(wrong)),
      streamed: await failed(() => completions.create({ ...wrong, stream: true })),
      unknown: await failed(() => completions.create({ ...same, cats: 1 } as typeof same)),
      long: await failed(() => completions.create(long)),
      text: await failed(() => engine.completions.create({ ...text, best_of: 2 } as typeof text)),
      embedding: await failed(() => engine.embeddings.create({ input: "a", dimensions: -1 })),
      previous: await failed(() =>
        engine.responses.create({ ...response, previous_response_id: "a" } as typeof response),
      ),
      model: await failed(() => engine.models.retrieve("another")),
    },
  };
}

/** Members that differ from answer to answer. */
const VARIES = new Set(["id", "item_id", "call_id", "created", "created_at", "cached_tokens"]);

/** What two answers must have in common: numbers that are measured or computed become their kind. */
function comparable(value: unknown, key = ""): unknown {
  if (VARIES.has(key)) return typeof value;
  // Base64 of numbers that are close only.
  if (key === "embedding" && typeof value === "string") return value.length;
  if (typeof value === "number" && (/_ms$|_second$/.test(key) || !Number.isInteger(value))) return "number";
  if (Array.isArray(value)) return value.map((item) => comparable(item, key));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, inner]) => [name, comparable(inner, name)] as const)
      .sort(([a], [b]) => a.localeCompare(b)),
  );
}

/** All numbers that are not integers, in order. */
function fractions(value: unknown): number[] {
  if (typeof value === "number") return Number.isInteger(value) ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value)
    .filter(([name]) => name !== "timings")
    .flatMap(([, inner]) => fractions(inner));
}

/** Compares these numbers. */
function expectClose(ours: unknown, theirs: unknown): void {
  const [a, b] = [fractions(ours), fractions(theirs)];
  expect(a.length).toBeGreaterThan(2);
  for (const [index, number] of a.entries()) expect(number).toBeCloseTo(b[index] ?? NaN, 2);
}

test("an engine on `nomoat serve` gives what the page's engine gives", async ({ smallPage, native }) => {
  await connect(smallPage, native);
  const local = await smallPage.evaluate(askEngine, ["engine", QUESTION] as const);
  const remote = await smallPage.evaluate(askEngine, ["remote", QUESTION] as const);
  for (const name of Object.keys(local) as (keyof typeof local)[])
    expect(comparable(remote[name]), name).toEqual(comparable(local[name]));
  expect(Object.values(local.errors).every((error) => error !== null)).toBe(true);
  expect(local.whole.choices[0]?.message.content).not.toBe("");
  expectClose(remote.logprobs, local.logprobs);
  expectClose(remote.text, local.text);
  expectClose(remote.embeddings, local.embeddings);
});

test("official clients ask it through its fetch", async ({ bare, smallPage, native }) => {
  await connect(smallPage, native);
  await serveBundle(bare, "clients");
  const [local, remote] = await smallPage.evaluate(async (question) => {
    const address = "/clients.js";
    const { askAll } = (await import(address)) as typeof import("../support/clients.ts");
    return [await askAll(window.engine.fetch, question), await askAll(window.remote.fetch, question)];
  }, QUESTION);
  expect(comparable(remote)).toEqual(comparable(local));
  expectClose(remote, local);
});

test("an abort stops the answer on the server", async ({ smallPage, native }) => {
  await connect(smallPage, native);
  const metric = async (name: string) => {
    const headers = { authorization: `Bearer ${API_KEY}` };
    const text = await (await fetch(native.baseURL.replace(/v1$/, "metrics"), { headers })).text();
    return Number(new RegExp(`^nomoat_${name} (\\d+)$`, "m").exec(text)?.[1]);
  };
  const before = await metric("completion_tokens_total");
  const ended = await smallPage.evaluate(async (content) => {
    const messages = [{ role: "user" as const, content }];
    // Without the tokens that end a turn, each fills its 400 tokens.
    const long = { messages, n: 8, max_tokens: 400, logit_bias: { 0: -100, 2: -100 } };
    const said: string[] = [];
    const fails = async (act: () => Promise<unknown>) => {
      try {
        await act();
        said.push("no error");
      } catch (error) {
        said.push(`${(error as Error).name}: ${(error as Error).message}`);
      }
    };
    const { completions } = window.remote.chat;
    const streamed = new AbortController();
    await fails(async () => {
      const stream = await completions.create({ ...long, stream: true }, { signal: streamed.signal });
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) streamed.abort();
    });
    const whole = new AbortController();
    setTimeout(() => whole.abort(), 20);
    await fails(() => completions.create(long, { signal: whole.signal }));
    await fails(() => completions.create(long, { signal: AbortSignal.timeout(1) }));
    for await (const chunk of await completions.create({ ...long, stream: true }))
      if (chunk.choices[0]?.delta.content) break;
    return said;
  }, QUESTION);
  const aborted = "AbortError: The request was aborted.";
  expect(ended).toEqual([aborted, aborted, expect.stringMatching(/^NetworkError: .* in time\.$/)]);
  await expect.poll(() => metric("requests_running")).toBe(0);
  expect((await metric("completion_tokens_total")) - before).toBeLessThan(400);
});

test("keys, and servers that are not there", async ({ smallPage, native }) => {
  const failures = await smallPage.evaluate(async (baseURL) => {
    const tried = async (options: { baseURL: string; apiKey?: string; model?: string }) => {
      try {
        return (await window.nomoat.createEngine(options)).model.name;
      } catch (error) {
        const { name, status, message } = error as Error & { status?: number };
        return [name, status, message];
      }
    };
    return [
      await tried({ baseURL, apiKey: "wrong" }),
      await tried({ baseURL }),
      await tried({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey: "a secret" }),
      await tried({ baseURL: "http://localhost:1/v1" }),
      await tried({ baseURL: `${baseURL}/`, apiKey: "a secret" }),
    ];
  }, native.baseURL);
  expect(failures).toEqual([
    ["ModelNotFoundError", 401, expect.stringContaining("API key")],
    ["ModelNotFoundError", 401, expect.stringContaining("API key")],
    ["ModelNotFoundError", 404, expect.stringContaining("ends in /v1")],
    ["NetworkError", undefined, expect.stringContaining("localhost:1 failed: it does not answer")],
    "Small",
  ]);
});
