/** The actions in a conversation: ask, edit, regenerate, stop, leave. */
import { batch, computed, effect, signal } from "@preact/signals";
import type { Engine } from "nomoat";
import { tell } from "../history/channel";
import type { Answer, Ending, Message, Question } from "../history/records";
import { hasChildren, leafFrom, newestLeaf, pathTo } from "../history/tree";
import { t } from "../i18n";
import { newId } from "../lib/id";
import { wellFormed } from "../lib/text";
import { isUnchanged, type Interrupted } from "./draft";
import { generate, newAnswer, type Live } from "./generate";
import { cancelLoading, engine, engineState, followChoice, forgetPrompts, startModel } from "./engine";
import { begin, conversations, onNews, refreshList, write } from "./history";
import {
  catchUp,
  conversationId,
  current,
  isHeld,
  leaf,
  messages,
  put,
  reading,
  show,
  showNew,
  take,
  tree,
} from "./conversation";
import { chosenModel, fullName, isDoubtful } from "./models";
import { claim, hold, takeClaim } from "./resume";
import { updateSettings } from "./settings";
import { announcement, doubt, draft, focusMessage, notice, refocusMessage } from "./ui";

/** The answer that is being written. */
export const live = signal<Live | null>(null);
/** Id of the question that waits for the model to be ready. */
const asked = signal<string | null>(null);
export const waiting = computed(() => asked.value !== null);
/** What went wrong with the last answer. */
export const chatError = signal<unknown>(null);
/** Id of the question that is being edited in the textbox. */
export const editing = signal<string | null>(null);

/** Id of the interrupted answer that goes on as soon as the model is ready; null if there is none. */
export const continuing = computed(() => {
  const { kind } = engineState.value;
  return kind === "loading" || kind === "ready" ? (claim.value?.answer.id ?? null) : null;
});

/** An answer is being written or waited for. */
export const busy = computed(() => live.value !== null || waiting.value || continuing.value !== null);
effect(() => {
  isHeld.value = busy.value;
});

/** Id of the answer that was interrupted by the engine's failure. */
let cutOff: string | null = null;

let running: { controller: AbortController; done: Promise<void> } | null = null;

/** How often other tabs are told that an answer is being written. */
const WRITING_INTERVAL = 2000;
const TITLE_LENGTH = 80;

function titleOf(list: readonly Message[]): string {
  const first = list.find((message) => message.role === "user")?.content.trim() ?? "";
  const line = (first.split("\n", 1)[0] ?? "").slice(0, TITLE_LENGTH + 1);
  return line.length > TITLE_LENGTH ? `${wellFormed(line.slice(0, TITLE_LENGTH)).trimEnd()}…` : line;
}

/** The place of a new message after `parent`. */
function placeAfter(parent: string | null) {
  const before = parent === null ? undefined : tree.value.get(parent);
  return {
    id: newId(),
    conversation: conversationId.value,
    parent,
    // Later than its parent, even if the clock was set back.
    createdAt: Math.max(Date.now(), (before?.createdAt ?? 0) + 1),
  };
}

/**
 * Shows and stores a message. If its conversation is no longer shown, it is only stored.
 */
function keep(message: Exclude<Message, { role: "unreadable" }>, title: string): void {
  if (message.conversation === conversationId.value) put(message);
  write({ kind: "message", message, title });
}

function answer(): void {
  const ready = engineState.value;
  if (ready.kind !== "ready" || running !== null) return;
  const list = pathTo(tree.value, asked.value);
  asked.value = null;
  const last = list.at(-1);
  if (last === undefined) return;
  const isAgain = [...tree.value.values()].some(
    (other) =>
      other.role === "assistant" &&
      other.parent === last.id &&
      other.content !== "" &&
      other.ending !== null &&
      other.ending !== "interrupted",
  );
  const begun = newAnswer(placeAfter(last.id), fullName(ready.model));
  hold(begun.id, writeAnswer(ready.engine, list, begun, isAgain));
}

