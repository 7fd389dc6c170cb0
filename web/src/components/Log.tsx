import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { busy, chatError, live, messages, regenerate, waiting } from "../state/chat";
import { AnswerView } from "./AnswerView";
import { ErrorNotice } from "./ErrorNotice";
import { Icon } from "./Icon";
import { Logo } from "./Logo";
import { QuestionView } from "./QuestionView";
import { Welcome } from "./Welcome";

/** Pixels from the end within which the view keeps up with a growing answer. */
const NEAR = 80;

/** The conversation. */
export function Log() {
  const scroller = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const text = t.value;
  const list = messages.value;
  const writing = live.value;
  const answers = list.filter((message) => message.role === "assistant");
  const lastAnswer = answers.at(-1);
  const unanswered = list.at(-1)?.role === "user" && !busy.value;
  const questions = list.length - answers.length;

  const toEnd = () => {
    const element = scroller.current;
    if (element && messages.peek().length > 0) element.scrollTop = element.scrollHeight;
  };
  const follow = () => {
    const element = scroller.current;
    if (element) setAtEnd(element.scrollHeight - element.scrollTop - element.clientHeight < NEAR);
  };

  // A new question, or another conversation, is shown from its end; a growing answer is followed by who is at the end.
  useEffect(toEnd, [questions, list[0]?.id]);
  useEffect(() => {
    if (atEnd) toEnd();
  });

  return (
    <div class="log-frame">
      <div class="log-scroll" ref={scroller} onScroll={follow} tabIndex={-1}>
        {list.length === 0 && <Welcome />}
        <div
          class="log"
          role="log"
          aria-live="polite"
          aria-label={text.conversation}
          aria-busy={writing !== null}
        >
          {list.map((message) =>
            message.role === "user" ? (
              <QuestionView key={message.id} question={message} />
            ) : (
              <AnswerView
                key={message.id}
                answer={message}
                last={message === lastAnswer && list.at(-1) === message && !busy.value}
              />
            ),
          )}
          {writing !== null && !list.some((message) => message.id === writing.answer.id) && (
            <AnswerView key={writing.answer.id} answer={writing.answer} live={writing} last={false} />
          )}
          {waiting.value && (
            <p class="waiting" key="waiting">
              <Logo turning />
              <span>{text.waitingForModel}</span>
            </p>
          )}
        </div>
        {chatError.value !== null && <ErrorNotice error={chatError.value} onRetry={regenerate} />}
        {unanswered && chatError.value === null && (
          <div class="unanswered">
            <button type="button" class="button" onClick={regenerate}>
              {text.answerNow}
            </button>
          </div>
        )}
      </div>
      {!atEnd && list.length > 0 && (
        <button
          type="button"
          class="icon-button to-end"
          aria-label={text.jumpToEnd}
          title={text.jumpToEnd}
          onClick={toEnd}
        >
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}
