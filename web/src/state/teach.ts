/** Teaching the loaded model, and what it has learnt. */
import { effect, signal } from "@preact/signals";
import {
  AbortedError,
  type AdapterInfo,
  type Engine,
  type TrainingEstimate,
  type TrainingPoint,
  type TrainingSettings,
  type TrainingStep,
} from "nomoat";
import type { Lesson } from "../lessons/records";
import { forgetAdapter, storeAdapter, storedAdapters } from "../lessons/database";
import { download } from "../lib/download";
import { zip } from "../lib/zip";
import { engine } from "./engine";

/** Settings of a training that the panel has. */
export type TeachSettings = Required<
  Pick<TrainingSettings, "rank" | "learningRate" | "epochs" | "batch" | "validation" | "maxTokens">
>;

/** Settings for a first try, and for a lasting result. */
export const presets = {
  quick: { rank: 4, learningRate: 1e-3, epochs: 8, batch: 1, validation: 0, maxTokens: 256 },
  thorough: { rank: 16, learningRate: 3e-4, epochs: 12, batch: 4, validation: 0.1, maxTokens: 1024 },
} satisfies Record<string, TeachSettings>;

/** State of teaching. */
export type TeachState =
  | { kind: "idle" }
  | { kind: "estimating" }
  | { kind: "running"; name: string; step: TrainingStep | null; curve: TrainingPoint[] }
  | { kind: "done"; name: string; curve: TrainingPoint[] }
  | { kind: "failed"; error: unknown };

export const teachState = signal<TeachState>({ kind: "idle" });
export const estimate = signal<TrainingEstimate | null>(null);
/** Names whose training was interrupted. */
export const resumable = signal<readonly string[]>([]);
/** Adapters of the loaded model, and which of them answer. */
export const adapters = signal<readonly AdapterInfo[]>([]);
export const strengths = signal<ReadonlyMap<string, { on: boolean; scale: number }>>(new Map());

let running: AbortController | null = null;

/** The adapters of the next request. */
export function adapterUses(): { name: string; scale: number }[] {
  return adapters.peek().flatMap(({ name }) => {
    const strength = strengths.peek().get(name);
    return strength?.on === true ? [{ name, scale: strength.scale }] : [];
  });
}

/** Switches an adapter, or changes its strength. */
export function setStrength(name: string, change: Partial<{ on: boolean; scale: number }>): void {
  const before = strengths.peek().get(name) ?? { on: true, scale: 1 };
  strengths.value = new Map(strengths.peek()).set(name, { ...before, ...change });
}

/** Loads what the model has learnt before; off, until it is switched on. */
async function restore(loaded: Engine): Promise<void> {
  try {
    for (const { name, ...source } of await storedAdapters(loaded.model.name))
      await loaded.adapters.load(source, { name });
  } catch (error) {
    teachState.value = { kind: "failed", error };
  }
  await refresh(loaded);
}

async function refresh(loaded: Engine): Promise<void> {
  if (engine.peek() !== loaded) return;
  adapters.value = loaded.adapters.list();
  resumable.value = await loaded.trainings.resumable().catch(() => []);
}

// Another model has other adapters.
effect(() => {
  const loaded = engine.value;
  running?.abort();
  teachState.value = { kind: "idle" };
  estimate.value = null;
  strengths.value = new Map();
  adapters.value = [];
  resumable.value = [];
  if (loaded !== null) void restore(loaded);
});

/** Lessons as the package takes them. */
function given(lessons: readonly Lesson[]) {
  const examples = lessons.flatMap((lesson) => (lesson.kind === "example" ? [lesson] : []));
  if (examples.length > 0) return { examples: examples.map(({ messages }) => ({ messages })) };
  return {
    preferences: lessons.flatMap((lesson) =>
      lesson.kind === "preference"
        ? [{ messages: lesson.messages, chosen: lesson.chosen, rejected: lesson.rejected }]
        : [],
    ),
  };
}

/** Measures what teaching would take. */
export async function measure(lessons: readonly Lesson[], settings: TeachSettings): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  teachState.value = { kind: "estimating" };
  try {
    estimate.value = await loaded.trainings.estimate({ ...given(lessons), ...settings });
    teachState.value = { kind: "idle" };
  } catch (error) {
    teachState.value = { kind: "failed", error };
  }
}

/** Teaches, or goes on where a training was interrupted. */
export async function teach(
  name: string,
  what: { lessons: readonly Lesson[]; settings: TeachSettings } | "resume",
): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  running = new AbortController();
  let curve: TrainingPoint[] = [];
  teachState.value = { kind: "running", name, step: null, curve };
  try {
    const options = what === "resume" ? { resume: true } : { ...given(what.lessons), ...what.settings };
    const result = await loaded.train({
      ...options,
      name,
      checkpointSeconds: CHECKPOINT_SECONDS,
      signal: running.signal,
      onPlan: (plan) => (curve = [...plan.curve]),
      onStep(step) {
        if (step.point) curve = [...curve, step.point];
        teachState.value = { kind: "running", name, step, curve };
      },
    });
    const gguf = loaded.adapters.export(name, "gguf");
    await storeAdapter({ model: loaded.model.name, name, gguf, ...loaded.adapters.export(name, "peft") });
    setStrength(name, { on: true, scale: 1 });
    teachState.value = { kind: "done", name, curve: result.curve };
  } catch (error) {
    teachState.value = error instanceof AbortedError ? { kind: "idle" } : { kind: "failed", error };
  } finally {
    running = null;
    await refresh(loaded);
  }
}

/** A closed tab loses at most this. */
const CHECKPOINT_SECONDS = 5;

/** Stops; it can go on later. */
export function stopTeaching(): void {
  running?.abort();
}

/** Forgets an interrupted training. */
export async function discardTraining(name: string): Promise<void> {
  const loaded = engine.peek();
  await loaded?.trainings.discard(name);
  if (loaded) await refresh(loaded);
}

/** Frees an adapter. */
export async function removeAdapter(name: string): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  await loaded.adapters.unload(name);
  await forgetAdapter(loaded.model.name, name);
  teachState.value = { kind: "idle" };
  await refresh(loaded);
}

/** Loads adapters from GGUF files, or from PEFT's two files. */
export async function importAdapter(files: readonly File[]): Promise<void> {
  const loaded = engine.peek();
  const first = files[0];
  if (loaded === null || first === undefined) return;
  const config = files.find(({ name }) => name.endsWith(".json"));
  const weights = files.find(({ name }) => name.endsWith(".safetensors"));
  const source = config && weights ? { config, weights } : first;
  const name = (weights ?? first).name.replace(/\.\w+$/, "").replaceAll(":", " ");
  try {
    await loaded.adapters.load(source, { name });
    setStrength(name, { on: true, scale: 1 });
    await refresh(loaded);
  } catch (error) {
    teachState.value = { kind: "failed", error };
  }
}

/** Saves an adapter for llama.cpp, or for PEFT as a zip. */
export async function exportAdapter(name: string, format: "gguf" | "peft"): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  try {
    if (format === "gguf") {
      download(loaded.adapters.export(name, "gguf"), `${name}.gguf`, "application/octet-stream");
      return;
    }
    const { config, weights } = loaded.adapters.export(name, "peft");
    const folder = await zip([
      [`${name}/adapter_config.json`, config],
      [`${name}/adapter_model.safetensors`, weights],
    ]);
    download(folder, `${name}.zip`, "application/zip");
  } catch (error) {
    teachState.value = { kind: "failed", error };
  }
}