/** Writes an answer to its end. */
function writeAnswer(
  engine: Engine,
  list: readonly Message[],
  begun: Answer | Interrupted,
  isAgain: boolean,
): Promise<void> {
  const { id, conversation, parent } = begun;
  chatError.value = null;
  const controller = new AbortController();
  const title = titleOf(list);
  const follow = () => {
    if (conversationId.value === conversation && leaf.value === parent) leaf.value = id;
  };
  const saying = setInterval(() => tell({ kind: "writing", answer: id }), WRITING_INTERVAL);
  const run = generate(engine, list, begun, isAgain, controller.signal, {
    update: (state) => (live.value = state),
    save(partial) {
      batch(() => {
        keep(partial, title);
        follow();
      });
      tell({ kind: "writing", answer: id });
    },
  }).then(({ answer: written, error }) => {
    clearInterval(saying);
    running = null;
    batch(() => {
      if (written !== null) {
        keep(written, title);
        follow();
      }
      live.value = null;
      chatError.value = error;
      cutOff = written !== null && engineState.value.kind === "failed" ? written.id : null;
    });
    // Without an answer, an earlier version is shown again, if there is one.
    const isNone = written === null && error === null && parent !== null;
    if (isNone && leaf.value === parent && hasChildren(tree.value, parent)) showVersion(parent);
    catchUp();
    if (controller.signal.aborted) announcement.value = t.value.answerStopped;
    else if (written !== null && written.ending !== "interrupted") announcement.value = t.value.answerDone;
  });
  running = { controller, done: run };
  return run;
}

/** Continues the answer that this tab has claimed, unless something has changed since. */
async function continueAnswer(): Promise<void> {
  const ready = engineState.value;
  const claimed = claim.value;
  if (ready.kind !== "ready" || running !== null || claimed === null) return;
  const { answer: begun } = claimed;
  const list = pathTo(tree.value, begun.parent);
  const isSame = await isUnchanged(ready.engine, list, begun);
  // It may have been stopped or left meanwhile.
  if (claim.value !== claimed || engineState.value !== ready) return;
  if (!isSame) return giveUp("interrupted");
  announcement.value = t.value.answerContinues;
  batch(() => claimed.release(writeAnswer(ready.engine, list, begun, false)));
  takeClaim();
}

/** Ends the interrupted answer as it is. */
function giveUp(ending: Ending): void {
  const claimed = takeClaim();
  if (claimed === null) return;
  const { answer: begun } = claimed;
  keep({ ...begun, ending, resume: undefined }, titleOf(pathTo(tree.value, begun.parent)));
  claimed.release();
}

effect(() => {
  if (claim.value !== null && engineState.value.kind === "ready") queueMicrotask(() => void continueAnswer());
});

// A question asked before the model was ready is answered once it is.
effect(() => {
  if (waiting.value && engine.value !== null) queueMicrotask(answer);
  if (engineState.value.kind === "failed") asked.value = null;
});

/** Asks a question. Starts the model if it is not running. */
export function send(text: string): void {
  const content = wellFormed(text.trim());
  if (content === "" || busy.value) return;
  giveUp("interrupted");
  // Nothing is written to a conversation that could not be read.
  if (reading.value.kind !== "done") showNew();
  if (tree.value.size === 0) begin(conversationId.value);
  const edited = editing.value === null ? undefined : tree.value.get(editing.value);
  const question: Question = {
    ...placeAfter(edited === undefined ? leaf.value : edited.parent),
    role: "user",
    content,
  };
  batch(() => {
    editing.value = null;
    draft.value = "";
    notice.value = null;
    keep(question, titleOf([question]));
    leaf.value = question.id;
    // An unanswered question is replaced: there is no answer to go back to.
    if (edited !== undefined && !hasChildren(tree.value, edited.id)) withdraw(edited);
    if (edited !== undefined && question.parent === null && current.value?.named === false)
      write({ kind: "conversation", id: question.conversation, change: { title: titleOf([question]) } });
  });
  requestAnswer(question.id);
}

function requestAnswer(question: string): void {
  chatError.value = null;
  announcement.value = "";
  const { kind } = engineState.value;
  // Together: a question that waits for an engine that has failed is dropped.
  batch(() => {
    asked.value = question;
    if (kind === "idle" || kind === "failed") startOrAsk();
  });
  refocusMessage();
}

/** Starts the model, unless its download must be agreed to first: the question waits for that. */
function startOrAsk(): void {
  const model = chosenModel.value;
  if (model !== null && engineState.value.kind === "idle" && isDoubtful(model))
    doubt.value = { id: model.id, then: "start" };
  else void startModel();
}

/** Removes a question that was not answered. */
function withdraw(question: Message): void {
  take(question.id);
  write({ kind: "remove", conversation: question.conversation, id: question.id });
  void forgetPrompts();
  if (leaf.value === question.id) leaf.value = leafFrom(tree.value, question.parent);
}

/** Removes a question that has no answer. Later ones stay. */
export function removeQuestion(id: string): void {
  const question = tree.value.get(id);
  if (question === undefined || !removable.value.has(id)) return;
  chatError.value = null;
  if (editing.value === id) cancelEdit();
  withdraw(question);
}

