import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { bytes } from "../lib/format";
import { explain } from "../lib/errors";
import { answerOf, matches, questionOf, type Lesson } from "../lessons/records";
import { engine } from "../state/engine";
import {
  deleteLessons,
  editLesson,
  exportLessons,
  imported,
  importLessons,
  lessons,
  lessonsError,
  MOST_BYTES,
  refreshLessons,
  TooLargeError,
} from "../state/lessons";
import { freeName, isFreeName, trainings } from "../state/adapters";
import {
  count,
  discardTaught,
  discardTraining,
  estimate,
  idsOf,
  keepTaught,
  measure,
  MORE_EPOCHS,
  plan,
  presets,
  stopTeaching,
  teach,
  teachState,
  type TeachSettings,
} from "../state/teach";
import { dialog } from "../state/ui";
import { AdapterList } from "./AdapterList";
import { Correction } from "./Correction";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { LossCurve } from "./LossCurve";
import { Samples } from "./Samples";
import { TeachSettingsFields } from "./TeachSettings";

interface LessonProps {
  lesson: Lesson;
  chosen: boolean;
  choose: (chosen: boolean) => void;
}

function LessonRow({ lesson, chosen, choose }: LessonProps) {
  const text = t.value;
  const [draft, setDraft] = useState<string | null>(null);
  const question = questionOf(lesson);
  return (
    <li class="lesson">
      <label>
        <input type="checkbox" checked={chosen} onChange={(event) => choose(event.currentTarget.checked)} />
        <span class="lesson-text">
          <span>{question}</span>
          <span class="lesson-answer">{answerOf(lesson)}</span>
          {lesson.kind === "preference" && <del>{lesson.rejected}</del>}
        </span>
      </label>
      <button
        type="button"
        class="icon-button"
        aria-label={text.editLesson(question)}
        aria-expanded={draft !== null}
        onClick={() => setDraft(draft === null ? answerOf(lesson) : null)}
      >
        <Icon name="pen" />
      </button>
      <button
        type="button"
        class="icon-button"
        aria-label={text.deleteLesson(question)}
        onClick={() => void deleteLessons([lesson.id])}
      >
        <Icon name="trash" />
      </button>
      {draft !== null && (
        <Correction draft={draft} write={setDraft} rows={3}>
          <button
            type="button"
            class="button"
            onClick={() => {
              void editLesson(lesson, draft);
              setDraft(null);
            }}
          >
            {text.saveExample}
          </button>
        </Correction>
      )}
    </li>
  );
}

interface LessonsProps {
  kind: Lesson["kind"];
  setKind: (kind: Lesson["kind"]) => void;
  left: ReadonlySet<string>;
  setLeft: (left: ReadonlySet<string>) => void;
}

