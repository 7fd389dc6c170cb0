import { memo } from "preact/compat";
import { useMemo } from "preact/hooks";
import { t } from "../i18n";
import { blocks, type Block } from "../lib/markdown";
import { copyText } from "../state/clipboard";

// A block whose source is the same keeps its elements, and with them any selection of text.
const Piece = memo(
  ({ block }: { block: Block }) => {
    const html = useMemo(() => ({ __html: block.html() }), [block]);
    return <div class="block" dangerouslySetInnerHTML={html} />;
  },
  (before, after) => before.block.raw === after.block.raw && before.block.language === after.block.language,
);

function copyCode(event: MouseEvent): void {
  const button = event.target instanceof Element ? event.target.closest("button.code-copy") : null;
  const code = button?.closest(".code")?.querySelector("code")?.textContent;
  if (!button || !code) return;
  void copyText(code.replace(/\n$/, ""), (copied) => {
    button.textContent = copied ? t.value.copied : t.value.copy;
  });
}

/** A model's answer, rendered block by block: while it streams only its last block changes. */
export function Markdown({ text }: { text: string }) {
  const dictionary = t.value;
  const pieces = useMemo(() => blocks(text, dictionary), [text, dictionary]);
  return (
    <div class="markdown" dir="auto" onClick={copyCode}>
      {pieces.map((block, index) => (
        <Piece key={index} block={block} />
      ))}
    </div>
  );
}
