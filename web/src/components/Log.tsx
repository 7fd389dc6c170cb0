import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import type { Message } from "../history/records";
import { busy, chatError, live, regenerate, removable, unanswered, waiting } from "../state/chat";
import { conversationId, current, messages, reading } from "../state/conversation";
import { AnswerView } from "./AnswerView";
import { ErrorNotice } from "./ErrorNotice";
import { Icon } from "./Icon";
import { Logo } from "./Logo";
import { MessageBoundary } from "./MessageBoundary";
import { QuestionView } from "./QuestionView";
import { ReadingStatus } from "./ReadingStatus";
import { UnreadableView } from "./UnreadableView";
import { Welcome } from "./Welcome";

/** Within this many pixels from the end, the view follows a growing answer. */
const NEAR = 80;

/** One message of the conversation. */
function Entry({ message, last }: { message: Message; last: boolean }) {
  const idle = !busy.value;
  switch (message.role) {
    case "user":
      return (
        <QuestionView
          question={message}
          idle={idle}
          unanswered={unanswered.value?.id === message.id}
          removable={removable.value.has(message.id)}
          failed={chatError.value !== null}
        />
      );
    case "assistant": {
      const writing = live.value?.answer.id === message.id ? live.value : undefined;
      return <AnswerView answer={writing?.answer ?? message} live={writing} last={last && idle} />;
    }
    case "unreadable":
      return <UnreadableView message={message} />;
  }
}

/** The conversation. */
export function Log() {
  const scroller = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const text = t.value;
  const list = messages.value;
  const writing = live.value?.answer.conversation === conversationId.value ? live.value : null;
  const questions = list.filter((message) => message.role === "user").length;
  const title = current.value?.title;

  const toEnd = () => {
    const element = scroller.current;
    if (element && messages.peek().length > 0) element.scrollTop = element.scrollHeight;
  };
  const follow = () => {
    const element = scroller.current;
    if (element) setAtEnd(element.scrollHeight - element.scrollTop - element.clientHeight < NEAR);
  };

  // A new question or another conversation scrolls to the end. A growing answer is followed only from the
  // end.
  useEffect(toEnd, [questions, list[0]?.id]);
  useEffect(() => {
    if (atEnd) toEnd();
  });

  return (
    <div class="log-frame">
      <div class="log-scroll" ref={scroller} onScroll={follow} tabIndex={-1}>
        {list.length === 0 && (reading.value.kind === "done" ? <Welcome /> : <ReadingStatus />)}
        {list.length > 0 && <h1 class="visually-hidden">{title || text.untitled}</h1>}
        <div
          class="log"
          role="log"
          aria-live="polite"
          aria-label={text.conversation}
          aria-busy={writing !== null}
        >
          {list.map((message, index) => (
            <MessageBoundary key={message.id} text={message.content}>
              <Entry message={message} last={index === list.length - 1} />
            </MessageBoundary>
          ))}
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
