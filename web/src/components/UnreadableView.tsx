import { t } from "../i18n";
import type { Unreadable } from "../history/records";
import { PlainText } from "./PlainText";
import { Versions } from "./Versions";

/** A stored message that this page cannot read, shown as it is stored. */
export function UnreadableView({ message }: { message: Unreadable }) {
  const text = t.value;
  return (
    <article class="answer unreadable" aria-label={text.unreadable}>
      <p class="note">{text.unreadableHelp}</p>
      <PlainText text={message.content} />
      <Versions message={message} />
    </article>
  );
}
