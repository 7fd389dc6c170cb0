import { useState } from "preact/hooks";
import type { Answer } from "../history/records";
import { t } from "../i18n";
import { correct, votes, voteFor } from "../state/lessons";
import { Correction } from "./Correction";
import { Icon } from "./Icon";

/** What a model can be taught about an answer: a vote, or how it should have been. */
export function AnswerLessons({ answer }: { answer: Answer }) {
  const text = t.value;
  const [draft, setDraft] = useState<string | null>(null);
  const vote = votes.value.get(answer.id);
  const voteButton = (good: boolean) => (
    <button
      type="button"
      class="quiet-button"
      aria-label={good ? text.goodAnswer : text.badAnswer}
      title={good ? text.goodAnswer : text.badAnswer}
      aria-pressed={vote === good}
      onClick={() => void voteFor(answer, good)}
    >
      <Icon name={good ? "good" : "bad"} />
    </button>
  );
  const save = () => {
    if (draft !== null && draft.trim() !== "") void correct(answer, draft);
    setDraft(null);
  };
  return (
    <>
      {voteButton(true)}
      {voteButton(false)}
      <button
        type="button"
        class="quiet-button"
        aria-expanded={draft !== null}
        onClick={() => setDraft(draft === null ? answer.content : null)}
      >
        <Icon name="pen" />
        <span>{text.correctAnswer}</span>
      </button>
      {draft !== null && (
        <Correction draft={draft} write={setDraft} rows={4}>
          <div class="row">
            <button type="button" class="button primary" onClick={save}>
              {text.saveExample}
            </button>
            <button type="button" class="button" onClick={() => setDraft(null)}>
              {text.cancel}
            </button>
          </div>
        </Correction>
      )}
    </>
  );
}
