/** Learning in Chromium, beside PyTorch and PEFT: `tests/golden/lora/make_tiny.py` made the golden values. */
import type { Page } from "@playwright/test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { barePage, open } from "../support/bare.ts";
import { expect, test } from "../support/fixtures.ts";

const FOLDER = join(import.meta.dirname, "../golden/lora/tiny");
const MODEL = join(import.meta.dirname, "../golden/tiny/llama.gguf");
const MODULES = { q_proj: "attn_q", k_proj: "attn_k", o_proj: "attn_output", up_proj: "ffn_up" };

interface Settings {
  lr: number;
  weight_decay: number;
  clip: number;
  loss: number[];
}
interface Golden {
  lessons: { question: string; better: string; worse: string }[];
  sft_examples: { ids: number[] }[];
  r: number;
  alpha: number;
  targets: (keyof typeof MODULES)[];
  sft: Settings & { seed: number; greedy_after: string };
  dpo: Settings & { beta: number; margin: number[] };
}
interface Logprobs {
  ids: number[];
  "logprobs_scale_1.0": number[];
  "logprobs_scale_0.5": number[];
  "logprobs_scale_0.0": number[];
}

const read = <T>(name: string) => JSON.parse(readFileSync(join(FOLDER, name), "utf8")) as T;
const golden = read<Golden>("lora_golden.json");
const logprobs = read<Logprobs[]>("adapter_logprobs.json");

/** The numbers of a safetensors file, by name. */
function tensors(file: Buffer): Map<string, Float32Array> {
  const start = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString("utf8", 8, start)) as Record<string, { data_offsets?: number[] }>;
  const found = new Map<string, Float32Array>();
  for (const [name, { data_offsets: [from, to] = [] }] of Object.entries(header)) {
    if (from === undefined || to === undefined) continue;
    found.set(name, new Float32Array(new Uint8Array(file.subarray(start + from, start + to)).buffer));
  }
  return found;
}

/** The start in the order of the runtime: matrices as they are used, with rows as in the model's file. */
function start(): number[] {
  const all = tensors(readFileSync(join(FOLDER, "start.safetensors")));
  const numbers: number[] = [];
  const [headDim, half] = [16, 8];
  for (const layer of [0, 1]) {
    for (const module of golden.targets) {
      const part = module === "up_proj" ? "mlp" : "self_attn";
      const name = `base_model.model.model.layers.${layer}.${part}.${module}`;
      const [a, b] = ["A", "B"].map((which) => all.get(`${name}.lora_${which}.weight`) ?? []);
      const rows = Array.from(b ?? []);
      const turned = rows.map((_, i) => {
        const [row, column] = [Math.floor(i / golden.r), i % golden.r];
        // Row 2i of a head is row i at Hugging Face, row 2i + 1 is row i + half.
        const inHead = row % headDim;
        const from = row - inHead + (inHead % 2) * half + Math.floor(inHead / 2);
        return rows[from * golden.r + column] ?? Number.NaN;
      });
      numbers.push(...(a ?? []), ...(module === "q_proj" || module === "k_proj" ? turned : rows));
    }
  }
  return numbers;
}

