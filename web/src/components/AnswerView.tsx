import { Fragment } from "preact";
import { memo } from "preact/compat";
import type { Answer } from "../history/records";
import { t, type Dictionary } from "../i18n";
import { joined, rate } from "../lib/format";
import { continuing, regenerate } from "../state/chat";
import type { Live } from "../state/generate";
import { isWrittenElsewhere } from "../state/history";
import { AnswerLessons } from "./AnswerLessons";
import { CopyButton } from "./CopyButton";
import { Icon } from "./Icon";
import { Logo } from "./Logo";
import { Markdown } from "./Markdown";
import { MessageBoundary } from "./MessageBoundary";
import { PlainText } from "./PlainText";
import { ToolCall } from "./ToolCall";
import { Versions } from "./Versions";

/** Longest text in characters that is formatted; no model writes that much, but a file may hold it. */
const LONGEST = 200_000;

interface AnswerProps {
  answer: Answer;
  /** Present while it is being written in this tab. */
  live?: Live | undefined;
  /** The last answer can be regenerated. */
  last: boolean;
}

function endingNote(answer: Answer, text: Dictionary): string | null {
  switch (answer.ending) {
    case "stopped":
      return text.stopped;
    case "interrupted":
    // The tab that wrote it was closed.
    case null:
      return text.interrupted;
    case "length":
      return text.reachedMaxTokens;
    case "context":
      return text.reachedContext;
    case "stop":
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

function Foot({ answer, live, last }: AnswerProps) {
  const text = t.value;
  if (live !== undefined)
    return (
      <div class="answer-foot live">
        <Logo turning />
        {live.continues && <span>{text.continues}</span>}
        <Activity live={live} />
      </div>
    );
  if (continuing.value === answer.id)
    return (
      <div class="answer-foot live">
        <Logo turning />
        <span>{text.continuesSoon}</span>
      </div>
    );
  if (answer.ending === null && isWrittenElsewhere(answer.id))
    return (
      <div class="answer-foot live">
        <Logo turning />
        <span>{text.writtenElsewhere}</span>
      </div>
    );
  return (
    <div class="answer-foot">
      <Versions message={answer} />
      <CopyButton text={answer.content} label={text.copyAnswer} />
      <AnswerLessons answer={answer} />
      {last && (
        <button type="button" class="quiet-button" onClick={regenerate}>
          <Icon name="redo" />
          <span>{text.regenerate}</span>
        </button>
      )}
      <Figures answer={answer} />
    </div>
  );
}

/** What the model thought, closed until it is asked for. */
function Thinking({ reasoning }: { reasoning: string }) {
  return (
    <details class="thinking">
      <summary>{t.value.thinking}</summary>
      <PlainText text={reasoning} />
    </details>
  );
}

/** A part of an answer's text. */
function Text({ text }: { text: string }) {
  if (text.trim() === "") return null;
  if (text.length > LONGEST) return <PlainText text={text} />;
  return (
    <MessageBoundary text={text}>
      <Markdown text={text} />
    </MessageBoundary>
  );
}

/** What the model wrote, with its calls of tools between. */
function Content({ answer: { content, tools = [] }, isLive }: { answer: Answer; isLive: boolean }) {
  let from = 0;
  const parts = tools.map((use) => {
    const before = content.slice(from, use.at);
    from = Math.max(from, use.at);
    return (
      <Fragment key={use.id}>
        <Text text={before} />
        <ToolCall use={use} isLive={isLive} />
      </Fragment>
    );
  });
  return (
    <>
      {parts}
      <Text text={content.slice(from)} />
    </>
  );
}

/** An answer with its figures and what can be done with it. */
export const AnswerView = memo(({ answer, live, last }: AnswerProps) => {
  const text = t.value;
  const goesOn = live !== undefined || continuing.value === answer.id;
  const isWritten = goesOn || (answer.ending === null && isWrittenElsewhere(answer.id));
  const note = isWritten ? null : endingNote(answer, text);
  return (
    <article class="answer" aria-label={answer.model || text.answer}>
      {answer.omitted > 0 && <p class="note omitted">{text.omitted(answer.omitted)}</p>}
      {answer.reasoning !== undefined && <Thinking reasoning={answer.reasoning} />}
      <Content answer={answer} isLive={live !== undefined} />
      {note !== null && <p class={`note ${answer.ending ?? "interrupted"}`}>{note}</p>}
      <Foot answer={answer} live={live} last={last} />
    </article>
  );
});
