import { t } from "../i18n";
import { newChat, restore } from "../state/chat";
import { reading } from "../state/conversation";
import { Icon } from "./Icon";
import { Logo } from "./Logo";

/** Shown in place of a conversation that is being read, or could not be. It never looks like an empty one. */
export function ReadingStatus() {
  const text = t.value;
  const state = reading.value;
  if (state.kind !== "failed")
    return (
      <p class="waiting reading" role="status">
        <Logo turning />
        <span>{text.readingConversation}</span>
      </p>
    );
  return (
    <section class="notice" role="alert">
      <Icon name="alert" />
      <div>
        <h2>{text.readFailed}</h2>
        <p>{text.readFailedHelp}</p>
        <p class="notice-detail" lang="en">
          {state.error instanceof Error ? state.error.message : String(state.error)}
        </p>
        <div class="buttons">
          <button type="button" class="button primary" onClick={() => void restore()}>
            {text.tryAgain}
          </button>
          <button type="button" class="button" onClick={() => void newChat()}>
            {text.newChat}
          </button>
        </div>
      </div>
    </section>
  );
}
