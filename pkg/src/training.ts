/** Teaching a loaded model: options, progress, and checkpoints in the browser's storage. */
import type { AdapterInfo, LoadedAdapters } from "./adapters.js";
import type { ChatMessage } from "./chat.js";
import { AbortedError, DeviceLostError, InvalidRequestError, WorkerLostError } from "./errors.js";
import { withEpochs } from "./checkpoint.js";
import type { Calls } from "./protocol.js";
import type { RuntimeAdvance, RuntimeTraining } from "./runtime.js";
import { cacheOrigin } from "./store.js";

/** A conversation whose assistant turns are learnt. */
export interface TrainingExample {
  messages: ChatMessage[];
}

/** Two answers to the same messages, of which one is better. */
export interface TrainingPreference {
  messages: ChatMessage[];
  chosen: string;
  rejected: string;
}

/** Settings of training; all have defaults. */
export interface TrainingSettings {
  /** Rank of the matrices. Default 8. */
  rank?: number;
  /** What is learnt is multiplied by `alpha / rank`. Default: twice the rank. */
  alpha?: number;
  /** Projections that learn, such as `attn_q`. Default: all. */
  targets?: string[];
  /** The highest learning rate. Default 0.0005. */
  learningRate?: number;
  /** Steps in which the rate rises from 0. Default 0. */
  warmup?: number;
  /** How the rate goes on. Default `cosine`, which falls to 0. */
  schedule?: "constant" | "cosine";
  /** Default 0. */
  weightDecay?: number;
  /** The largest norm of a step's gradient. Default 1. */
  clip?: number;
  /** Times that all examples are used. Default 3. With `resume`: as it began, unless there are to be more. */
  epochs?: number;
  /** Examples per step. Default 1. */
  batch?: number;
  /** Most tokens of an example; longer ones are left out. Default 1024. */
  maxTokens?: number;
  /** Share of the examples that are kept out, so that the loss on them is known. Default 0. */
  validation?: number;
  /** Ends when the loss on them has not fallen for so many epochs, and keeps the best. Default 0: never. */
  patience?: number;
  /** Seed of the start and of the order. Default 0. */
  seed?: number;
  /** Preferences: how strongly to stay near the model as it is. Default 0.1. */
  beta?: number;
}

/** Options of `engine.train`. */
export interface TrainOptions extends TrainingSettings {
  /** Name of the adapter, without a colon. */
  name: string;
  /** What is learnt: conversations. */
  examples?: TrainingExample[];
  /** In place of examples: better and worse answers. */
  preferences?: TrainingPreference[];
  /**
   * Goes on with the training of this name from its checkpoint in the browser's storage. Examples and
   * settings are those it began with, except `epochs`.
   */
  resume?: boolean;
  /** Keeps the checkpoint at the end: the training can go on with more `epochs`. Default false. */
  keepCheckpoint?: boolean;
  /** Seconds between checkpoints. Default 30; 0 stores none. */
  checkpointSeconds?: number;
  /** Called once, before the first step. */
  onPlan?: (plan: TrainingPlan) => void;
  /** Called after each part of a step. */
  onStep?: (step: TrainingStep) => void;
  /** Stops; what was learnt is stored first, for `resume`. */
  signal?: AbortSignal;
}

/** A point of the curve of losses. */
export interface TrainingPoint {
  /** Steps that are done. */
  step: number;
  /** The step's loss. */
  loss?: number;
  /** The mean loss of the examples that are kept out. */
  validation?: number;
  /** Preferences: the mean margin, and the share of pairs whose better answer gained. */
  margin?: number;
  accuracy?: number;
}

/** What a training will take. */
export interface TrainingPlan {
  /** Examples or pairs that are learnt from, and those that are kept out. */
  examples: number;
  validation: number;
  /** Which of the given ones are left out, by number from 1, and why. */
  refused: [number, string][];
  /** Steps in all, and those that are done. */
  steps: number;
  step: number;
  /** Times that all examples are used. */
  epochs: number;
  /** Numbers that are learnt. */
  parameters: number;
  /** Tokens of all examples together. */
  tokens: number;
  /** Memory beside the model, at most. */
  bytes: number;
  /** The curve so far. */
  curve: TrainingPoint[];
}

/** How far a training is. */
export interface TrainingStep {
  step: number;
  steps: number;
  /** A new point of the curve, if there is one. */
  point: TrainingPoint | null;
  tokensPerSecond: number;
  /** An estimate; null until a step has been measured. */
  secondsLeft: number | null;
}

