/**
 * Real models in Q4_K_M, on the CPU in Chromium: their scores and texts are llama.cpp's, and the page answers
 * with them. Only the full test has them, because they are large.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { barePage, dispose, openFile } from "../support/bare.ts";
import { Chat, startChatSite } from "../support/chat.ts";
import { expect, test } from "../support/fixtures.ts";
import { agreement, isFull, type Golden } from "../support/golden.ts";
import { places, root } from "../support/places.ts";

interface Text extends Golden {
  text: string;
  greedy_text: string;
}

const MODELS = [
  {
    id: "qwen2.5-coder-0.5b",
    file: "qwen2.5-coder-0.5b-q4_k_m.gguf",
    question: "What is the capital of France?",
    answer: /\bParis\b/,
  },
  {
    id: "gemma-3-270m",
    file: "gemma-3-270m-q4_k_m.gguf",
    question: "The history of the printing press begins",
    // A base model continues the text. The page's penalty for repetition makes it differ from llama.cpp's.
    answer: /\w+ \w+/,
  },
];

for (const { id, file, question, answer } of isFull ? MODELS : []) {
  const path = () => join(places.models, id, file);

  test(`${id}: scores and texts agree with llama.cpp's on the CPU`, async ({ shared, bare }) => {
    const golden = JSON.parse(readFileSync(join(root, `tests/golden/${id}.dev.json`), "utf8")) as Text[];
    const page = await barePage(shared, bare);
    await openFile(page, path(), { device: "cpu", threads: 2, kernels: "exact", contextLength: 1024 });
    const result = await agreement(page, golden, false);
    let equal = 0;
    for (const { text, greedy_ids, greedy_text } of golden) {
      const said = await page.evaluate(
        async ([prompt, most]) => {
          const params = { prompt, max_tokens: most, temperature: 0 };
          return (await window.engine.completions.create(params)).choices[0]?.text ?? "";
        },
        [text, greedy_ids.length] as const,
      );
      equal += Number(said === greedy_text.replace(/<\|im_end\|>$/, ""));
    }
    console.log(`${id}:`, JSON.stringify(result), `${equal} of ${golden.length} texts equal`);
    expect(result.steps).toBeGreaterThan(100);
    expect(result.top1).toBeGreaterThanOrEqual(0.985);
    expect(result.meanOff).toBeLessThanOrEqual(0.015);
    await dispose(page);
    await page.close();
  });

  test(`${id}: the page answers`, async ({ shared }) => {
    const site = await startChatSite(path());
    const chat = await Chat.open(shared, site.origin, "cpu");
    await chat.settings({ maxTokens: 24 });
    await chat.download.click();
    await chat.ready("cpu");
    await chat.ask(question);
    await chat.answered();
    await expect(chat.answer.first()).toHaveText(answer);
    console.log(`${id}:`, JSON.stringify(await chat.answer.allTextContents()));
    expect(chat.faults).toEqual([]);
    await chat.page.close();
    await site.stop();
  });
}