/** Shows another version of a message, from its newest branch. */
export function showVersion(id: string): void {
  if (busy.value) return;
  leaf.value = newestLeaf(tree.value, id);
  chatError.value = null;
  write({ kind: "conversation", id: conversationId.value, change: { leaf: leaf.value } });
}

/** Answers the question whose answer a failure interrupted; false if there is none. */
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

/** Switches to the CPU after a failure. A model that is not stored waits for consent to its download. */
export function continueOnCpu(): void {
  updateSettings({ device: "cpu" });
  if (!answerAgain()) followChoice();
}

function lastQuestion(): Question | undefined {
  return messages.value.findLast((message) => message.role === "user");
}

/** Answers the last question again, with other words. Earlier answers stay as other versions. */
export function regenerate(): void {
  const question = lastQuestion();
  if (busy.value || question === undefined) return;
  giveUp("interrupted");
  leaf.value = question.id;
  requestAnswer(question.id);
}

/** Puts a question into the textbox. Sending it adds another version. */
export function edit(id: string): void {
  const question = tree.value.get(id);
  if (question?.role !== "user" || busy.value) return;
  editing.value = id;
  draft.value = question.content;
  focusMessage();
}

/** Edits the last question. */
export function editLast(): void {
  const question = lastQuestion();
  if (question !== undefined) edit(question.id);
}

export function cancelEdit(): void {
  editing.value = null;
  draft.value = "";
  focusMessage();
}

/** Stops the answer and keeps its text. A question that still waits goes back into the textbox. */
export function stop(): void {
  if (running !== null) {
    running.controller.abort();
  } else if (continuing.value !== null) {
    giveUp("stopped");
    announcement.value = t.value.answerStopped;
  } else if (asked.value !== null) {
    const question = tree.value.get(asked.value);
    asked.value = null;
    if (question !== undefined && hasChildren(tree.value, question.id)) showVersion(question.id);
    else if (question !== undefined && draft.value === "") {
      draft.value = question.content;
      withdraw(question);
    }
  }
  refocusMessage();
}

/** Stops loading the model, and takes back a question that waits for it. */
export function cancelLoadingAndQuestion(): void {
  cancelLoading();
  if (waiting.value) stop();
}

async function leave(): Promise<void> {
  batch(() => {
    asked.value = null;
    if (editing.value !== null) cancelEdit();
    chatError.value = null;
  });
  running?.controller.abort();
  await running?.done;
  chatError.value = null;
}

export async function newChat(): Promise<void> {
  await leave();
  showNew();
  refocusMessage();
}

export async function openConversation(id: string): Promise<void> {
  if (id === conversationId.value && reading.value.kind === "done") return;
  await leave();
  await show(id);
}

/** Deletes one conversation, or all that are in the list. */
export async function deleteConversation(id: string | "all"): Promise<void> {
  // Other tabs may have started conversations that are not in this tab's list yet.
  if (id === "all") await refreshList();
  const ids = id === "all" ? conversations.value.map((item) => item.id) : [id];
  if (ids.includes(conversationId.value)) await newChat();
  write({ kind: "delete", ids });
  await forgetPrompts();
}

/** Renames a conversation. */
export function rename(id: string, title: string): void {
  const wanted = wellFormed(title.trim());
  if (wanted !== "") write({ kind: "conversation", id, change: { title: wanted, named: true } });
}

export function pin(id: string, pinned: boolean): void {
  write({ kind: "conversation", id, change: { pinned } });
}

/** Shows the conversation of the last visit. */
export function restore(): Promise<void> {
  return show(conversationId.value);
}

/** The last message, if it is a question without an answer, and none is being written. */
export const unanswered = computed(() => {
  const last = messages.value.at(-1);
  return last?.role === "user" && !busy.value ? last : null;
});

/** Ids of the questions that are shown and have no answer. */
export const removable = computed<ReadonlySet<string>>(() => {
  if (busy.value) return new Set();
  const answered = new Set(
    [...tree.value.values()].filter(({ role }) => role !== "user").map(({ parent }) => parent),
  );
  return new Set(
    messages.value.filter(({ id, role }) => role === "user" && !answered.has(id)).map(({ id }) => id),
  );
});

// Deletion is final in every tab: a deleted conversation is no longer shown, and nothing more is written to
// it.
onNews((news) => {
  if (news.kind === "deleted") void forgetPrompts();
  if (news.kind !== "deleted" || !news.conversations.includes(conversationId.value)) return;
  running?.controller.abort();
  batch(() => {
    asked.value = null;
    editing.value = null;
    showNew();
    chatError.value = null;
    notice.value = { kind: "deletedElsewhere" };
  });
});