/** The end of a training. */
export interface TrainResult {
  /** The adapter, which is loaded. */
  adapter: AdapterInfo;
  curve: TrainingPoint[];
}

/** What a training takes, from a measured part of it. */
export interface TrainingEstimate {
  plan: TrainingPlan;
  seconds: number;
}

/** Checkpoints by model and name of the adapter; tests replace it. */
export interface CheckpointStore {
  get(model: string, name: string): Promise<Blob | null>;
  put(model: string, name: string, checkpoint: Blob): Promise<void>;
  delete(model: string, name: string): Promise<void>;
  /** Names of adapters whose training can go on. */
  list(model: string): Promise<string[]>;
}

const CACHE_NAME = "nomoat-training-v1";

const folder = (model: string) => `${cacheOrigin()}/.nomoat/training/${encodeURIComponent(model)}/`;
const address = (model: string, name: string) => folder(model) + encodeURIComponent(name);

/** In Cache Storage, like models: an entry is replaced as a whole or not at all. */
export const checkpointStore: CheckpointStore = {
  async get(model, name) {
    const found = await (await caches.open(CACHE_NAME)).match(address(model, name));
    return (await found?.blob()) ?? null;
  },
  async put(model, name, checkpoint) {
    await (await caches.open(CACHE_NAME)).put(address(model, name), new Response(checkpoint));
  },
  async delete(model, name) {
    await (await caches.open(CACHE_NAME)).delete(address(model, name));
  },
  async list(model) {
    const keys = await (await caches.open(CACHE_NAME)).keys();
    const own = keys.map(({ url }) => url).filter((url) => url.startsWith(folder(model)));
    return own.map((url) => decodeURIComponent(url.slice(folder(model).length)));
  },
};

/** A call of the worker, after those before it. */
export type TrainingCall = <M extends TrainingMethod>(
  method: M,
  params: Calls[M]["params"],
) => Promise<Calls[M]["result"]>;

/** What the worker does for a training. */
export type TrainingMethod = "trainBegin" | "trainStep" | "trainCheckpoint" | "trainFiles" | "trainEnd";

/**
 * What an adapter that was taught is loaded from and exported as. It is the GGUF file alone if it learnt
 * projections that have no name in PEFT.
 */
export type TrainedFiles = Blob | { weights: Blob; config: Blob; gguf: Blob };

/** How a training uses its engine. */
export interface Trained {
  model: string;
  call: TrainingCall;
  store: CheckpointStore;
  adapters: LoadedAdapters;
}

/** What is known of trainings. */
export interface Trainings {
  /** What a training would take, memory included. Nothing is computed, and nothing kept of it. */
  plan(options: Omit<TrainOptions, "name">): Promise<TrainingPlan>;
  /** What a training would take, by measuring its first parts. Nothing is kept of it. */
  estimate(options: Omit<TrainOptions, "name">): Promise<TrainingEstimate>;
  /** What the training that runs has learnt so far, as `adapters.load` takes it. */
  snapshot(): Promise<TrainedFiles>;
  /** Names of adapters whose training was interrupted and can go on. */
  resumable(): Promise<string[]>;
  /** Forgets the checkpoint of such a training. */
  discard(name: string): Promise<void>;
}

/** Teaches the model of an engine. */
export class Teacher implements Trainings {
  readonly #of: Trained;
  #isBusy = false;
  /** The last plan that was asked for. It takes a moment, and what comes after it waits. */
  #planned: Promise<unknown> | null = null;

  constructor(of: Trained) {
    this.#of = of;
  }

