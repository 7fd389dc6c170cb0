import type { LoadProgress } from "nomoat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { WINNERS, type Winner } from "../arena/records";
import { t } from "../i18n";
import { explain } from "../lib/errors";
import {
  arenaError,
  askBoth,
  endRound,
  isHeldUp,
  refreshBattles,
  round,
  seconds,
  vote,
  type Round,
} from "../state/arena";
import { contenders, entrants } from "../state/contenders";
import { engine } from "../state/engine";
import { secondProgress } from "../state/second";
import { ArenaEntrants } from "./ArenaEntrants";
import { ArenaTable } from "./ArenaTable";
import { Dialog } from "./Dialog";
import { Markdown } from "./Markdown";
import { MessageBoundary } from "./MessageBoundary";

function Question({ question }: { question: string }) {
  const text = t.value;
  const box = useRef<HTMLTextAreaElement>(null);
  const [draft, setDraft] = useState(question);
  useLayoutEffect(() => box.current?.focus(), []);
  const obstacle =
    engine.value === null
      ? text.modelComesBack
      : isHeldUp.value
        ? text.modelIsHeldUp
        : entrants.value.length < 2
          ? text.tooFewEntrants
          : "";
  const canAsk = draft.trim() !== "" && obstacle === "";
  const submit = () => {
    if (canAsk) void askBoth(draft);
  };
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <label for="arena-question">{text.arenaQuestion}</label>
      <textarea
        id="arena-question"
        ref={box}
        autofocus={matchMedia("(pointer: fine)").matches}
        rows={2}
        dir="auto"
        value={draft}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          submit();
        }}
      />
      <button type="submit" class="button primary" disabled={!canAsk}>
        {text.askBoth}
      </button>
      <p class="help" role="status">
        {obstacle}
      </p>
    </form>
  );
}

type Answered = Extract<Round, { texts: unknown }>;

function Answers({ state }: { state: Answered }) {
  const text = t.value;
  return (
    <>
      <p class="arena-question" dir="auto">
        {state.question}
      </p>
      <div class="arena-answers">
        {([0, 1] as const).map((side) => {
          const answer = state.texts[side];
          const name = text.answerOfSide(side === 0 ? "A" : "B");
          const isBetter = state.kind === "told" && state.winner === WINNERS[side];
          return (
            <article
              key={side}
              class={isBetter ? "arena-answer better" : "arena-answer"}
              aria-label={name}
              aria-busy={state.kind === "answering"}
            >
              <h3>{name}</h3>
              {state.kind === "told" && <p class="help">{state.names[side]}</p>}
              <MessageBoundary text={answer}>
                <Markdown text={answer} />
              </MessageBoundary>
            </article>
          );
        })}
      </div>
    </>
  );
}

function Votes() {
  const text = t.value;
  const first = useRef<HTMLButtonElement>(null);
  // The button that was pressed last is gone.
  useLayoutEffect(() => first.current?.focus(), []);
  return (
    <div class="row" role="group" aria-label={text.whichIsBetter}>
      {WINNERS.map((winner: Winner, index) => (
        <button
          key={winner}
          ref={index === 0 ? first : undefined}
          type="button"
          class="button"
          onClick={() => void vote(winner)}
        >
          {text.winners[winner]}
        </button>
      ))}
    </div>
  );
}

function Next() {
  const button = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => button.current?.focus(), []);
  return (
    <button ref={button} type="button" class="button primary" onClick={() => endRound("")}>
      {t.value.nextQuestion}
    </button>
  );
}

function Failed({ question, error, server }: Extract<Round, { kind: "failed" }>) {
  const text = t.value;
  const { title, help } = explain(error, text, { server });
  return (
    <>
      <p role="alert" class="help">
        {title}. {help}
      </p>
      <button type="button" class="button" onClick={() => endRound(question)}>
        {text.tryAgain}
      </button>
    </>
  );
}

/** How much of a model is loaded, in tenths: a screen reader says each. */
function shareOf({ loaded, total }: LoadProgress): number {
  return total > 0 ? Math.floor((10 * loaded) / total) * 10 : 0;
}

/** What a screen reader says of the round. */
function told(state: Round): string {
  const text = t.value;
  switch (state.kind) {
    case "question":
    case "failed":
      return "";
    case "answering":
      return secondProgress.value === null
        ? text.bothAnswer
        : text.secondLoads(shareOf(secondProgress.value));
    case "vote":
      return state.texts[0] === state.texts[1] ? text.sameAnswers : text.whichIsBetter;
    case "told":
      return text.whoWas(...state.names);
  }
}

function Contents() {
  const text = t.value;
  const state = round.value;
  useEffect(() => void refreshBattles(), []);
  return (
    <>
      <p class="help">{text.arenaHelp}</p>
      {contenders.value.length === 0 && <p role="note">{text.arenaNeedsModel}</p>}
      {state.kind === "question" && contenders.value.length > 0 && (
        <>
          <ArenaEntrants />
          {seconds.value !== null && <p class="help">{text.secondModels[seconds.value]}</p>}
          <Question question={state.question} />
        </>
      )}
      {"texts" in state && <Answers state={state} />}
      <p role="status" class="arena-status">
        {told(state)}
      </p>
      {state.kind === "answering" && (
        <button type="button" class="button" onClick={() => endRound(state.question)}>
          {text.stop}
        </button>
      )}
      {state.kind === "vote" && <Votes />}
      {state.kind === "told" && <Next />}
      {state.kind === "failed" && <Failed {...state} />}
      {arenaError.value !== null && (
        <p role="alert" class="help">
          {text.lessonsFailed}
        </p>
      )}
      <ArenaTable />
    </>
  );
}

/** Two answers side by side, whose they are unknown, and what the votes say. */
export function ArenaDialog() {
  return (
    <Dialog name="arena" title={t.value.arenaTitle} wide>
      <Contents />
    </Dialog>
  );
}
