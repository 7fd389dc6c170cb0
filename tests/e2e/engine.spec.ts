/** The package's API, on a bare page in Chromium. */
import type { Page } from "@playwright/test";
import { barePage, complete, open, textOf } from "../support/bare.ts";
import { expect, fromSite, onGpu, test } from "../support/fixtures.ts";
import { agreement, goldenEntries, isFull } from "../support/golden.ts";
import * as models from "../support/models.ts";

declare global {
  interface Window {
    /** Of a streamed answer. */
    pieces: string[];
    /** "ended", or the error's name and code. */
    answer: Promise<string>;
  }
}

const QUESTION = "What is the capital of France?";

test("scores agree with llama.cpp's", async ({ smol }) => {
  if (isFull) test.setTimeout(3_600_000);
  const entries = goldenEntries();
  for (const [how, some] of [
    ["prefill", entries],
    ["token by token", isFull ? entries : entries.slice(0, 1)],
  ] as const) {
    const result = await agreement(smol.page, some, how !== "prefill");
    console.log(`score parity, ${how}:`, JSON.stringify(result));
    expect(result.steps).toBeGreaterThan(20);
    expect(result.top1).toBeGreaterThanOrEqual(0.99);
    expect(result.meanOff).toBeLessThanOrEqual(0.02);
  }
});

test("it runs on WebGPU, and says on what", async ({ gpuPage }) => {
  const device = await gpuPage.evaluate(() => window.engine.device);
  expect(device).toMatchObject({ backend: "webgpu", isFallback: true });
  expect(device.name).toMatch(/swiftshader/i);
});

test("objects have OpenAI's shapes, streamed and whole", async ({ smallPage }) => {
  const whole = await complete(smallPage, QUESTION, { max_tokens: 6 });
  const chunks = await smallPage.evaluate(async (content) => {
    const stream = await window.engine.chat.completions.create({
      messages: [{ role: "user", content }],
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0,
      max_tokens: 6,
    });
    const all = [];
    for await (const chunk of stream) all.push(chunk);
    return all;
  }, QUESTION);
  expect(whole).toMatchObject({
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant" }, finish_reason: "length" }],
  });
  expect(whole.usage.completion_tokens).toBe(6);
  expect(whole.usage.total_tokens).toBe(whole.usage.prompt_tokens + 6);
  expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  expect(chunks.every(({ object }) => object === "chat.completion.chunk")).toBe(true);
  expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(
    whole.choices[0]?.message.content,
  );
  expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean)).toEqual(["length"]);
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 6 } });
});

test("a stop string ends the answer and is not in it", async ({ smallPage }) => {
  const text = await textOf(smallPage, QUESTION, 16);
  const stop = text.slice(4, 7);
  expect(stop.trim()).not.toBe("");
  const stopped = await complete(smallPage, QUESTION, { max_tokens: 16, stop });
  expect(stopped.choices[0]).toMatchObject({
    finish_reason: "stop",
    message: { content: text.slice(0, text.indexOf(stop)) },
  });
});

test("an abort ends the stream, and the next answer comes", async ({ gpuPage }) => {
  const text = await textOf(gpuPage, QUESTION, 4);
  const seen = await gpuPage.evaluate(async (content) => {
    const controller = new AbortController();
    const stream = await window.engine.chat.completions.create(
      { messages: [{ role: "user", content }], stream: true, temperature: 0, max_tokens: 400 },
      { signal: controller.signal },
    );
    let pieces = 0;
    try {
      for await (const chunk of stream)
        if (chunk.choices[0]?.delta.content && ++pieces === 2) controller.abort();
    } catch (error) {
      const { AbortedError } = window.nomoat;
      return { heard: window.heard, aborted: error instanceof AbortedError, name: (error as Error).name };
    }
    return { heard: window.heard, aborted: false, name: "" };
  }, QUESTION);
  expect(seen).toMatchObject({ aborted: true, name: "AbortError" });
  expect(await textOf(gpuPage, QUESTION, 4)).toBe(text);
  // The worker did not go on with the aborted answer: a message comes for each token.
  const heard = await gpuPage.evaluate(() => window.heard);
  expect(heard - seen.heard).toBeLessThan(40);
});