/** Teaches from the golden start, which takes the place of that in a checkpoint. */
function learn(page: Page, kind: "sft" | "dpo", epochs: number) {
  const { lr, weight_decay, clip } = golden[kind];
  const messages = (question: string) => [{ role: "user" as const, content: question }];
  const lessons =
    kind === "sft"
      ? {
          examples: golden.lessons.map(({ question, better }) => ({
            messages: [...messages(question), { role: "assistant" as const, content: better }],
          })),
        }
      : {
          beta: golden.dpo.beta,
          preferences: golden.lessons.map(({ question, better, worse }) => ({
            messages: messages(question),
            chosen: better,
            rejected: worse,
          })),
        };
  const options = {
    ...lessons,
    name: kind,
    rank: golden.r,
    alpha: golden.alpha,
    targets: golden.targets.map((module) => MODULES[module]),
    learningRate: lr,
    weightDecay: weight_decay,
    clip,
    schedule: "constant" as const,
    seed: golden.sft.seed,
    epochs,
  };
  return page.evaluate(
    async ([options, start]) => {
      const { engine } = window;
      const controller = new AbortController();
      const begun = engine.train({
        ...options,
        signal: controller.signal,
        onPlan: () => controller.abort(),
      });
      await begun.catch(() => undefined);
      const cache = await caches.open("nomoat-training-v1");
      const [key] = await cache.keys();
      const stored = key && (await cache.match(key));
      if (!key || !stored) throw new Error("no checkpoint");
      const file = new Uint8Array(await stored.arrayBuffer());
      const from = 8 + Number(new DataView(file.buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(file.subarray(8, from))) as {
        parameters: { shape: number[]; data_offsets: [number, number] };
      };
      if (header.parameters.shape[0] !== start.length)
        throw new Error(`${header.parameters.shape[0]} parameters, not ${start.length}`);
      file.set(new Uint8Array(new Float32Array(start).buffer), from + header.parameters.data_offsets[0]);
      await cache.put(key, new Response(file));
      const { curve } = await engine.train({ name: options.name, resume: true });
      return curve.map(({ loss, margin }) => ({ loss, margin }));
    },
    [options, start()] as const,
  );
}

/** The mean difference from PEFT's log-probabilities at each strength of an adapter. */
function differences(page: Page, name: string) {
  return page.evaluate(
    async ([name, entries]) => {
      const off = { "1.0": 0, "0.5": 0, "0.0": 0 };
      let count = 0;
      for (const entry of entries) {
        count += entry.ids.length - 1;
        for (const scale of ["1.0", "0.5", "0.0"] as const) {
          const expected = entry[`logprobs_scale_${scale}`];
          const found = await window.engine.score(entry.ids, { adapters: [{ name, scale: Number(scale) }] });
          found.logprobs.forEach((x, i) => (off[scale] += Math.abs(x - (expected[i] ?? Number.NaN))));
        }
      }
      for (const scale of ["1.0", "0.5", "0.0"] as const) off[scale] /= count;
      return off;
    },
    [name, logprobs] as const,
  );
}

const most = (found: (number | undefined)[], expected: number[]) =>
  Math.max(...found.map((x, i) => Math.abs((x ?? Number.NaN) - (expected[i] ?? Number.NaN))));

for (const [device, sftEpochs, dpoEpochs] of [
  ["cpu", 4, 3],
  ["webgpu", 1, 1],
] as const) {
  test(`${device}: losses, margins and adapters are those of PyTorch and PEFT`, async ({ shared, bare }) => {
    for (const name of ["sft_lora.gguf", "adapter_config.json", "adapter_model.safetensors"]) {
      const folder = name.startsWith("sft") ? FOLDER : join(FOLDER, "sft_peft");
      bare.files.set(`/lora/${name}`, join(folder, name));
    }
    bare.files.set("/models/golden.gguf", MODEL);
    const page = await barePage(shared, bare);
    await open(page, { model: "/models/golden.gguf", contextLength: 128, device, template: "plain" });

    await page.evaluate(async () => {
      const [config, weights] = ["/lora/adapter_config.json", "/lora/adapter_model.safetensors"] as const;
      await window.engine.adapters.load("/lora/sft_lora.gguf", { name: "gguf" });
      await window.engine.adapters.load({ config, weights }, { name: "peft" });
    });
    for (const name of ["gguf", "peft"]) {
      const off = await differences(page, name);
      console.log(`${device}, ${name}:`, JSON.stringify(off));
      for (const mean of Object.values(off)) expect(mean).toBeLessThan(0.005);
    }

    const sft = await learn(page, "sft", sftEpochs);
    const n = golden.lessons.length;
    expect(sft).toHaveLength(sftEpochs * n);
    const dpo = await learn(page, "dpo", dpoEpochs);
    expect(dpo).toHaveLength(dpoEpochs * n);
    const off = {
      sft: most(
        sft.map(({ loss }) => loss),
        golden.sft.loss,
      ),
      dpo: most(
        dpo.map(({ loss }) => loss),
        golden.dpo.loss,
      ),
      margin: most(
        dpo.map(({ margin }) => margin),
        golden.dpo.margin,
      ),
    };
    console.log(`${device}, training:`, JSON.stringify(off));
    for (const worst of Object.values(off)) expect(worst).toBeLessThan(0.002);

    // What was learnt to the end is PEFT's adapter, and says what it says.
    if (sft.length === golden.sft.loss.length) {
      for (const mean of Object.values(await differences(page, "sft"))) expect(mean).toBeLessThan(0.005);
      const answer = await page.evaluate(async (content) => {
        const messages = [{ role: "user" as const, content }];
        const asked = { messages, adapters: [{ name: "sft" }], temperature: 0, max_tokens: 24 };
        const { choices } = await window.engine.chat.completions.create(asked);
        return choices[0]?.message.content;
      }, golden.lessons[0]?.question ?? "");
      expect(answer).toBe(golden.sft.greedy_after);
    }
    await page.close();
  });
}
