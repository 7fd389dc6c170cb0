import { useEffect, useRef, useState } from "preact/hooks";
import type { Conversation } from "../history/records";
import { t, type Dictionary } from "../i18n";
import { deleteConversation, newChat, openConversation, pin, rename } from "../state/chat";
import { conversationId } from "../state/conversation";
import { access, conversations, findConversations, listError } from "../state/history";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

interface Group {
  label: string;
  list: Conversation[];
}

function grouped(list: readonly Conversation[], text: Dictionary): Group[] {
  const today = new Date().setHours(0, 0, 0, 0);
  const yesterday = today - 24 * 60 * 60 * 1000;
  const loose = list.filter((item) => !item.pinned);
  return [
    { label: text.pinned, list: list.filter((item) => item.pinned) },
    { label: text.today, list: loose.filter((item) => item.updatedAt >= today) },
    {
      label: text.yesterday,
      list: loose.filter((item) => item.updatedAt >= yesterday && item.updatedAt < today),
    },
    { label: text.earlier, list: loose.filter((item) => item.updatedAt < yesterday) },
  ].filter((group) => group.list.length > 0);
}

function closeDrawer(): void {
  if (dialog.value === "conversations") dialog.value = null;
}

function Rename({ item, onDone }: { item: Conversation; onDone: () => void }) {
  const text = t.value;
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  return (
    <form
      class="rename"
      onSubmit={(event) => {
        event.preventDefault();
        rename(item.id, input.current?.value ?? "");
        onDone();
      }}
    >
      <input
        ref={input}
        type="text"
        maxLength={200}
        defaultValue={item.title}
        aria-label={text.newTitle}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          // The drawer stays open.
          event.preventDefault();
          event.stopPropagation();
          onDone();
        }}
      />
      <button type="submit" class="icon-button small" aria-label={text.saveTitle} title={text.saveTitle}>
        <Icon name="check" />
      </button>
    </form>
  );
}

function Actions({ item, title, onRename }: { item: Conversation; title: string; onRename: () => void }) {
  const text = t.value;
  return (
    <div class="conversation-actions">
      <button type="button" class="quiet-button" onClick={() => pin(item.id, !item.pinned)}>
        <Icon name="pin" />
        <span>{item.pinned ? text.unpin : text.pin}</span>
      </button>
      <button type="button" class="quiet-button" onClick={onRename}>
        <Icon name="pen" />
        <span>{text.rename}</span>
      </button>
      <button
        type="button"
        class="quiet-button"
        aria-label={text.deleteConversation(title)}
        onClick={() => void deleteConversation(item.id)}
      >
        <Icon name="trash" />
        <span>{text.delete}</span>
      </button>
    </div>
  );
}

function Item({ item }: { item: Conversation }) {
  const text = t.value;
  const [open, setOpen] = useState<"no" | "actions" | "rename">("no");
  const opener = useRef<HTMLButtonElement>(null);
  const wasRenamed = useRef(false);
  // The focused field is gone: focus goes back to the conversation.
  useEffect(() => {
    if (open === "no" && wasRenamed.current) opener.current?.focus();
    wasRenamed.current = open === "rename";
  }, [open]);
  const title = item.title || text.untitled;
  return (
    <li class={open === "no" ? "conversation" : "conversation open"}>
      {open === "rename" ? (
        <Rename item={item} onDone={() => setOpen("no")} />
      ) : (
        <>
          <button
            ref={opener}
            type="button"
            class="conversation-open"
            aria-current={item.id === conversationId.value ? "true" : undefined}
            onClick={() => {
              closeDrawer();
              void openConversation(item.id);
            }}
          >
            {title}
          </button>
          <button
            type="button"
            class="icon-button small"
            aria-label={text.moreFor(title)}
            title={text.more}
            aria-expanded={open === "actions"}
            onClick={() => setOpen(open === "no" ? "actions" : "no")}
          >
            <Icon name="more" />
          </button>
        </>
      )}
      {open === "actions" && <Actions item={item} title={title} onRename={() => setOpen("rename")} />}
    </li>
  );
}

/** Milliseconds between the last key and a search of all messages. */
const SEARCH_DELAY = 150;

/** The conversations that a search finds: by title at once, by their messages a moment later. */
function useSearch(words: string): readonly Conversation[] {
  const [found, setFound] = useState<ReadonlySet<string>>(new Set());
  const list = conversations.value;
  const wanted = words.trim().toLowerCase();
  useEffect(() => {
    setFound(new Set());
    if (wanted === "") return;
    let isOver = false;
    const timer = setTimeout(() => {
      void findConversations(wanted).then((ids) => {
        if (!isOver) setFound(ids);
      });
    }, SEARCH_DELAY);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [wanted, list]);
  if (wanted === "") return list;
  return list.filter((item) => item.title.toLowerCase().includes(wanted) || found.has(item.id));
}

function emptyText(text: Dictionary, words: string): string | null {
  if (words.trim() !== "") return text.nothingFound;
  // Not being able to read the list must not look like an empty one.
  if (access.value.kind === "opening" || access.value.kind === "waiting") return text.readingConversations;
  if (access.value.kind !== "open" || listError.value !== null) return text.listUnavailable;
  return text.noConversations;
}

/** The history, and the way to a new chat. */
export function Conversations() {
  const text = t.value;
  const [words, setWords] = useState("");
  const list = useSearch(words);
  const groups = grouped(list, text);
  const isEmpty = conversations.value.length === 0;
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
      {!isEmpty && (
        <label class="search">
          <Icon name="search" />
          <input
            type="search"
            aria-label={text.searchConversations}
            placeholder={text.searchConversations}
            value={words}
            onInput={(event) => setWords(event.currentTarget.value)}
          />
        </label>
      )}
      <nav aria-label={text.conversations} class="conversation-list">
        {groups.length === 0 && (
          <p class="help" role="status">
            {emptyText(text, words)}
          </p>
        )}
        {groups.map((group) => (
          <section key={group.label}>
            <h3>{group.label}</h3>
            <ul>
              {group.list.map((item) => (
                <Item key={item.id} item={item} />
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
        {!isEmpty && (
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