function Lessons({ kind, setKind, left, setLeft }: LessonsProps) {
  const text = t.value;
  const [search, setSearch] = useState("");
  const own = lessons.value.filter((lesson) => lesson.kind === kind);
  const shown = own.filter((lesson) => matches(lesson, search));
  const brought = imported.value;
  const choose = (id: string, chosen: boolean) => {
    const next = new Set(left);
    if (chosen) next.delete(id);
    else next.add(id);
    setLeft(next);
  };
  return (
    <section>
      <div class="row" role="group" aria-label={text.lessons}>
        {(["example", "preference"] as const).map((one) => (
          <button
            key={one}
            type="button"
            class="button"
            aria-pressed={kind === one}
            onClick={() => setKind(one)}
          >
            {text.lessonKind(one, lessons.value.filter((lesson) => lesson.kind === one).length)}
          </button>
        ))}
      </div>
      {own.length === 0 && <p class="help">{text.noLessons}</p>}
      {own.length > 5 && (
        <input
          type="search"
          class="text-field"
          aria-label={text.searchLessons}
          placeholder={text.searchLessons}
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      )}
      <ul class="lessons">
        {shown.slice(0, MOST_SHOWN).map((lesson) => (
          <LessonRow
            key={lesson.id}
            lesson={lesson}
            chosen={!left.has(lesson.id)}
            choose={(chosen) => choose(lesson.id, chosen)}
          />
        ))}
      </ul>
      {shown.length > MOST_SHOWN && <p class="help">{text.moreLessons(shown.length - MOST_SHOWN)}</p>}
      <div class="row">
        <label class="button file-button">
          {text.importLessons}
          <input
            type="file"
            class="visually-hidden"
            accept=".jsonl,.json"
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              if (file) void importLessons(file);
              event.currentTarget.value = "";
            }}
          />
        </label>
        {own.length > 0 && (
          <button type="button" class="button" onClick={() => exportLessons(own)}>
            {text.exportLessons}
          </button>
        )}
      </div>
      {brought !== null && (
        <div role="status" class="help">
          <p>{text.importedLessons(brought.count, brought.problems.length)}</p>
          <ul>
            {brought.problems.slice(0, 10).map(({ line, problem }) => (
              <li key={line}>{text.lessonProblem(line, problem)}</li>
            ))}
          </ul>
        </div>
      )}
      {lessonsError.value !== null && (
        <p role="alert" class="help">
          {lessonsError.value instanceof TooLargeError
            ? text.lessonsTooLarge(bytes(MOST_BYTES))
            : text.lessonsFailed}
        </p>
      )}
    </section>
  );
}

/** More would make the page slow; the search finds them. */
const MOST_SHOWN = 100;

function Running() {
  const text = t.value;
  const state = teachState.value;
  if (state.kind !== "running") return null;
  const { step, curve, name } = state;
  return (
    <section aria-label={text.teaching(name)}>
      <h3>{text.teaching(name)}</h3>
      <progress aria-label={text.teaching(name)} max={step?.steps ?? 1} value={step?.step ?? 0} />
      {step !== null && (
        <p class="figures">{text.teachStep(step.step, step.steps, step.tokensPerSecond, step.secondsLeft)}</p>
      )}
      <LossCurve curve={curve} steps={step?.steps ?? 1} />
      <Samples />
      <button type="button" class="button" onClick={stopTeaching}>
        {text.stopTeaching}
      </button>
    </section>
  );
}

function Done() {
  const text = t.value;
  const state = teachState.value;
  if (state.kind !== "done") return null;
  const { name, curve, epochs } = state;
  return (
    <section aria-label={text.taught(name)}>
      <h3>{text.taught(name)}</h3>
      <LossCurve curve={curve} steps={curve.at(-1)?.step ?? 1} />
      <Samples />
      <div class="row">
        <button type="button" class="button primary" onClick={() => void keepTaught(name)}>
          {text.keep}
        </button>
        <button type="button" class="button" onClick={() => void discardTaught(name)}>
          {text.discard}
        </button>
        <button
          type="button"
          class="button"
          onClick={() => void teach(name, { epochs: epochs + MORE_EPOCHS })}
        >
          {text.continueTeaching(MORE_EPOCHS)}
        </button>
      </div>
    </section>
  );
}

/** Milliseconds after a change until it is counted what teaching would take. */
const PLAN_AFTER = 300;