test("answers that run together have the texts that they have alone", async ({ smallPage }) => {
  const questions = ["Name a colour.", QUESTION, "Name a river."];
  const alone: string[] = [];
  for (const question of questions) alone.push(await textOf(smallPage, question, 4));
  const together = await smallPage.evaluate(async (all) => {
    const answers = await Promise.all(
      all.map((question) =>
        window.engine.chat.completions.create({
          messages: [{ role: "user", content: question }],
          temperature: 0,
          max_tokens: 4,
        }),
      ),
    );
    return answers.map(({ choices }) => choices[0]?.message.content);
  }, questions);
  expect(together).toEqual(alone);
});

test("a second turn reuses the first, and says the same as without", async ({ gpuPage }) => {
  const first = await complete(gpuPage, QUESTION, { max_tokens: 6 });
  const messages = [
    { role: "user" as const, content: QUESTION },
    { role: "assistant" as const, content: first.choices[0]?.message.content ?? "" },
    { role: "user" as const, content: "And of Italy?" },
  ];
  const second = await complete(gpuPage, "", { messages, max_tokens: 6 });
  const { cached_tokens } = second.usage.prompt_tokens_details;
  expect(cached_tokens).toBeGreaterThanOrEqual(first.usage.prompt_tokens);
  // Another conversation does not take its place.
  const other = [{ role: "system" as const, content: "Be brief." }, ...messages.slice(0, 1)];
  await complete(gpuPage, "", { messages: other, max_tokens: 1 });
  const again = await complete(gpuPage, "", { messages, max_tokens: 6 });
  expect(again.usage.prompt_tokens_details.cached_tokens).toBe(second.usage.prompt_tokens - 1);
  expect(again.choices[0]?.message.content).toBe(second.choices[0]?.message.content);
});

test("tokens and text turn into each other", async ({ smallPage }) => {
  const text = "Zoë said: “naïve” — 你好, 🦊!\n\tEnd";
  const back = await smallPage.evaluate(async (given) => {
    const ids = await window.engine.tokenize(given);
    const special = await window.engine.tokenize("<|im_end|>", { special: true });
    return { text: await window.engine.detokenize(ids), special };
  }, text);
  expect(back).toEqual({ text, special: [2] });
});

test("a finished training goes on with more epochs, as if it had had them from the start", async ({
  smallPage,
}) => {
  const { whole, half, rest, soFar, left } = await smallPage.evaluate(async () => {
    const { engine } = window;
    const scored = async (name: string) => {
      const { logprobs } = await engine.score([1, 2683, 198, 504], { adapters: [{ name }] });
      await engine.adapters.unload(name);
      return logprobs;
    };
    const train = async (options: Omit<Parameters<typeof engine.train>[0], "name">) => {
      const { curve } = await engine.train({ name: "trained", ...options });
      return { losses: curve.map(({ loss }) => loss), scores: await scored("trained") };
    };
    const messages = [
      { role: "user" as const, content: "Hi" },
      { role: "assistant" as const, content: "Ahoy" },
    ];
    const settings = { examples: [{ messages }], rank: 2, schedule: "constant" as const };
    // What it has learnt after two of four steps.
    const looks: Promise<number[]>[] = [];
    const look = async () => {
      await engine.adapters.load(await engine.trainings.snapshot(), { name: "so far" });
      return scored("so far");
    };
    return {
      whole: await train({ ...settings, epochs: 4, onStep: ({ step }) => step === 2 && looks.push(look()) }),
      half: await train({ ...settings, epochs: 2, keepCheckpoint: true }),
      rest: await train({ resume: true, epochs: 4 }),
      soFar: await Promise.all(looks),
      left: await engine.trainings.resumable(),
    };
  });
  expect(whole.losses).toHaveLength(4);
  expect(new Set(whole.losses).size).toBe(4);
  expect(half.losses).toEqual(whole.losses.slice(0, 2));
  expect(soFar).toEqual([half.scores]);
  expect(half.scores).not.toEqual(whole.scores);
  expect(rest).toEqual(whole);
  expect(left).toEqual([]);
});

