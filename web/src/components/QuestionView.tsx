import { memo } from "preact/compat";
import { t } from "../i18n";
import type { Question } from "../history/records";
import { edit, regenerate, removeQuestion } from "../state/chat";
import { Icon } from "./Icon";
import { PlainText } from "./PlainText";
import { Versions } from "./Versions";

interface QuestionProps {
  question: Question;
  /** No answer is being written. */
  idle: boolean;
  /** It is the last message and has no answer. */
  unanswered: boolean;
  /** It has no answer and can be taken back, also if other questions follow. */
  removable: boolean;
  /** An error notice below says why, and offers to try again. */
  failed: boolean;
}

/** A question, as it was typed, and what can be done with it. */
export const QuestionView = memo(({ question, idle, unanswered, removable, failed }: QuestionProps) => {
  const text = t.value;
  const long = question.content.length > 240 || question.content.split("\n", 6).length > 4;
  return (
    <>
      <article class={long ? "question long" : "question"} aria-label={text.you}>
        <PlainText text={question.content} />
      </article>
      {/* Outside the article, which contains only the question. */}
      <div class={unanswered ? "question-foot unanswered" : "question-foot"}>
        <Versions message={question} />
        {unanswered && !failed && (
          <button type="button" class="button" onClick={regenerate}>
            {text.answerNow}
          </button>
        )}
        {idle && (
          <button
            type="button"
            class="quiet-button"
            aria-label={unanswered ? undefined : text.editQuestion}
            onClick={() => edit(question.id)}
          >
            <Icon name="pen" />
            <span>{text.edit}</span>
          </button>
        )}
        {removable && (
          <button type="button" class="quiet-button" onClick={() => removeQuestion(question.id)}>
            <Icon name="trash" />
            <span>{text.remove}</span>
          </button>
        )}
      </div>
    </>
  );
});
