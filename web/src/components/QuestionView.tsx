import { t } from "../i18n";
import type { Question } from "../state/history";

/** A question, as it was typed. */
export function QuestionView({ question }: { question: Question }) {
  const long = question.content.length > 240 || question.content.split("\n").length > 4;
  return (
    <article class={long ? "question long" : "question"} aria-label={t.value.you}>
      <p dir="auto">{question.content}</p>
    </article>
  );
}
