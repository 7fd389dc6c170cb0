/** Who can take part in the arena, and who does. */
import { computed, signal } from "@preact/signals";
import { nameOf, readOwn, type Own, type Sampled } from "../arena/contenders";
import { persisted } from "../lib/persisted";
import { adapters, strengths } from "./adapters";
import { inUse, recommendedOf } from "./engine";
import { fitOfModel, fullName, isAtHand, models, type ModelChoice } from "./models";
import { sampling } from "./sampling";
import { settings } from "./settings";

/** What can take part: a model with an adapter or without, and how it chooses tokens. */
export interface Contender {
  /** Tells it from the others, in ratings and exports. */
  name: string;
  model: ModelChoice;
  adapters: { name: string; scale: number }[];
  /** Null: what suits the model, or what its server does by default. */
  temperature: number | null;
  /** What else of choosing tokens is not as usual. */
  otherwise: Omit<Sampled, "temperature">;
  /** The person put it together, and can take it out again. */
  own: Own | null;
}

/** Temperatures that the model as it is takes part with. */
const TEMPERATURES = [0, 0.7, 1.2];

/** Contenders that the person put together, kept across visits. */
const ownOnes = persisted<readonly Own[]>("nomoat-contenders", readOwn);

/** Names of contenders that the person took in or left out; the others are as `entrants` says. */
const taken = signal<ReadonlyMap<string, boolean>>(new Map());

/** The models that can take part: the one in use, others that are on this device, and those on servers. */
export const modelsHere = computed<readonly ModelChoice[]>(() => {
  const current = inUse.value?.model;
  if (current === undefined) return [];
  const others = models.value.filter(
    (model) => model.id !== current.id && isAtHand(model) && fitOfModel(model) !== "too-large",
  );
  return [current, ...others.filter(({ remote }) => !remote), ...others.filter(({ remote }) => remote)];
});

/** A model with an adapter or without. What is not said of choosing tokens is as Settings have it. */
function contender(
  model: ModelChoice,
  adapter: string | null,
  sampled: Sampled = {},
  own: Own | null = null,
): Contender {
  const current = inUse.value;
  const isHere = model.remote === undefined;
  const { temperature: asked } = settings.value;
  const recommended = current?.model.id === model.id ? recommendedOf(current.engine, model) : model.sampling;
  const usual = isHere ? (sampling(asked, false, recommended).temperature ?? 0) : asked;
  const { temperature = usual, ...otherwise } = sampled;
  const uses = adapter === null ? [] : [{ name: adapter, scale: strengths.value.get(adapter)?.scale ?? 1 }];
  // On this device a temperature of 0 needs no words.
  const isSaid = temperature !== null && (temperature !== 0 || !isHere);
  const name = nameOf(fullName(model), uses[0] ?? null, isSaid ? { ...otherwise, temperature } : otherwise);
  return { name, model, adapters: uses, temperature, otherwise, own };
}

/** A contender as a person put it together; null if its model or its adapter is not there. */
export function contenderOf(own: Own): Contender | null {
  const model = modelsHere.value.find(({ id }) => id === own.model);
  if (model === undefined) return null;
  const isLearnt = model === inUse.value?.model && adapters.value.some(({ name }) => name === own.adapter);
  return own.adapter === null || isLearnt ? contender(model, own.adapter, own.sampled, own) : null;
}

/** Everything that can take part, the model as it is first. */
export const contenders = computed<readonly Contender[]>(() => {
  const [current, ...others] = modelsHere.value;
  if (current === undefined) return [];
  const plain = contender(current, null);
  const warmer = TEMPERATURES.filter((temperature) => temperature !== plain.temperature).map((temperature) =>
    contender(current, null, { temperature }),
  );
  const all = [
    plain,
    ...adapters.value.map(({ name }) => contender(current, name)),
    ...warmer,
    ...ownOnes.value.flatMap((own) => contenderOf(own) ?? []),
    ...others.map((model) => contender(model, null)),
  ];
  // Two files may have one name: votes could not tell them apart.
  return all.filter(({ name }, index) => all.findIndex((one) => one.name === name) === index);
});

/** Those that take part: unless the person says otherwise the first two, every adapter, and what is added. */
export const entrants = computed<readonly Contender[]>(() =>
  contenders.value.filter(
    ({ name, adapters: uses, own }, index) =>
      taken.value.get(name) ?? (index < 2 || uses.length > 0 || own !== null),
  ),
);

export function setEntrant(name: string, takesPart: boolean): void {
  taken.value = new Map(taken.peek()).set(name, takesPart);
}

/** Adds a contender that a person put together. It takes part. */
export function addContender({ name, own }: Contender): void {
  if (own !== null) ownOnes.value = [...ownOnes.peek(), own];
  setEntrant(name, true);
}

export function removeContender(own: Own): void {
  ownOnes.value = ownOnes.peek().filter((one) => one !== own);
}
