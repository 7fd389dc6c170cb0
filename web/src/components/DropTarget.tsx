import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { openAndStart } from "../state/files";
import { inspect, namesModel } from "../state/inspect";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

const LINK = "text/uri-list";

/** A link, unless it is dropped where text is written. */
function hasLink({ dataTransfer, target }: DragEvent): boolean {
  const isText = target instanceof Element && target.closest("input, textarea") !== null;
  return !isText && dataTransfer?.types.includes(LINK) === true;
}

/** Inspects the model that a dropped link names. Other links are followed by nobody. */
function inspectLink(event: DragEvent): void {
  const link = event.dataTransfer?.getData(LINK).split(/[\r\n]+/, 1)[0] ?? "";
  if (!namesModel(link)) return;
  dialog.value = "models";
  void inspect(link);
}

/** Takes model files, and links to models, that are dropped anywhere on the page. */
export function DropTarget() {
  const [over, setOver] = useState(false);

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    addEventListener(
      "dragover",
      (event) => {
        if (hasLink(event)) event.preventDefault();
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
        if (hasLink(event) && !hasFiles(event)) {
          event.preventDefault();
          inspectLink(event);
          return;
        }
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
