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

/** Names of contenders that the person took in or left out; the others are as `isUsual` says. */
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

function adapterOf(name: string): { name: string; scale: number } {
  return { name, scale: strengths.value.get(name)?.scale ?? 1 };
}

/** The model as Settings have it. On this device a temperature of 0 needs no words. */
function usual(model: ModelChoice, adapter: string | null): Contender {
  const current = inUse.value;
  const { temperature: asked } = settings.value;
  const recommended = current?.model.id === model.id ? recommendedOf(current.engine, model) : model.sampling;
  const own = sampling(asked, false, recommended).temperature ?? 0;
  const temperature = model.remote === undefined ? own : asked;
  const isSaid = temperature !== null && (temperature !== 0 || model.remote !== undefined);
  const use = adapter === null ? null : adapterOf(adapter);
  return {
    name: nameOf(fullName(model), use, isSaid ? { temperature } : {}),
    model,
    adapters: use === null ? [] : [use],
    temperature,
    otherwise: {},
    own: null,
  };
}

/** A contender as a person put it together; null if its model or its adapter is not there. */
export function contenderOf(own: Own): Contender | null {
  const model = modelsHere.value.find(({ id }) => id === own.model);
  if (model === undefined) return null;
  const plain = usual(model, own.adapter);
  const isThere = model === inUse.value?.model && adapters.value.some(({ name }) => name === own.adapter);
  if (own.adapter !== null && !isThere) return null;
  const { temperature = plain.temperature, ...otherwise } = own.sampled;
  const isSaid = temperature !== null && (temperature !== 0 || model.remote !== undefined);
  const said = isSaid ? { ...own.sampled, temperature } : { ...otherwise };
  const name = nameOf(fullName(model), plain.adapters[0] ?? null, said);
  return { ...plain, name, temperature, otherwise, own };
}

/** Everything that can take part, the model as it is first. */
export const contenders = computed<readonly Contender[]>(() => {
  const [current, ...others] = modelsHere.value;
  if (current === undefined) return [];
  const plain = usual(current, null);
  const warmer = TEMPERATURES.filter((temperature) => temperature !== plain.temperature).flatMap(
    (temperature) => {
      const found = contenderOf({ model: current.id, adapter: null, sampled: { temperature } });
      return found === null ? [] : [{ ...found, own: null }];
    },
  );
  const all = [
    plain,
    ...adapters.value.map(({ name }) => usual(current, name)),
    ...warmer,
    ...ownOnes.value.flatMap((own) => contenderOf(own) ?? []),
    ...others.map((model) => usual(model, null)),
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

/** Puts a contender together. */
export function addContender(own: Own): void {
  ownOnes.value = [...ownOnes.peek(), own];
  const added = contenderOf(own);
  if (added !== null) setEntrant(added.name, true);
}

export function removeContender(own: Own): void {
  ownOnes.value = ownOnes.peek().filter((one) => one !== own);
}
