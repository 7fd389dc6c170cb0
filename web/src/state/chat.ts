import { computed, effect, signal } from "@preact/signals";
import { t } from "../i18n";
import { newId } from "../lib/id";
import { persisted } from "../lib/persisted";
import { generate, type Live } from "./generate";
import { cancelLoading, engine, engineState, followChoice, startModel } from "./engine";
import { deleteConversations, loadMessages, saveConversation, summaries, type Message } from "./history";
import { updateSettings } from "./settings";
import { announcement, draft, focusMessage, refocusMessage } from "./ui";

/** The conversation that is shown; one without messages is not in the history yet. */
export const conversationId = persisted<string>("nomoat-conversation", (stored) =>
  typeof stored === "string" ? stored : newId(),
);
export const messages = signal<readonly Message[]>([]);
/** The answer that is being written. */
export const live = signal<Live | null>(null);
/** A question waits for the model to be ready. */
export const waiting = signal(false);
/** What went wrong with the last answer. */
export const chatError = signal<unknown>(null);
/** The last question is being changed in the textbox. */
export const editing = signal(false);

/** An answer is being written or waited for. */
export const busy = computed(() => live.value !== null || waiting.value);

/** Id of the answer that the engine's end cut off. */
let cutOff: string | null = null;

let running: { controller: AbortController; done: Promise<void> } | null = null;

function titleOf(list: readonly Message[]): string {
  const first = list.find((message) => message.role === "user")?.content.trim() ?? "";
  const line = first.split("\n", 1)[0] ?? "";
  return line.length > 80 ? `${line.slice(0, 80).trimEnd()}…` : line;
}

function save(list: readonly Message[]): void {
  const summary = { id: conversationId.value, title: titleOf(list), updatedAt: Date.now() };
  // Without IndexedDB (some private windows) the conversation lasts as long as the page.
  saveConversation(summary, list).catch(() => undefined);
}

function show(list: readonly Message[]): void {
  messages.value = list;
  save(list);
}

function answer(): void {
  const ready = engineState.value;
  if (ready.kind !== "ready" || running !== null) return;
  waiting.value = false;
  chatError.value = null;
  const controller = new AbortController();
  const before = messages.value;
  const run = generate(ready.engine, ready.model.name, before, controller.signal, {
    update: (state) => (live.value = state),
    save: (partial) => save([...before, partial]),
  }).then(({ answer: written, error }) => {
    running = null;
    if (written !== null) show([...before, written]);
    live.value = null;
    chatError.value = error;
    cutOff = written !== null && engineState.value.kind === "failed" ? written.id : null;
    if (controller.signal.aborted) announcement.value = t.value.answerStopped;
    else if (written !== null && written.ending !== "interrupted") announcement.value = t.value.answerDone;
  });
  running = { controller, done: run };
}

// A question asked before the model was ready is answered once it is.
effect(() => {
  if (waiting.value && engine.value !== null) queueMicrotask(answer);
  if (engineState.value.kind === "failed") waiting.value = false;
});

/** Asks a question; starts the model where that has not happened yet. */
export function send(text: string): void {
  const content = text.trim();
  if (content === "" || busy.value) return;
  let before = messages.value;
  if (editing.value) {
    before = before.slice(0, lastQuestionIndex());
    editing.value = false;
  }
  draft.value = "";
  show([...before, { id: newId(), role: "user", content }]);
  requestAnswer();
}

function requestAnswer(): void {
  chatError.value = null;
  announcement.value = "";
  const { kind } = engineState.value;
  if (kind === "idle" || kind === "failed") void startModel();
  waiting.value = true;
  refocusMessage();
}

function lastQuestionIndex(): number {
  return messages.value.findLastIndex((message) => message.role === "user");
}

/** Answers a question that a failure left without a whole answer; false if there is none. */
function answerAgain(): boolean {
  const last = messages.value.at(-1);
  if (last === undefined || (last.role === "assistant" && last.id !== cutOff)) return false;
  regenerate();
  return true;
}

/** Loads the model again after a failure. */
export function retry(): void {
  if (!answerAgain()) void startModel();
}

/** Leaves the GPU after a failure; a model that is not stored waits for consent to its download. */
export function continueOnCpu(): void {
  updateSettings({ device: "cpu" });
  if (!answerAgain()) followChoice();
}

/** Answers the last question again. */
export function regenerate(): void {
  if (busy.value) return;
  show(messages.value.slice(0, lastQuestionIndex() + 1));
  requestAnswer();
}

/** Puts the last question into the textbox; sending it replaces it and its answer. */
export function editLast(): void {
  const last = messages.value[lastQuestionIndex()];
  if (last === undefined || busy.value) return;
  editing.value = true;
  draft.value = last.content;
  focusMessage();
}

export function cancelEdit(): void {
  editing.value = false;
  draft.value = "";
  focusMessage();
}

/** Stops the answer and keeps what is there; a question that still waits goes back into the textbox. */
export function stop(): void {
  if (running !== null) {
    running.controller.abort();
  } else if (waiting.value) {
    waiting.value = false;
    const last = messages.value.at(-1);
    const rest = messages.value.slice(0, -1);
    if (last?.role === "user" && draft.value === "") {
      draft.value = last.content;
      if (rest.length > 0) show(rest);
      else void forget();
    }
  }
  refocusMessage();
}

/** Stops loading the model, and a question that waits for it. */
export function cancelLoadingAndQuestion(): void {
  cancelLoading();
  if (waiting.value) stop();
}

async function forget(): Promise<void> {
  messages.value = [];
  await deleteConversations(conversationId.value).catch(() => undefined);
}

async function leave(): Promise<void> {
  waiting.value = false;
  editing.value = false;
  chatError.value = null;
  running?.controller.abort();
  await running?.done;
}

export async function newChat(): Promise<void> {
  await leave();
  conversationId.value = newId();
  messages.value = [];
  chatError.value = null;
  refocusMessage();
}

export async function openConversation(id: string): Promise<void> {
  await leave();
  const list = await loadMessages(id).catch(() => []);
  conversationId.value = id;
  messages.value = list;
}

export async function deleteConversation(id: string | "all"): Promise<void> {
  if (id === "all" || id === conversationId.value) await newChat();
  await deleteConversations(id).catch(() => undefined);
}

/** Shows the conversation of the last visit. */
export async function restore(): Promise<void> {
  if (summaries.value.some((summary) => summary.id === conversationId.value)) {
    messages.value = await loadMessages(conversationId.value).catch(() => []);
  }
}
