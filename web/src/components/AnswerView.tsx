import { memo } from "preact/compat";
import { t, type Dictionary } from "../i18n";
import { joined, rate } from "../lib/format";
import { editLast, regenerate } from "../state/chat";
import type { Live } from "../state/generate";
import type { Answer } from "../state/history";
import { CopyButton } from "./CopyButton";
import { Icon } from "./Icon";
import { Logo } from "./Logo";
import { Markdown } from "./Markdown";

interface AnswerProps {
  answer: Answer;
  /** Present while it is being written. */
  live?: Live | undefined;
  /** The last one can be regenerated, and its question changed. */
  last: boolean;
}

function endingNote(answer: Answer, text: Dictionary): string | null {
  switch (answer.ending) {
    case "stopped":
      return text.stopped;
    case "interrupted":
      return text.interrupted;
    case "length":
      return text.reachedMaxTokens;
    case "context":
      return text.reachedContext;
    default:
      return null;
  }
}

function Figures({ answer }: { answer: Answer }) {
  const text = t.value;
  const parts = [
    text.tokenCount(answer.completionTokens),
    answer.tokensPerSecond === null ? null : text.tokensPerSecond(rate(answer.tokensPerSecond)),
    answer.promptTokens === null ? null : text.promptTokens(answer.promptTokens, answer.cachedTokens),
  ];
  return <span class="figures">{joined(parts)}</span>;
}

function Activity({ live }: { live: Live }) {
  const text = t.value;
  const { prefill } = live;
  if (prefill === null) return <Figures answer={live.answer} />;
  return <span>{prefill.total > 0 ? text.reading(prefill.done, prefill.total) : text.starting}</span>;
}

/** An answer with its figures and what can be done with it. */
export const AnswerView = memo(({ answer, live, last }: AnswerProps) => {
  const text = t.value;
  const note = endingNote(answer, text);
  return (
    <article class="answer" aria-label={answer.model}>
      {answer.content !== "" && <Markdown text={answer.content} />}
      {note !== null && <p class={`note ${answer.ending ?? ""}`}>{note}</p>}
      {live !== undefined ? (
        <div class="answer-foot live">
          <Logo turning />
          <Activity live={live} />
        </div>
      ) : (
        <div class="answer-foot">
          <CopyButton text={answer.content} label={text.copyAnswer} />
          {last && (
            <>
              <button type="button" class="quiet-button" onClick={regenerate}>
                <Icon name="redo" />
                <span>{text.regenerate}</span>
              </button>
              <button type="button" class="quiet-button" onClick={editLast}>
                <Icon name="pen" />
                <span>{text.edit}</span>
              </button>
            </>
          )}
          <Figures answer={answer} />
        </div>
      )}
    </article>
  );
});
