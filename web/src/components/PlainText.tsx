import { useState } from "preact/hooks";
import { t } from "../i18n";

/** Characters that are shown at first: laying out megabytes would freeze the page. */
const SHOWN = 20_000;

/** A text without formatting. The rest of a very long text is shown on demand. */
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
