/**
 * What the stand-in learns: adapters, and trainings of a few milliseconds a step (?slow-teach: much slower),
 * whose checkpoints outlive the page. An adapter's file with the word "damaged" in it is a bad one.
 */
import type {
  AdapterFile,
  AdapterFormat,
  AdapterInfo,
  Adapters,
  AdapterSource,
  Engine,
  TrainingPlan,
  TrainingPoint,
  TrainOptions,
} from "nomoat";
import { AbortedError, InvalidRequestError, pause, UnsupportedModelError } from "./fake-nomoat";

const key = "nomoat-fake-trainings";

interface Checkpoint {
  step: number;
  epochs: number;
  examples: number;
}

function checkpoints(): Record<string, Checkpoint> {
  return JSON.parse(localStorage.getItem(key) ?? "{}") as Record<string, Checkpoint>;
}

function putCheckpoint(name: string, checkpoint: Checkpoint | undefined): void {
  localStorage.setItem(key, JSON.stringify({ ...checkpoints(), [name]: checkpoint }));
}

type Files = Partial<Record<"gguf" | "config" | "weights", Blob>>;

function blob(file: AdapterFile): Blob {
  if (file instanceof Blob) return file;
  throw new InvalidRequestError("no addresses here", "source");
}

function planOf({ step, epochs, examples }: Checkpoint): TrainingPlan {
  const steps = epochs * examples;
  const curve = Array.from({ length: step }, (_, index) => pointOf(index + 1));
  const counts = { validation: 0, refused: [], parameters: 1000, tokens: 30 * examples };
  return { ...counts, examples, steps, step, epochs, bytes: 5e7, curve };
}

function pointOf(step: number): TrainingPoint {
  return { step, loss: 3 / step };
}

/** The parts of an engine that learn. */
export function learning(): Pick<Engine, "adapters" | "train" | "trainings"> {
  const loaded = new Map<string, { info: AdapterInfo; files: Files }>();
  const add = (name: string, files: Files): AdapterInfo => {
    const formats: AdapterFormat[] = [];
    if (files.gguf) formats.push("gguf");
    if (files.config) formats.push("peft");
    const info = { name, rank: 4, parameters: 1000, tensors: 7, formats };
    loaded.set(name, { info, files });
    return info;
  };
  const adapters = {
    async load(source: AdapterSource, { name }: { name: string }) {
      const isPeft = typeof source === "object" && "config" in source;
      const files: Files = isPeft
        ? { config: blob(source.config), weights: blob(source.weights) }
        : { gguf: blob(source) };
      if (isPeft && source.gguf) files.gguf = blob(source.gguf);
      const text = (await Promise.all(Object.values(files).map((file) => file.text()))).join("");
      if (text.includes("damaged")) throw new UnsupportedModelError(`${name} is for another model`);
      return add(name, files);
    },
    export(name: string, format: AdapterFormat) {
      const { gguf, config, weights } = loaded.get(name)?.files ?? {};
      return format === "gguf" ? gguf : { config, weights };
    },
    list: () => [...loaded.values()].map(({ info }) => info),
    unload(name: string) {
      loaded.delete(name);
      return Promise.resolve();
    },
  } as Adapters;

  const countOf = ({ examples, preferences }: Pick<TrainOptions, "examples" | "preferences">) =>
    (examples ?? preferences ?? []).length;

  const file = (text: string, name: string) => new Blob([`${text} of ${name}`]);
  const filesOf = (name: string) => ({
    gguf: file("GGUF", name),
    config: file("config", name),
    weights: file("weights", name),
  });

  return {
    adapters,
    async train({ name, resume, onPlan, onStep, signal, keepCheckpoint, ...options }) {
      Object.assign(window, { taught: options }); // Tests read it.
      if (loaded.has(name)) throw new InvalidRequestError(`There is an adapter ${name} already`, "name");
      const stored = resume === true ? checkpoints()[name] : undefined;
      if (resume === true && stored === undefined)
        throw new InvalidRequestError("nothing is stored", "resume");
      const { epochs = stored?.epochs ?? 3 } = options;
      const at = { step: stored?.step ?? 0, examples: stored?.examples ?? countOf(options), epochs };
      onPlan?.(planOf(at));
      const { steps } = planOf(at);
      const slow = new URLSearchParams(location.search).has("slow-teach");
      while (at.step < steps) {
        putCheckpoint(name, at);
        if (signal?.aborted) throw new AbortedError("aborted");
        await pause(slow ? 250 : 5);
        at.step += 1;
        const point = pointOf(at.step);
        onStep?.({ step: at.step, steps, point, tokensPerSecond: 100, secondsLeft: (steps - at.step) / 4 });
      }
      putCheckpoint(name, keepCheckpoint ? at : undefined);
      const adapter = add(name, filesOf(name));
      return { adapter, curve: planOf(at).curve };
    },
    trainings: {
      async plan({ epochs = 3, targets = [], patience = 0, validation = 0, ...options }) {
        await pause(5);
        const unknown = targets.find((name) => !name.startsWith("attn_"));
        if (unknown !== undefined)
          throw new InvalidRequestError(`no projection is called "${unknown}"; this model has attn_q`);
        if (patience > 0 && validation === 0) throw new InvalidRequestError("patience needs validation");
        return {
          ...planOf({ step: 0, epochs, examples: countOf(options) }),
          bytes: 5e6 * (options.rank ?? 8),
        };
      },
      async estimate({ epochs = 3, ...options }) {
        await pause(50);
        const plan = planOf({ step: 0, epochs, examples: countOf(options) });
        return { plan, seconds: plan.steps * 0.25 };
      },
      snapshot: () => Promise.resolve(filesOf("so far")),
      resumable: () => Promise.resolve(Object.keys(checkpoints())),
      discard(name) {
        putCheckpoint(name, undefined);
        return Promise.resolve();
      },
    },
  };
}
