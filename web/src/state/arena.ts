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
import type { ModelChoice } from "./models";
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

/** Whether a model is neither in use nor on a server. */
const isSecond = (model: ModelChoice) => model.remote === undefined && model.id !== inUse.value?.model.id;

/** How other models on this device take part: beside the model in use or in turns; null: none does. */
export const seconds = computed<"beside" | "turns" | null>(() => {
  const others = entrants.value.filter(({ model }) => isSecond(model));
  if (others.length === 0) return null;
  return others.every(({ model }) => hasRoomBeside(model)) ? "beside" : "turns";
});

/** The model in use cannot make way for another one: it answers in the chat, or learns. */
export const isHeldUp = computed(
  () => seconds.value === "turns" && (busy.value || teachState.value.kind === "running"),
);

/** Runs something with the engine of a model. */
async function withEngine<T>(
  model: ModelChoice,
  signal: AbortSignal,
  use: (engine: Engine) => Promise<T>,
): Promise<T> {
  const current = inUse.peek();
  if (model.id === current?.model.id) return use(current.engine);
  return model.remote ? use(await connect(model.remote, signal)) : withSecond(model, signal, use);
}

/** Asks two of those that take part. */
export async function askBoth(question: string): Promise<void> {
  const drawn = draw(entrants.peek());
  if (engine.peek() === null || drawn === null || question.trim() === "" || isHeldUp.peek()) return;
  pair = drawn;
  running?.abort();
  const controller = (running = new AbortController());
  const { signal } = controller;
  // When an answer of another model appears must not tell whose it is.
  const isOneModel = drawn[0].model.id === drawn[1].model.id;
  const texts: [string, string] = ["", ""];
  const show = (kind: "answering" | "vote") => {
    const isShown = kind === "vote" || isOneModel;
    if (!signal.aborted) round.value = { kind, question, texts: isShown ? [...texts] : ["", ""] };
  };
  const screen = throttle(SCREEN_INTERVAL, () => show("answering"));
  show("answering");
  const { maxTokens } = settings.peek();
  const failures: (string | undefined)[] = [];
  /** Answers of one set of weights run together. */
  const answer = async (model: ModelChoice) => {
    try {
      await withEngine(model, signal, (engine) =>
        Promise.all(
          drawn.map(async (one, side) => {
            if (one.model.id !== model.id) return;
            const { adapters: uses, temperature, otherwise } = one;
            const recommended = recommendedOf(engine, model);
            const how = { maxTokens, temperature, adapters: uses, otherwise, recommended };
            const asked = { messages: messagesOf(question), ...how };
            texts[side] = await answerTo(engine, asked, signal, (text) => {
              texts[side] = text;
              screen.call();
            });
          }),
        ),
      );
    } catch (error) {
      failures.push(model.remote?.baseURL);
      throw error;
    }
  };
  try {
    const all = isOneModel ? [drawn[0].model] : [drawn[0].model, drawn[1].model];
    await Promise.all(all.filter((model) => !isSecond(model)).map(answer));
    // Each may need the memory of the others.
    for (const model of all.filter(isSecond)) await answer(model);
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
