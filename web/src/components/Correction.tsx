import type { ComponentChildren } from "preact";
import { t } from "../i18n";

interface CorrectionProps {
  draft: string;
  write: (draft: string) => void;
  rows: number;
  children: ComponentChildren;
}

/** Where an answer is written as it should be; the buttons follow. */
export function Correction({ draft, write, rows, children }: CorrectionProps) {
  return (
    <div class="correction">
      <textarea
        rows={rows}
        dir="auto"
        aria-label={t.value.betterAnswer}
        value={draft}
        onInput={(event) => write(event.currentTarget.value)}
      />
      {children}
    </div>
  );
}