test("the better of two answers becomes likelier than the other", async ({ smallPage }) => {
  const { points, gains } = await smallPage.evaluate(async () => {
    const { engine } = window;
    const messages = [{ role: "user" as const, content: "Who are you?" }];
    const preferences = [
      { messages, chosen: "A pirate", rejected: "A language model" },
      { messages: [{ role: "user" as const, content: "Hi" }], chosen: "Ahoy", rejected: "Hello" },
    ];
    const settings = { rank: 4, epochs: 6, learningRate: 5e-3, schedule: "constant" as const };
    const { curve } = await engine.train({ name: "preferred", preferences, ...settings });
    // How much likelier each answer is after the question than without the adapter.
    const logprob = async (answer: string, adapters: { name: string }[]) => {
      const turns = [...messages, { role: "assistant" as const, content: answer }];
      const text = turns.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("");
      const { logprobs } = await engine.score(await engine.tokenize(text, { special: true }), { adapters });
      return logprobs.reduce((sum, one) => sum + one, 0);
    };
    const gain = async (answer: string) =>
      (await logprob(answer, [{ name: "preferred" }])) - (await logprob(answer, []));
    const gains = [await gain("A pirate"), await gain("A language model")];
    await engine.adapters.unload("preferred");
    return { points: curve, gains };
  });
  expect(points).toHaveLength(12);
  // Before the first step nothing has been learnt: both gained nothing.
  expect(points[0]?.loss).toBeCloseTo(Math.LN2, 3);
  expect(points[0]?.margin).toBeCloseTo(0, 3);
  for (const { loss, margin, accuracy } of points.slice(-2)) {
    expect(loss).toBeLessThan(0.5);
    expect(margin).toBeGreaterThan(0.3);
    expect(accuracy).toBe(1);
  }
  expect((gains[0] ?? 0) - (gains[1] ?? 0)).toBeGreaterThan(3);
});

test("WebGPU learns as the CPU does, and goes on where it was interrupted", async ({
  smallPage,
  gpuPage,
}) => {
  const learn = (page: Page) =>
    page.evaluate(async () => {
      const { engine } = window;
      const messages = [
        { role: "user" as const, content: "Hi" },
        { role: "assistant" as const, content: "Ahoy, matey" },
      ];
      const losses = ({ curve }: { curve: { loss?: number }[] }) =>
        curve.map(({ loss }) => loss ?? Number.NaN);
      const settings = { name: "taught", examples: [{ messages }], rank: 4, epochs: 3, learningRate: 2e-3 };
      const whole = losses(await engine.train(settings));
      const adapters = [{ name: "taught" }];
      const { logprobs } = await engine.score([1, 2683, 198, 504], { adapters });
      await engine.adapters.unload("taught");
      const controller = new AbortController();
      const onStep = () => controller.abort();
      const aborted = engine.train({ ...settings, signal: controller.signal, onStep });
      const error = await aborted.catch(({ name }: Error) => name);
      const resumed = losses(await engine.train({ name: "taught", resume: true }));
      await engine.adapters.unload("taught");
      return { whole, logprobs, error, resumed };
    });
  const [cpu, gpu] = [await learn(smallPage), await learn(gpuPage)];
  expect(gpu.whole).toHaveLength(3);
  const off = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - (b[i] ?? Number.NaN))));
  console.log("training, WebGPU and CPU:", JSON.stringify([gpu.whole, cpu.whole]));
  expect(off(gpu.whole, cpu.whole)).toBeLessThan(0.02);
  expect(Math.min(...gpu.whole)).toBeLessThan((gpu.whole[0] ?? 0) - 0.1);
  expect(off(gpu.logprobs, cpu.logprobs)).toBeLessThan(0.05);
  expect(gpu.error).toBe("AbortError");
  expect(gpu.resumed).toEqual(gpu.whole);
});

