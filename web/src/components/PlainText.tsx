import { useState } from "preact/hooks";
import { t } from "../i18n";

/** Characters that are laid out at once: megabytes would stop the page. */
const SHOWN = 20_000;

/** A text as it is. The rest of a very long one is shown on demand. */
export function PlainText({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const isCut = !whole && text.length > SHOWN;
  return (
    <>
      <p class="plain" dir="auto">
        {isCut ? text.slice(0, SHOWN) : text}
      </p>
      {isCut && (
        <button type="button" class="quiet-button" onClick={() => setWhole(true)}>
          {t.value.showAll(text.length)}
        </button>
      )}
    </>
  );
}
