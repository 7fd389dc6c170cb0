/** Teaching the loaded model. */
import { effect, signal } from "@preact/signals";
import {
  AbortedError,
  type Engine,
  type TrainingEstimate,
  type TrainingPlan,
  type TrainingPoint,
  type TrainingSettings,
  type TrainingStep,
} from "nomoat";
import { t } from "../i18n";
import type { Lesson, Turn } from "../lessons/records";
import { keepAdapter, removeAdapter, restoreAdapters, SO_FAR, trainings, unloadAdapter } from "./adapters";
import { answerTo } from "./ask";
import { engine } from "./engine";
import { lessons } from "./lessons";
import { announcement } from "./ui";

/** Settings of a training that the panel has. */
export type TeachSettings = Required<Omit<TrainingSettings, "alpha" | "clip" | "seed" | "beta">> & {
  /** Null: twice the rank. */
  alpha: number | null;
};

const usual = {
  alpha: null,
  targets: [],
  schedule: "cosine" as const,
  warmup: 0,
  weightDecay: 0,
  patience: 0,
};

/** Settings for a first try, and for a lasting result. */
export const presets: Record<"quick" | "thorough", TeachSettings> = {
  quick: { ...usual, rank: 4, learningRate: 1e-3, epochs: 8, batch: 1, validation: 0, maxTokens: 256 },
  thorough: {
    ...usual,
    rank: 16,
    learningRate: 3e-4,
    epochs: 12,
    batch: 4,
    validation: 0.1,
    maxTokens: 1024,
  },
};

/** Settings as the package takes them. */
function forPackage({ alpha, targets, ...others }: TeachSettings): TrainingSettings {
  return { ...others, ...(alpha !== null && { alpha }), ...(targets.length > 0 && { targets }) };
}

/** State of teaching. */
export type TeachState =
  | { kind: "idle" }
  | { kind: "estimating" }
  | { kind: "running"; name: string; step: TrainingStep | null; curve: TrainingPoint[] }
  | { kind: "done"; name: string; curve: TrainingPoint[]; epochs: number }
  | { kind: "failed"; error: unknown };

/** What the model says to a question without what it has learnt, and with it; null until it has said it. */
export interface Sample {
  messages: readonly Turn[];
  before: string | null;
  after: string | null;
}

export const teachState = signal<TeachState>({ kind: "idle" });
/** What teaching was measured to take, and of what: lessons and settings. */
export const estimate = signal<(TrainingEstimate & { ids: string; settings: TeachSettings }) | null>(null);
/** What teaching would take, or why it is not possible; null while that is not known. */
export const plan = signal<TrainingPlan | { error: unknown } | null>(null);
/** Before and after, once something was learnt. */
export const samples = signal<readonly Sample[]>([]);

/** A closed tab loses at most this. */
const CHECKPOINT_SECONDS = 5;
/** What *Continue* adds. */
export const MORE_EPOCHS = 8;
/** Questions of lessons that are asked before and after, and most tokens of an answer. */
const SAMPLED_LESSONS = 2;
const SAMPLE_TOKENS = 64;
/** Parts of a training; after each but the last the model says one thing. */
const LOOKS = 3;
/** Most tokens of it: the training waits. */
const LOOK_TOKENS = 24;

let running: AbortController | null = null;
let sampling: AbortController | null = null;

async function refresh(loaded: Engine): Promise<void> {
  const names = await loaded.trainings.resumable().catch(() => []);
  if (engine.peek() === loaded) trainings.value = names;
}

function reset(): void {
  sampling?.abort();
  samples.value = [];
  teachState.value = { kind: "idle" };
}

