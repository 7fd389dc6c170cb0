import { t, type Dictionary } from "../i18n";
import { conversationId, deleteConversation, newChat, openConversation } from "../state/chat";
import { summaries, type Summary } from "../state/history";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

function byDay(list: readonly Summary[], text: Dictionary): { label: string; list: Summary[] }[] {
  const today = new Date().setHours(0, 0, 0, 0);
  const yesterday = today - 24 * 60 * 60 * 1000;
  return [
    { label: text.today, list: list.filter((item) => item.updatedAt >= today) },
    {
      label: text.yesterday,
      list: list.filter((item) => item.updatedAt >= yesterday && item.updatedAt < today),
    },
    { label: text.earlier, list: list.filter((item) => item.updatedAt < yesterday) },
  ].filter((group) => group.list.length > 0);
}

function closeDrawer(): void {
  if (dialog.value === "conversations") dialog.value = null;
}

function Item({ summary }: { summary: Summary }) {
  const text = t.value;
  const title = summary.title || text.untitled;
  return (
    <li class="conversation">
      <button
        type="button"
        class="conversation-open"
        aria-current={summary.id === conversationId.value ? "true" : undefined}
        onClick={() => {
          closeDrawer();
          void openConversation(summary.id);
        }}
      >
        {title}
      </button>
      <button
        type="button"
        class="icon-button small"
        aria-label={text.deleteConversation(title)}
        title={text.delete}
        onClick={() => void deleteConversation(summary.id)}
      >
        <Icon name="trash" />
      </button>
    </li>
  );
}

/** The history, and the way to a new chat. */
export function Conversations() {
  const text = t.value;
  const groups = byDay(summaries.value, text);
  return (
    <div class="conversations">
      <button
        type="button"
        class="button new-chat"
        onClick={() => {
          closeDrawer();
          void newChat();
        }}
      >
        <Icon name="pen" />
        {text.newChat}
      </button>
      <nav aria-label={text.conversations} class="conversation-list">
        {groups.length === 0 && <p class="help">{text.noConversations}</p>}
        {groups.map((group) => (
          <section key={group.label}>
            <h3>{group.label}</h3>
            <ul>
              {group.list.map((summary) => (
                <Item key={summary.id} summary={summary} />
              ))}
            </ul>
          </section>
        ))}
      </nav>
      <div class="conversations-foot">
        <button type="button" class="quiet-button" onClick={() => (dialog.value = "storage")}>
          <Icon name="disk" />
          <span>{text.storage}</span>
        </button>
        {groups.length > 0 && (
          <button
            type="button"
            class="quiet-button"
            onClick={() => {
              if (confirm(text.deleteAllQuestion)) void deleteConversation("all");
            }}
          >
            <Icon name="trash" />
            <span>{text.deleteAll}</span>
          </button>
        )}
      </div>
    </div>
  );
}
