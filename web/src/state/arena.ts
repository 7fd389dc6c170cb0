/** Two answers to one question, judged without knowing whose they are. */
import { computed, effect, signal } from "@preact/signals";
import { AbortedError, type AdapterUse } from "nomoat";
import { ratings } from "../arena/ratings";
import { duelOf, toLmsys, type Battle, type Winner } from "../arena/records";
import { deleteBattles, readBattles, storeBattle } from "../lessons/database";
import type { Turn } from "../lessons/records";
import { download, today } from "../lib/download";
import { newId } from "../lib/id";
import { remoteName } from "../lib/servers";
import { wellFormed } from "../lib/text";
import { throttle } from "../lib/throttle";
import { adapters, strengths } from "./adapters";
import { answerTo } from "./ask";
import { engine, recommendedSampling, serverInUse } from "./engine";
import { refreshLessons } from "./lessons";
import { models } from "./models";
import { sampling } from "./sampling";
import { connect, type RemoteModel } from "./servers";
import { settings } from "./settings";

/** What can take part: the model with an adapter or without, and how it chooses tokens; models on servers. */
export interface Contender {
  /** Tells it from the others, in ratings and exports. */
  name: string;
  adapters: AdapterUse[];
  /** Null: what a server does by default. */
  temperature: number | null;
  /** The server to which the question is sent; none on this device. */
  remote?: RemoteModel;
}

/** Whose answers A and B are is told after the vote only. */
export type Round =
  | { kind: "question"; question: string }
  | { kind: "answering" | "vote"; question: string; texts: readonly [string, string] }
  | {
      kind: "told";
      question: string;
      texts: readonly [string, string];
      names: readonly [string, string];
      winner: Winner;
    }
  | { kind: "failed"; question: string; error: unknown; server: string | undefined };

/** Temperatures that the model as it is takes part with. */
const TEMPERATURES = [0, 0.7, 1.2];

export const round = signal<Round>({ kind: "question", question: "" });
/** All votes, the oldest first. */
export const battles = signal<readonly Battle[]>([]);
/** Why the votes could not be read, or the last change not be stored. */
export const arenaError = signal<unknown>(null);
export const table = computed(() => ratings(battles.value.map(duelOf)));

/** Names of contenders that the person took in or left out; the others are as `isUsual` says. */
const taken = signal<ReadonlyMap<string, boolean>>(new Map());

/** Everything that can take part, the model as it is first. */
export const contenders = computed<readonly Contender[]>(() => {
  const loaded = engine.value?.model.name;
  if (loaded === undefined) return [];
  const remote = serverInUse.value;
  const base = remote === null ? loaded : remoteName(remote);
  const { temperature: asked } = settings.value;
  const usual = sampling(asked, false, recommendedSampling.value).temperature ?? 0;
  const own = remote === null ? usual : asked;
  const contender = (temperature: number | null, adapter?: string): Contender => {
    const scale = adapter === undefined ? 1 : (strengths.value.get(adapter)?.scale ?? 1);
    const name =
      base +
      (adapter === undefined ? "" : `:${adapter}`) +
      (scale === 1 ? "" : ` ×${scale}`) +
      (temperature === null || (temperature === 0 && remote === null) ? "" : ` @ temperature ${temperature}`);
    const uses = adapter === undefined ? [] : [{ name: adapter, scale }];
    return { name, temperature, adapters: uses, ...(remote && { remote }) };
  };
  const others = models.value.flatMap(({ remote: other }): Contender[] =>
    other === undefined || (other.baseURL === remote?.baseURL && other.model === remote.model)
      ? []
      : [{ name: remoteName(other), temperature: asked, adapters: [], remote: other }],
  );
  return [
    contender(own),
    ...adapters.value.map(({ name }) => contender(own, name)),
    ...TEMPERATURES.filter((temperature) => temperature !== own).map((temperature) => contender(temperature)),
    ...others,
  ];
});

/** Those that take part: unless the person says otherwise the first two, and every adapter. */
export const entrants = computed<readonly Contender[]>(() =>
  contenders.value.filter(
    ({ name, adapters: uses }, index) => taken.value.get(name) ?? (index < 2 || uses.length > 0),
  ),
);

