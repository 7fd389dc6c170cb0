/** Two answers to one question, judged without knowing whose they are. */
import { computed, effect, signal } from "@preact/signals";
import { AbortedError, type Engine } from "nomoat";
import { ratings } from "../arena/ratings";
import { duelOf, toLmsys, type Battle, type Winner } from "../arena/records";
import { deleteBattles, readBattles, storeBattle } from "../lessons/database";
import type { Turn } from "../lessons/records";
import { download, today } from "../lib/download";
import { newId } from "../lib/id";
import { wellFormed } from "../lib/text";
import { throttle } from "../lib/throttle";
import { answerTo } from "./ask";
import { busy } from "./chat";
import { entrants, type Contender } from "./contenders";
import { engine, inUse, recommendedOf } from "./engine";
import { refreshLessons } from "./lessons";
import { freeSecond, hasRoomBeside, withSecond } from "./second";
import { connect } from "./servers";
import { settings } from "./settings";
import { teachState } from "./teach";
import { dialog } from "./ui";

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

export const round = signal<Round>({ kind: "question", question: "" });
/** All votes, the oldest first. */
export const battles = signal<readonly Battle[]>([]);
/** Why the votes could not be read, or the last change not be stored. */
export const arenaError = signal<unknown>(null);
export const table = computed(() => ratings(battles.value.map(duelOf)));

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

/** Whether a contender's model is neither in use nor on a server. */
const isSecond = ({ model }: Contender) =>
  model.remote === undefined && model.id !== inUse.value?.model.id;

/** Where the models of those that take part run at once; null if only the model in use is on this device. */
export const seconds = computed<"beside" | "turns" | null>(() => {
  const others = entrants.value.filter(isSecond);
  if (others.length === 0) return null;
  return others.every(({ model }) => hasRoomBeside(model)) ? "beside" : "turns";
});

/** The model in use cannot make way for another one: it answers in the chat, or learns. */
export const isHeldUp = computed(
  () => seconds.value === "turns" && (busy.value || teachState.value.kind === "running"),
);

/** Asks one of a pair. `onText` gets what there is of the answer so far. */
async function answerOf(
  { model, adapters: uses, temperature, otherwise }: Contender,
  question: string,
  signal: AbortSignal,
  onText: (text: string) => void,
): Promise<string> {
  const { maxTokens } = settings.peek();
  const asked = { messages: messagesOf(question), maxTokens, temperature, adapters: uses, otherwise };
  const current = inUse.peek();
  if (model.id === current?.model.id) return answerTo(current.engine, asked, signal, onText);
  const its = (engine: Engine) => {
    const recommended = model.remote ? {} : recommendedOf(engine, model);
    return answerTo(engine, { ...asked, recommended }, signal, onText);
  };
  return model.remote ? its(await connect(model.remote, signal)) : withSecond(model, signal, its);
}

/** Asks two of those that take part. */
export async function askBoth(question: string): Promise<void> {
  pair = draw(entrants.peek());
  if (engine.peek() === null || pair === null || question.trim() === "" || isHeldUp.peek()) return;
  running?.abort();
  const controller = (running = new AbortController());
  const { signal } = controller;
  // When an answer appears must not tell whose it is.
  const isOneModel = pair[0].model.id === pair[1].model.id;
  const texts: [string, string] = ["", ""];
  const show = (kind: "answering" | "vote") => {
    const isShown = kind === "vote" || isOneModel;
    if (!signal.aborted) round.value = { kind, question, texts: isShown ? [...texts] : ["", ""] };
  };
  const screen = throttle(SCREEN_INTERVAL, () => show("answering"));
  show("answering");
  const failures: (string | undefined)[] = [];
  const answer = async (one: Contender, side: number) => {
    try {
      texts[side] = await answerOf(one, question, signal, (text) => {
        texts[side] = text;
        screen.call();
      });
    } catch (error) {
      failures.push(one.model.remote?.baseURL);
      throw error;
    }
  };
  try {
    const both = [...pair.entries()];
    await Promise.all(both.filter(([, one]) => !isSecond(one)).map(([side, one]) => answer(one, side)));
    // Each may need the memory of the others.
    for (const [side, one] of both.filter(([, one]) => isSecond(one))) await answer(one, side);
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

const modelInUse = computed(() => inUse.value?.model.id);
// Another model has other contenders.
effect(() => {
  void modelInUse.value;
  const { question } = round.peek();
  endRound(question);
});

// Nobody compares any more.
effect(() => {
  if (dialog.value !== "arena" && round.value.kind !== "answering") void freeSecond();
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
  const model = inUse.peek()?.engine.model.name;
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
