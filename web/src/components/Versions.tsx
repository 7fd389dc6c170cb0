import { t } from "../i18n";
import type { Message } from "../history/records";
import { busy, showVersion } from "../state/chat";
import { versionsOf } from "../state/conversation";
import { Icon } from "./Icon";

/** Switches between the versions of a message. Empty if there is only one. */
export function Versions({ message }: { message: Message }) {
  const text = t.value;
  const all = versionsOf(message);
  const at = all.findIndex((other) => other.id === message.id);
  if (all.length < 2 || at < 0) return null;
  const to = (index: number) => {
    const other = all[index];
    if (other !== undefined) showVersion(other.id);
  };
  return (
    <span class="versions" role="group" aria-label={text.versions}>
      <button
        type="button"
        class="icon-button small"
        aria-label={text.previousVersion}
        title={text.previousVersion}
        disabled={at === 0 || busy.value}
        onClick={() => to(at - 1)}
      >
        <Icon name="left" />
      </button>
      <span>{text.versionOf(at + 1, all.length)}</span>
      <button
        type="button"
        class="icon-button small"
        aria-label={text.nextVersion}
        title={text.nextVersion}
        disabled={at === all.length - 1 || busy.value}
        onClick={() => to(at + 1)}
      >
        <Icon name="right" />
      </button>
    </span>
  );
}
