import { t } from "../i18n";
import { joined, parameters } from "../lib/format";
import { downloadOf } from "../state/downloads";
import { engine } from "../state/engine";
import { chosenModel, fitOfModel, type ModelChoice } from "../state/models";
import { sizeOf, stateOf } from "./ModelPicker";

interface RowProps {
  id: string;
  model: ModelChoice;
  /** Its details are shown. */
  isActive: boolean;
  onShow: () => void;
}

/** A model in the list: its name, whether it is in use, its size, whether it fits, and how much is here. */
export function ModelRow({ id, model, isActive, onShow }: RowProps) {
  const text = t.value;
  const fit = fitOfModel(model);
  const download = downloadOf(model);
  const count = model.parameters === undefined ? null : parameters(model.parameters);
  return (
    <div id={id} role="option" class="model-row" aria-selected={isActive} onClick={onShow}>
      <span class="model-row-head">
        <span class="model-row-name">{model.name}</span>
        {chosenModel.value?.id === model.id && (
          <span class="tag">{engine.value === null ? text.chosen : text.inUse}</span>
        )}
        {model.remote && <span class="tag not-private">{text.notPrivate}</span>}
        {fit !== null && fit !== "fits" && <span class={`tag ${fit}`}>{text.fits[fit]}</span>}
      </span>
      <span class="help">
        {joined([
          count,
          sizeOf(model),
          download ? text.downloadStates[download.state] : stateOf(model, text),
        ])}
      </span>
    </div>
  );
}