  async train(options: TrainOptions): Promise<TrainResult> {
    const { name, resume = false, checkpointSeconds = 30, onPlan, onStep, signal } = options;
    const { keepCheckpoint = false } = options;
    const { model, call, store } = this.#of;
    if (typeof name !== "string" || name === "" || name.includes(":"))
      throw new InvalidRequestError("`name` must be a text without a colon, and not empty.", "name");
    if (this.#of.adapters.list().some((adapter) => adapter.name === name))
      throw new InvalidRequestError(`There is an adapter ${name} already; unload it first.`, "name");
    const begin = resume ? await this.#checkpoint(name, options) : toTraining(options);
    return this.#alone(async () => {
      if (signal?.aborted) throw new AbortedError();
      const plan = await call("trainBegin", begin);
      // If the worker is lost, the new one goes on to the new end.
      if ("checkpoint" in begin) await store.put(model, name, begin.checkpoint);
      onPlan?.(plan);
      let curve = [...plan.curve];
      const pace = new Pace(plan);
      let saved = performance.now();
      const save = async () => {
        saved = performance.now();
        if (checkpointSeconds > 0) await store.put(model, name, await call("trainCheckpoint", null));
      };
      // A new worker goes on from the last checkpoint, but not if it is lost before its first step.
      let hasStepped = false;
      const stepOrResume = async (): Promise<RuntimeAdvance | null> => {
        try {
          return await call("trainStep", null);
        } catch (error) {
          const isLost = error instanceof DeviceLostError || error instanceof WorkerLostError;
          if (!isLost || !hasStepped) throw error;
          hasStepped = false;
          const checkpoint = await store.get(model, name);
          curve = [...(await call("trainBegin", checkpoint ? { checkpoint } : begin)).curve];
          return null;
        }
      };
      for (;;) {
        if (signal?.aborted) {
          await save();
          throw new AbortedError();
        }
        const advance = await stepOrResume();
        if (!advance) continue;
        hasStepped = true;
        if (advance.point) curve.push(advance.point);
        onStep?.(pace.after(advance));
        if (advance.is_done) break;
        if (performance.now() - saved > 1000 * checkpointSeconds) await save();
      }
      if (keepCheckpoint) await store.put(model, name, await call("trainCheckpoint", null));
      const files = await call("trainFiles", { base: model });
      const adapter = await this.#of.adapters.load(files, { name });
      if (!keepCheckpoint) await store.delete(model, name);
      return { adapter, curve };
    });
  }

  async plan(options: Omit<TrainOptions, "name">): Promise<TrainingPlan> {
    const begin = toTraining(options);
    this.#mustBeFree();
    const before = this.#planned;
    const make = async () => {
      await before;
      try {
        return await this.#of.call("trainBegin", begin);
      } finally {
        await this.#of.call("trainEnd", null).catch(() => undefined);
      }
    };
    const made = make();
    // Whoever asked for the plan is told if it failed.
    const planned = (this.#planned = made
      .catch(() => undefined)
      .then(() => {
        if (this.#planned === planned) this.#planned = null;
      }));
    return made;
  }

  async estimate(options: Omit<TrainOptions, "name">): Promise<TrainingEstimate> {
    const begin = toTraining(options);
    return this.#alone(async () => {
      const plan = await this.#of.call("trainBegin", begin);
      const pace = new Pace(plan);
      // The first part also warms the code up.
      for (let part = 0; part < 2; part += 1) pace.after(await this.#of.call("trainStep", null));
      return { plan, seconds: pace.seconds() };
    });
  }

  async snapshot(): Promise<TrainedFiles> {
    if (!this.#isBusy) throw new InvalidRequestError("The model is not being taught now.");
    return this.#of.call("trainFiles", { base: this.#of.model });
  }

  resumable(): Promise<string[]> {
    return this.#of.store.list(this.#of.model);
  }

  discard(name: string): Promise<void> {
    return this.#of.store.delete(this.#of.model, name);
  }

  #mustBeFree(): void {
    if (this.#isBusy)
      throw new InvalidRequestError("The model is being taught already; wait for its end, or abort it.");
  }

  async #checkpoint(name: string, settings: TrainingSettings): Promise<{ checkpoint: Blob }> {
    const { epochs } = settingsOf(settings);
    const checkpoint = await this.#of.store.get(this.#of.model, name);
    if (!checkpoint) throw new InvalidRequestError(`No training of ${name} is stored.`, "resume");
    return { checkpoint: epochs === undefined ? checkpoint : await withEpochs(checkpoint, epochs) };
  }

  async #alone<T>(act: () => Promise<T>): Promise<T> {
    this.#mustBeFree();
    this.#isBusy = true;
    try {
      if (this.#planned) await this.#planned;
      return await act();
    } finally {
      this.#isBusy = false;
      await this.#of.call("trainEnd", null).catch(() => undefined);
    }
  }
}

/** Measures how fast a training goes. */
class Pace {
  /** Rows of all steps. */
  readonly #total: number;
  readonly #from: number;
  #rows = 0;
  #ms = 0;
  #last = performance.now();

  constructor({ tokens, steps, step, epochs }: TrainingPlan) {
    this.#total = tokens * epochs;
    this.#from = step / Math.max(steps, 1);
  }

