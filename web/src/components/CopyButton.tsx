import { useState } from "preact/hooks";
import { t } from "../i18n";
import { copyText } from "../state/clipboard";
import { Icon } from "./Icon";

/** Copies a text and confirms it for a moment. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);

  return (
    <button
      type="button"
      class="quiet-button"
      aria-label={label}
      title={label}
      onClick={() => void copyText(text, setCopied)}
    >
      <Icon name={copied ? "check" : "copy"} />
      <span>{copied ? t.value.copied : t.value.copy}</span>
    </button>
  );
}