export function setEntrant(name: string, takesPart: boolean): void {
  taken.value = new Map(taken.peek()).set(name, takesPart);
}

/** Milliseconds between two updates of the screen. */
const SCREEN_INTERVAL = 50;

let running: AbortController | null = null;
/** Whose the answers of this round are, A's first. */
let pair: readonly [Contender, Contender] | null = null;

/** Two of a list, in random order. */
function draw(list: readonly Contender[]): readonly [Contender, Contender] | null {
  const first = list[Math.floor(Math.random() * list.length)];
  const rest = list.filter((one) => one !== first);
  const second = rest[Math.floor(Math.random() * rest.length)];
  return first && second ? [first, second] : null;
}

function messagesOf(question: string): Turn[] {
  const system = settings.peek().systemPrompt;
  const turn: Turn = { role: "user", content: wellFormed(question) };
  return system.trim() === "" ? [turn] : [{ role: "system", content: wellFormed(system) }, turn];
}

/** Asks two of those that take part. */
export async function askBoth(question: string): Promise<void> {
  const loaded = engine.peek();
  pair = draw(entrants.peek());
  if (loaded === null || pair === null || question.trim() === "") return;
  running?.abort();
  const controller = (running = new AbortController());
  const { signal } = controller;
  const texts: [string, string] = ["", ""];
  const show = (kind: "answering" | "vote") => {
    if (!signal.aborted) round.value = { kind, question, texts: [...texts] };
  };
  const screen = throttle(SCREEN_INTERVAL, () => show("answering"));
  show("answering");
  const { maxTokens } = settings.peek();
  const failures: (string | undefined)[] = [];
  try {
    await Promise.all(
      pair.map(async ({ adapters: uses, temperature, remote }, side) => {
        const asked = { messages: messagesOf(question), maxTokens, temperature, adapters: uses };
        try {
          const isLoaded = remote === undefined || remote === serverInUse.peek();
          const asks = isLoaded ? loaded : await connect(remote, signal);
          texts[side] = await answerTo(asks, asked, signal, (text) => {
            texts[side] = text;
            screen.call();
          });
        } catch (error) {
          failures.push(remote?.baseURL);
          throw error;
        }
      }),
    );
    screen.cancel();
    show("vote");
  } catch (error) {
    screen.cancel();
    if (signal.aborted) return;
    controller.abort();
    round.value =
      error instanceof AbortedError
        ? { kind: "question", question }
        : { kind: "failed", question, error, server: failures[0] };
  }
}

/** Back to the question: nothing of the round is kept. */
export function endRound(question: string): void {
  running?.abort();
  pair = null;
  round.value = { kind: "question", question };
}

// Another model has other contenders.
effect(() => {
  void engine.value;
  const { question } = round.peek();
  endRound(question);
});

async function change(act: () => Promise<void>): Promise<void> {
  try {
    await act();
    battles.value = await readBattles();
    arenaError.value = null;
  } catch (error) {
    arenaError.value = error;
  }
}

/** Reads the votes that are stored. */
export function refreshBattles(): Promise<void> {
  return change(() => Promise.resolve());
}

/** Stores what the person says of the two answers, and tells whose they were. */
export async function vote(winner: Winner): Promise<void> {
  const state = round.peek();
  const model = engine.peek()?.model.name;
  if (state.kind !== "vote" || pair === null || model === undefined) return;
  const { question, texts } = state;
  const names: [string, string] = [pair[0].name, pair[1].name];
  round.value = { kind: "told", question, texts, names, winner };
  const battle = { id: newId(), createdAt: Date.now(), model, names, winner };
  await change(() => storeBattle({ ...battle, messages: messagesOf(question), answers: [...texts] }));
  await refreshLessons();
}

export function exportBattles(): void {
  download(toLmsys(battles.peek()), `nomoat-arena-${today()}.jsonl`, "application/jsonl");
}

export function forgetBattles(): Promise<void> {
  return change(deleteBattles);
}