test("a full context ends the answer and says so; a longer prompt is refused", async ({ shared, bare }) => {
  const page = await barePage(shared, bare);
  await open(page, { ...fromSite, contextLength: 48 });
  const { choices, usage } = await complete(page, QUESTION);
  expect(choices[0]).toMatchObject({ finish_reason: "length", context_full: true });
  expect(usage.total_tokens).toBeGreaterThanOrEqual(47);
  expect(usage.total_tokens).toBeLessThanOrEqual(49);
  const refusal = await page.evaluate(async () => {
    const content = "word ".repeat(100);
    return window.engine.chat.completions
      .create({ messages: [{ role: "user", content }] })
      .catch((error: unknown) => ({
        isContextLength: error instanceof window.nomoat.ContextLengthError,
        code: (error as { code: string }).code,
      }));
  });
  expect(refusal).toEqual({ isContextLength: true, code: "context_length_exceeded" });
  await page.close();
});

/** Loses the device of the page's worker; what it computes from now on is lost. */
async function loseDevice(page: Page): Promise<void> {
  const worker = page.workers().at(-1);
  if (!worker) throw new Error("the page has no worker");
  await worker.evaluate(() => (self as unknown as { device: { destroy(): void } }).device.destroy());
}

/** Starts a streamed answer whose pieces gather in `window.pieces`, and waits for some. */
async function startAnswer(page: Page): Promise<void> {
  await page.evaluate(async (content) => {
    const stream = await window.engine.chat.completions.create({
      messages: [{ role: "user", content }],
      stream: true,
      temperature: 0,
      max_tokens: 16,
    });
    window.pieces = [];
    const read = async () => {
      for await (const chunk of stream)
        if (chunk.choices[0]?.delta.content) window.pieces.push(chunk.choices[0].delta.content);
      return "ended";
    };
    window.answer = read().catch((error: { name: string; code: string }) => `${error.name} ${error.code}`);
  }, QUESTION);
  await morePieces(page);
}

async function morePieces(page: Page): Promise<void> {
  const before = await page.evaluate(() => window.pieces.length);
  await page.waitForFunction((count) => window.pieces.length >= count + 2, before);
}

test("a lost device is rebuilt once, and the answer goes on where it was", async ({
  shared,
  bare,
  gpuPage,
}) => {
  const whole = await textOf(gpuPage, QUESTION, 16);
  const page = await barePage(shared, bare, "/lossy/");
  await open(page, onGpu);
  await startAnswer(page);
  const [before] = page.workers();
  await loseDevice(page);
  expect(await page.evaluate(() => window.answer)).toBe("ended");
  expect(page.workers()).not.toContain(before);
  expect(await page.evaluate(() => window.pieces.join(""))).toBe(whole);

  // Lost twice in one answer, it gives up; the next answer starts a new worker.
  await startAnswer(page);
  await loseDevice(page);
  await morePieces(page);
  await loseDevice(page);
  expect(await page.evaluate(() => window.answer)).toBe("DeviceLostError device_lost");
  expect(await textOf(page, QUESTION, 16)).toBe(whole);
  await page.close();
});

// Natively, all vectors of `tests/vocab` are tested.
for (const [name, first] of [
  ["gpt-2", []],
  ["llama-spm", [1]],
] as const)
  test(`published token vectors hold in wasm: ${name}`, async ({ shared, bare, folder }) => {
    const path = `/models/${name}.gguf`;
    bare.files.set(path, models.ofVocabulary(folder, name));
    const page = await barePage(shared, bare);
    await open(page, { ...fromSite, model: path });
    const { texts, ids } = models.vectorsOf(name);
    expect(texts).toHaveLength(ids.length);
    expect(texts.length).toBeGreaterThan(40);
    const found = await page.evaluate(async (texts) => {
      const found = [];
      for (const text of texts) found.push(await window.engine.tokenize(text));
      return found;
    }, texts);
    expect(found).toEqual(ids.map((own) => [...first, ...own]));
    await page.close();
  });
