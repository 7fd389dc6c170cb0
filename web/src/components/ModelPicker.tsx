import { t, type Dictionary } from "../i18n";
import { joined, parameters, roundBytes } from "../lib/format";
import { hostOf } from "../lib/servers";
import { engine } from "../state/engine";
import { bytesOf, chosenModel, storedCopy, type ModelChoice } from "../state/models";
import { templateOf } from "../state/settings";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

/** How much of a model is on this device. */
export function stateOf(model: ModelChoice, text: Dictionary): string {
  if (model.remote) return text.onServer(hostOf(model.remote));
  if (model.origin === "file") return text.localFile;
  const copy = storedCopy(model);
  if (copy === undefined || copy.bytes === 0) return text.notDownloaded;
  if (copy.complete) return text.stored;
  return text.partly(Math.floor((100 * copy.bytes) / Math.max(1, copy.totalBytes)));
}

/** A model's size for people; an estimate is marked as one. */
export function sizeOf(model: ModelChoice): string | null {
  const size = bytesOf(model);
  if (size === null) return null;
  const isKnown = model.size !== null || storedCopy(model) !== undefined;
  return isKnown ? roundBytes(size) : `≈\u00a0${roundBytes(size)}`;
}

/** What is known of a model: a chosen chat template, parameters, quantization, context, licence. */
export function factsOf(model: ModelChoice, text: Dictionary, isLoaded: boolean): (string | undefined)[] {
  if (model.remote) return [];
  const loaded = isLoaded ? engine.value?.model : undefined;
  const count = loaded?.parameters ?? model.parameters;
  const template = templateOf(model.id);
  const context = loaded?.contextLength ?? model.contextLength;
  return [
    template === null ? undefined : text.templateUsed(text.templates[template] ?? template),
    count === undefined ? undefined : text.parameterCount(parameters(count)),
    loaded?.quantization ?? model.quantization,
    context === undefined ? undefined : text.contextOf(context),
    model.license ?? loaded?.license ?? undefined,
  ];
}

/** The model in use, as a button that opens the list of models. */
export function ModelPicker() {
  const text = t.value;
  const chosen = chosenModel.value;
  if (chosen === null) return null;
  const isRemote = chosen.remote !== undefined;
  const state = joined([sizeOf(chosen), stateOf(chosen, text)]);
  return (
    <>
      <div class="picker">
        <button
          id="model"
          type="button"
          class="picker-button"
          aria-haspopup="dialog"
          aria-label={`${text.model}: ${joined([chosen.name, state, isRemote ? text.notPrivate : null])}`}
          aria-describedby="model-details"
          onClick={() => (dialog.value = "models")}
        >
          <span class="picker-name">{chosen.name}</span>
          {isRemote && <span class="tag not-private">{text.notPrivate}</span>}
          <span class="wide-only">{joined(["", state])}</span>
          <Icon name="chevron" />
        </button>
      </div>
      <p id="model-details">
        <span class="narrow-only">
          {joined([stateOf(chosen, text), sizeOf(chosen), isRemote ? null : ""])}
        </span>
        {joined(factsOf(chosen, text, true))}
      </p>
    </>
  );
}