function Start({ chosen }: { chosen: readonly Lesson[] }) {
  const text = t.value;
  const [settings, setSettings] = useState<TeachSettings>(presets.quick);
  const [name, setName] = useState<string | null>(null);
  const state = teachState.value;
  const isBusy = state.kind === "estimating";
  // Until another name is written: one that is free.
  const wanted = (name ?? freeName(text.adapterName)).trim();
  const isFree = isFreeName(wanted);
  const planned = plan.value;
  const problem = planned !== null && "error" in planned ? explain(planned.error, text) : null;
  const canTeach = chosen.length > 0 && isFree && !isBusy && problem === null;
  const loaded = engine.value;
  const ids = idsOf(chosen);
  const last = estimate.value;
  const measured = last?.ids === ids && last.settings === settings ? last : null;
  useEffect(() => {
    const timer = setTimeout(() => !isBusy && count(chosen, settings), PLAN_AFTER);
    return () => clearTimeout(timer);
  }, [ids, settings, loaded, isBusy]);
  return (
    <section>
      <div class="row" role="group" aria-label={text.preset}>
        {(["quick", "thorough"] as const).map((preset) => (
          <button
            key={preset}
            type="button"
            class="button"
            aria-pressed={settings === presets[preset]}
            onClick={() => setSettings(presets[preset])}
          >
            {text.presets[preset]}
          </button>
        ))}
      </div>
      <TeachSettingsFields settings={settings} change={setSettings} />
      <div class="field">
        <label for="adapter-name">{text.nameOfAdapter}</label>
        <input
          id="adapter-name"
          type="text"
          class="text-field"
          value={name ?? wanted}
          aria-describedby="adapter-name-help"
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <p id="adapter-name-help" class="help" role="status">
          {isFree ? "" : text.nameNotFree}
        </p>
      </div>
      <div class="row">
        <button
          type="button"
          class="button primary"
          disabled={!canTeach}
          onClick={() => {
            setName(null);
            void teach(wanted, { lessons: chosen, settings });
          }}
        >
          {text.teach}
        </button>
        <button
          type="button"
          class="button"
          disabled={!canTeach}
          onClick={() => void measure(chosen, settings)}
        >
          {isBusy ? text.measuring : text.estimate}
        </button>
      </div>
      {problem !== null && (
        <p role="alert" class="help">
          {problem.title}: <span lang="en">{problem.detail}</span>
        </p>
      )}
      <p role="status" class="help">
        {measured !== null
          ? text.teachEstimate(measured.plan.steps, measured.seconds, bytes(measured.plan.bytes))
          : planned !== null && !("error" in planned) && text.teachPlan(planned.steps, bytes(planned.bytes))}
      </p>
    </section>
  );
}

function Interrupted() {
  const text = t.value;
  const state = teachState.value;
  const isDone = (name: string) => state.kind === "done" && state.name === name;
  return (
    <>
      {trainings.value
        .filter((name) => !isDone(name))
        .map((name) => (
          <section key={name} aria-label={text.interruptedTraining(name)}>
            <p>{text.interruptedTraining(name)}</p>
            <div class="row">
              <button type="button" class="button primary" onClick={() => void teach(name, {})}>
                {text.resume}
              </button>
              <button type="button" class="button" onClick={() => void discardTraining(name)}>
                {text.discard}
              </button>
            </div>
          </section>
        ))}
    </>
  );
}

function Panel() {
  const text = t.value;
  const [kind, setKind] = useState<Lesson["kind"]>("example");
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => void refreshLessons(), []);
  const chosen = lessons.value.filter((lesson) => lesson.kind === kind && !left.has(lesson.id));
  const loaded = engine.value;
  const isRemote = loaded?.device.backend === "remote";
  const state = teachState.value;
  const isRunning = state.kind === "running";
  return (
    <>
      <p class="help">{text.teachHelp}</p>
      {isRemote && <p role="note">{text.teachNotOnServer}</p>}
      {loaded === null && <p role="note">{text.teachNeedsModel}</p>}
      <Running />
      <Done />
      {state.kind === "failed" && <p role="alert">{explain(state.error, text).title}</p>}
      {!isRunning && <Lessons kind={kind} setKind={setKind} left={left} setLeft={setLeft} />}
      {!isRunning && loaded !== null && !isRemote && (
        <>
          <Interrupted />
          <Start chosen={chosen} />
        </>
      )}
      {loaded !== null && !isRemote && <AdapterList />}
      <button type="button" class="button" onClick={() => (dialog.value = "arena")}>
        <Icon name="arena" />
        {text.openArena}
      </button>
    </>
  );
}

/** Teaching the model, and what it has learnt. */
export function TeachDialog() {
  return (
    <Dialog name="teach" title={t.value.teachTitle}>
      <Panel />
    </Dialog>
  );
}