  after({ step, steps, rows, point, is_done }: RuntimeAdvance): TrainingStep {
    const now = performance.now();
    this.#rows += rows;
    this.#ms += now - this.#last;
    this.#last = now;
    const done = step / Math.max(steps, 1) - this.#from;
    const secondsLeft = done > 0 ? ((this.#ms / done) * (1 - this.#from - done)) / 1000 : null;
    const tokensPerSecond = this.#ms > 0 ? (1000 * this.#rows) / this.#ms : 0;
    return { step, steps, point, tokensPerSecond, secondsLeft: is_done ? 0 : secondsLeft };
  }

  seconds(): number {
    return this.#rows > 0 ? (this.#total * this.#ms) / this.#rows / 1000 : 0;
  }
}

/** The settings and examples as the runtime takes them; throws InvalidRequestError naming what is wrong. */
export function toTraining(options: Omit<TrainOptions, "name">): { settings: RuntimeTraining; data: string } {
  const { examples, preferences } = options;
  if ((examples === undefined) === (preferences === undefined))
    throw new InvalidRequestError("Give either `examples` or `preferences`.", "examples");
  const lines: unknown[] = [];
  for (const [index, example] of (examples ?? []).entries()) {
    const at = `examples[${index}].messages`;
    lines.push({ messages: messagesOf(example?.messages, at) });
  }
  for (const [index, pair] of (preferences ?? []).entries()) {
    const at = `preferences[${index}]`;
    const answer = (content: unknown, field: string) => {
      if (typeof content !== "string")
        throw new InvalidRequestError(`\`${at}.${field}\` must be a text.`, `${at}.${field}`);
      return [{ role: "assistant", content }];
    };
    lines.push({
      prompt: messagesOf(pair?.messages, `${at}.messages`),
      chosen: answer(pair.chosen, "chosen"),
      rejected: answer(pair.rejected, "rejected"),
    });
  }
  if (lines.length === 0) throw new InvalidRequestError("There is nothing to learn from.", "examples");
  return { settings: settingsOf(options), data: lines.map((line) => JSON.stringify(line)).join("\n") };
}

function messagesOf(messages: unknown, at: string): { role: string; content: string }[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new InvalidRequestError(`\`${at}\` must be a list of messages.`, at);
  return messages.map((message: unknown, index) => {
    const { role, content } = Object(message) as { role?: unknown; content?: unknown };
    if (typeof role !== "string" || typeof content !== "string")
      throw new InvalidRequestError(`\`${at}[${index}]\` must have a role and a text.`, `${at}[${index}]`);
    return { role, content };
  });
}

/** Names of the settings in the runtime; whole numbers are marked. */
const NAMES = {
  rank: ["rank", true],
  alpha: ["alpha", false],
  learningRate: ["learning_rate", false],
  warmup: ["warm_up", true],
  weightDecay: ["weight_decay", false],
  clip: ["clip", false],
  epochs: ["epochs", true],
  batch: ["batch", true],
  maxTokens: ["max_tokens", true],
  validation: ["validation", false],
  patience: ["patience", true],
  seed: ["seed", true],
  beta: ["beta", false],
} as const;

function settingsOf(options: TrainingSettings & { preferences?: unknown }): RuntimeTraining {
  const settings: RuntimeTraining = { dpo: options.preferences !== undefined };
  for (const [name, [field, isWhole]] of Object.entries(NAMES)) {
    const value = options[name as keyof typeof NAMES];
    if (value === undefined) continue;
    const fits = isWhole
      ? Number.isSafeInteger(value) && value >= 0 && value < 2 ** 32
      : Number.isFinite(value);
    if (!fits) {
      const what = isWhole ? "a whole number from 0" : "a number";
      throw new InvalidRequestError(`\`${name}\` must be ${what}.`, name);
    }
    settings[field] = value;
  }
  const { targets, schedule } = options;
  if (targets !== undefined) {
    if (!Array.isArray(targets) || targets.some((target) => typeof target !== "string"))
      throw new InvalidRequestError("`targets` must be a list of names such as `attn_q`.", "targets");
    settings.targets = targets;
  }
  if (schedule !== undefined) {
    if (schedule !== "constant" && schedule !== "cosine")
      throw new InvalidRequestError('`schedule` must be "constant" or "cosine".', "schedule");
    settings.schedule = schedule;
  }
  return settings;
}
