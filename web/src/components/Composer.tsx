import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { busy, cancelEdit, editing, send, stop } from "../state/chat";
import { draft, focusRequest, notice } from "../state/ui";
import { ContextMeter } from "./ContextMeter";
import { DeviceLine } from "./DeviceLine";
import { Icon } from "./Icon";
import { ToolsLine } from "./ToolsDialog";

/** Limit of the textbox in characters: more than any context holds, but still quick to lay out. */
const LIMIT = 200_000;

/** Refuses a text that is too long before the browser lays it out. */
function refuseLong(event: Event, given: DataTransfer | null): void {
  const characters = draft.peek().length + (given?.getData("text/plain").length ?? 0);
  if (characters <= LIMIT) return;
  event.preventDefault();
  notice.value = { kind: "tooLong", characters };
}

/**
 * The textbox with its button. Enter sends, Shift+Enter starts a new line. While an input method is
 * composing, Enter belongs to it.
 */
export function Composer() {
  const textbox = useRef<HTMLTextAreaElement>(null);
  const text = t.value;
  const value = draft.value;

  useEffect(() => {
    if (focusRequest.value > 0) textbox.current?.focus();
  }, [focusRequest.value]);

  // The textbox is as high as its text, up to the style sheet's limit. With field-sizing the browser does
  // this.
  useEffect(() => {
    const element = textbox.current;
    if (!element || CSS.supports("field-sizing", "content")) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [value]);

  const submit = () => {
    send(draft.value);
    textbox.current?.focus();
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {editing.value !== null && (
        <p class="editing">
          <span>{text.editing}</span>
          <button type="button" class="quiet-button" onClick={cancelEdit}>
            {text.cancel}
          </button>
        </p>
      )}
      <div class="composer-box">
        <textarea
          ref={textbox}
          id="message"
          rows={1}
          dir="auto"
          aria-label={text.message}
          placeholder={text.messagePlaceholder}
          value={value}
          enterkeyhint="send"
          onInput={(event) => (draft.value = event.currentTarget.value)}
          onPaste={(event) => refuseLong(event, event.clipboardData)}
          onDrop={(event) => refuseLong(event, event.dataTransfer)}
          onKeyDown={(event) => {
            // keyCode 229: Safari ends a composition before the key event that ended it.
            if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
            event.preventDefault();
            submit();
          }}
        />
        {/* Two elements with keys: if one became the other, a click on Stop would also submit the form. */}
        {busy.value ? (
          <button
            key="stop"
            type="button"
            class="send"
            aria-label={text.stop}
            title={text.stop}
            onClick={stop}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button
            key="send"
            type="submit"
            class="send"
            aria-label={text.send}
            title={text.send}
            disabled={value.trim() === ""}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
      <ToolsLine />
      <ContextMeter />
      <DeviceLine />
    </form>
  );
}
