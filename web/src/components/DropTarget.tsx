import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { openAndStart } from "../state/files";
import { Icon } from "./Icon";

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** Takes model files that are dropped anywhere on the page. */
export function DropTarget() {
  const [over, setOver] = useState(false);

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    addEventListener(
      "dragover",
      (event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(true);
      },
      { signal },
    );
    addEventListener(
      "dragleave",
      (event) => {
        if (event.relatedTarget === null) setOver(false);
      },
      { signal },
    );
    addEventListener(
      "drop",
      (event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(false);
        const files = [...(event.dataTransfer?.files ?? [])];
        if (files.length > 0) void openAndStart(files);
      },
      { signal },
    );
    return () => controller.abort();
  }, []);

  if (!over) return null;
  return (
    <div class="drop">
      <Icon name="file" />
      <p>{t.value.dropHere}</p>
    </div>
  );
}
