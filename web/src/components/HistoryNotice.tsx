import type { ComponentChildren } from "preact";
import { NotConversationsError } from "../history/transfer";
import { t } from "../i18n";
import { access, isUnsaved, listError, saveError, tryAgain } from "../state/history";
import { exportConversations } from "../state/transfer";
import { dialog, notice } from "../state/ui";
import { explain } from "../lib/errors";
import { Icon } from "./Icon";

interface BarProps {
  text: string;
  detail?: unknown;
  /** It can be dismissed. */
  passing?: boolean;
  children?: ComponentChildren;
}

function Bar({ text, detail, passing = false, children }: BarProps) {
  return (
    <div class={passing ? "bar passing" : "bar"}>
      <Icon name="alert" />
      <p role="status" title={detail instanceof Error ? `${detail.name}: ${detail.message}` : undefined}>
        {text}
      </p>
      <div class="buttons">{children}</div>
    </div>
  );
}

function Action({ label, act }: { label: string; act: () => void }) {
  return (
    <button type="button" class="button small" onClick={act}>
      {label}
    </button>
  );
}

function isFull(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

/** Says why conversations cannot be read or stored, for as long as that lasts, and what can be done. */
export function HistoryNotice() {
  const text = t.value;
  const again = <Action label={text.tryAgain} act={() => void tryAgain()} />;
  const save = <Action label={text.exportAll} act={() => void exportConversations("json")} />;
  const kept = isUnsaved.value ? save : null;
  switch (access.value.kind) {
    case "waiting":
      return (
        <Bar text={text.history.waiting}>
          {again}
          {kept}
        </Bar>
      );
    case "blocked":
      return <Bar text={text.history.blocked}>{kept}</Bar>;
    case "newer":
      return (
        <Bar text={text.history.newer}>
          <Action label={text.reload} act={() => location.reload()} />
          {kept}
        </Bar>
      );
    case "failed":
      return (
        <Bar text={text.history.failed} detail={access.value.error}>
          {again}
          {kept}
        </Bar>
      );
    case "opening":
    case "open":
      break;
  }
  if (isUnsaved.value)
    return (
      <Bar text={isFull(saveError.value) ? text.history.full : text.history.unsaved} detail={saveError.value}>
        {again}
        {save}
        {isFull(saveError.value) && (
          <Action label={text.openStorage} act={() => (dialog.value = "storage")} />
        )}
      </Bar>
    );
  if (listError.value !== null)
    return (
      <Bar text={text.history.unreadable} detail={listError.value}>
        {again}
      </Bar>
    );
  return null;
}

/** A notice that can be dismissed. */
export function PassingNotice() {
  const text = t.value;
  const now = notice.value;
  if (now === null) return null;
  const words = () => {
    switch (now.kind) {
      case "deletedElsewhere":
        return text.deletedElsewhere;
      case "tooLong":
        return text.pasteTooLong(now.characters);
      case "inspecting":
        return text.inspecting;
      case "imported":
        return text.imported(now.conversations);
      case "importFailed":
        return now.error instanceof NotConversationsError ? text.importFailed : text.importNotStored;
      case "file": {
        const { title, help } = explain(now.error, text, now.from);
        return `${title} ${help}`;
      }
    }
  };
  return (
    <Bar passing text={words()} detail={"error" in now ? now.error : undefined}>
      <Action label={text.close} act={() => (notice.value = null)} />
    </Bar>
  );
}