// Another model has other trainings.
effect(() => {
  const loaded = engine.value;
  running?.abort();
  reset();
  estimate.value = null;
  plan.value = null;
  trainings.value = [];
  if (loaded !== null) void refresh(loaded);
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

/** Which lessons these are. */
export function idsOf(lessons: readonly Lesson[]): string {
  return lessons.map(({ id }) => id).join(" ");
}

/** The engine plans one training at a time, and none while it learns. */
let planning: Promise<void> = Promise.resolve();
let planned = 0;

/** Counts what teaching would take: `plan`. The last call wins. */
export function count(lessons: readonly Lesson[], settings: TeachSettings): void {
  const loaded = engine.peek();
  const number = (planned += 1);
  plan.value = null;
  if (loaded === null || lessons.length === 0) return;
  planning = planning.then(async () => {
    const isWanted = () => number === planned && engine.peek() === loaded && running === null;
    if (!isWanted()) return;
    try {
      const found = await loaded.trainings.plan({ ...given(lessons), ...forPackage(settings) });
      if (isWanted()) plan.value = found;
    } catch (error) {
      if (isWanted()) plan.value = { error };
    }
  });
}

/** Measures what teaching would take. */
export async function measure(lessons: readonly Lesson[], settings: TeachSettings): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  const before = teachState.peek();
  teachState.value = { kind: "estimating" };
  try {
    await planning;
    const found = await loaded.trainings.estimate({ ...given(lessons), ...forPackage(settings) });
    estimate.value = { ...found, ids: idsOf(lessons), settings };
    teachState.value = before.kind === "done" ? before : { kind: "idle" };
  } catch (error) {
    teachState.value = { kind: "failed", error };
  }
}

/** What to go on with: where a training was interrupted, or at its end with more epochs. */
export interface Resumed {
  epochs?: number;
}

/** Teaches, or goes on. */
export async function teach(
  name: string,
  what: { lessons: readonly Lesson[]; settings: TeachSettings } | Resumed,
): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  const ended = teachState.peek();
  reset();
  const { signal } = (running = new AbortController());
  let curve: TrainingPoint[] = [];
  let epochs = 0;
  const isNew = "lessons" in what;
  teachState.value = { kind: "running", name, step: null, curve };
  trainings.value = [...new Set([...trainings.peek(), name])];
  const list = isNew ? what.lessons : lessons.peek();
  const look = watch(loaded, list);
  try {
    await planning;
    // What was learnt then is kept.
    if (ended.kind === "done" && ended.name !== name) await loaded.trainings.discard(ended.name);
    // What was learnt of it before takes part again if the training does not come to its end.
    if (!isNew) await unloadAdapter(loaded, name);
    const result = await loaded.train({
      ...(isNew ? { ...given(what.lessons), ...forPackage(what.settings) } : { ...what, resume: true }),
      name,
      keepCheckpoint: true,
      checkpointSeconds: CHECKPOINT_SECONDS,
      signal,
      onPlan: (plan) => ({ curve, epochs } = plan),
      onStep(step) {
        if (step.point) curve = [...curve, step.point];
        teachState.value = { kind: "running", name, step, curve };
        look(step);
      },
    });
    await keepAdapter(loaded, name);
    announcement.value = t.peek().taught(name);
    teachState.value = { kind: "done", name, curve: result.curve, epochs };
    void compare(loaded, name, list);
  } catch (error) {
    if (engine.peek() !== loaded) return;
    reset();
    teachState.value = error instanceof AbortedError ? { kind: "idle" } : { kind: "failed", error };
    await restoreAdapters();
  } finally {
    running = null;
    await refresh(loaded);
  }
}

/** The questions of some lessons, and one that has nothing to do with them. */
function questions(list: readonly Lesson[]): Turn[][] {
  const asked = list.map((lesson) => {
    const { messages } = lesson;
    if (lesson.kind === "preference") return messages;
    return messages.slice(
      0,
      messages.findLastIndex(({ role }) => role === "assistant"),
    );
  });
  const different = new Map(asked.map((messages) => [JSON.stringify(messages), messages]));
  const other: Turn = { role: "user", content: t.peek().suggestions[0] ?? "" };
  return [...[...different.values()].slice(0, SAMPLED_LESSONS), [other]];
}

/** Asks the model a question of the samples, with an adapter or without. */
async function sample(
  loaded: Engine,
  index: number,
  side: "before" | "after",
  adapter: string | null,
  signal: AbortSignal,
  maxTokens = SAMPLE_TOKENS,
): Promise<void> {
  const messages = samples.peek()[index]?.messages ?? [];
  const adapters = adapter === null ? [] : [{ name: adapter, scale: 1 }];
  const asked = { messages, maxTokens, temperature: 0, adapters };
  const answer = await answerTo(loaded, asked, signal);
  if (!signal.aborted)
    samples.value = samples.peek().map((one, i) => (i === index ? { ...one, [side]: answer } : one));
}

/** Begins new samples. What was asked before is forgotten. */
function ask(asked: readonly Turn[][]): AbortSignal {
  sampling?.abort();
  sampling = new AbortController();
  samples.value = asked.map((messages) => ({ messages, before: null, after: null }));
  return sampling.signal;
}

/** Asks the model without what it has learnt and with it. */
async function compare(loaded: Engine, name: string, list: readonly Lesson[]): Promise<void> {
  const signal = ask(questions(list));
  try {
    for (const index of samples.peek().keys()) {
      await sample(loaded, index, "before", null, signal);
      await sample(loaded, index, "after", name, signal);
    }
  } catch {
    // What there is of them is shown. What ends the engine is told elsewhere.
  }
}

/** Now and then, while the model learns, what it says by now to one question. */
function watch(loaded: Engine, list: readonly Lesson[]): (step: TrainingStep) => void {
  const signal = ask(questions(list).slice(0, 1));
  let looking = sample(loaded, 0, "before", null, signal, LOOK_TOKENS).catch(() => undefined);
  let isLooking = false;
  let looks = 1;
  const look = async () => {
    await loaded.adapters.load(await loaded.trainings.snapshot(), { name: SO_FAR });
    try {
      await sample(loaded, 0, "after", SO_FAR, signal, LOOK_TOKENS);
    } finally {
      await loaded.adapters.unload(SO_FAR);
    }
  };
  return ({ step, steps }) => {
    if (isLooking || signal.aborted || step < (looks / LOOKS) * steps || step === steps) return;
    looks = 1 + Math.floor((step / steps) * LOOKS);
    isLooking = true;
    looking = looking
      .then(look)
      .catch(() => undefined) // The training goes on without it.
      .then(() => void (isLooking = false));
  };
}

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

/** Ends a training that is done; what was learnt stays. */
export async function keepTaught(name: string): Promise<void> {
  reset();
  await discardTraining(name);
}

/** Forgets a training that is done, and what was learnt. */
export async function discardTaught(name: string): Promise<void> {
  reset();
  await removeAdapter(name);
  await discardTraining(name);
}
