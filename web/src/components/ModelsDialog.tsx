import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { bytes } from "../lib/format";
import { openAndStart } from "../state/files";
import { inspection, showServerForm } from "../state/inspect";
import { chosenModel, estimate, models, refreshStorage } from "../state/models";
import { dialog } from "../state/ui";
import { Dialog } from "./Dialog";
import { Downloads } from "./Downloads";
import { Icon } from "./Icon";
import { ModelDetails } from "./ModelDetails";
import { ModelList } from "./ModelList";
import { ServerForm } from "./ServerForm";
import { Verdict } from "./Verdict";

function OpenFile() {
  const text = t.value;
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        accept=".gguf"
        multiple
        hidden
        aria-label={text.openFile}
        onChange={(event) => {
          const files = [...(event.currentTarget.files ?? [])];
          event.currentTarget.value = "";
          if (files.length > 0) void openAndStart(files);
        }}
      />
      <button type="button" class="button" title={text.openFileHelp} onClick={() => input.current?.click()}>
        <Icon name="file" />
        {text.openFile}
      </button>
    </>
  );
}

function Room() {
  const text = t.value;
  const room = estimate.value;
  return (
    <button type="button" class="quiet-button" onClick={() => (dialog.value = "storage")}>
      <Icon name="disk" />
      {room === null ? text.storage : text.storageShort(bytes(room.usage), bytes(room.quota))}
    </button>
  );
}

function Contents() {
  const active = useSignal(chosenModel.peek()?.id ?? null);
  useEffect(() => void refreshStorage(), []);
  const state = inspection.value;
  const shown = models.value.find((model) => model.id === active.value) ?? null;
  return (
    <div class="models">
      <ModelList active={active} />
      <div class="models-side">
        {state.kind === "server" && <ServerForm key={state.baseURL} {...state} />}
        {state.kind === "none" && shown !== null && <ModelDetails key={shown.id} model={shown} />}
        {state.kind !== "none" && state.kind !== "server" && <Verdict state={state} />}
        <Downloads />
      </div>
      <footer class="models-foot">
        <div class="buttons">
          <OpenFile />
          <button type="button" class="button" onClick={() => showServerForm()}>
            <Icon name="cloud" />
            {t.value.addServer}
          </button>
        </div>
        <Room />
      </footer>
    </div>
  );
}

/** Every model: those on this device, the recommended one, and the rest; and any other that is named. */
export function ModelsDialog() {
  return (
    <Dialog name="models" title={t.value.models} wide>
      <Contents />
    </Dialog>
  );
}
