import { t, type Dictionary } from "../i18n";
import { joined, parameters, roundBytes } from "../lib/format";
import { engine, followChoice } from "../state/engine";
import { chosenModel, models, storedCopy, type ModelChoice } from "../state/models";
import { updateSettings } from "../state/settings";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";
import { Select } from "./Select";

function stateOf(model: ModelChoice, text: Dictionary): string {
  if (model.origin === "file") return text.localFile;
  const copy = storedCopy(model);
  if (copy === undefined || copy.bytes === 0) return text.notDownloaded;
  if (copy.complete) return text.stored;
  return text.partly(Math.floor((100 * copy.bytes) / Math.max(1, copy.totalBytes)));
}

function sizeOf(model: ModelChoice): number | null {
  return model.size ?? (storedCopy(model)?.totalBytes || null);
}

function Option({ model }: { model: ModelChoice }) {
  const size = sizeOf(model);
  return (
    <option value={model.id}>
      {joined([model.name, size === null ? null : roundBytes(size), stateOf(model, t.value)])}
    </option>
  );
}

function Details({ model }: { model: ModelChoice }) {
  const text = t.value;
  const loaded = engine.value?.model;
  const count = loaded?.parameters ?? model.parameters;
  const context = loaded?.contextLength ?? model.contextLength;
  const size = sizeOf(model);
  const parts = [
    count === undefined ? null : text.parameterCount(parameters(count)),
    loaded?.quantization ?? model.quantization,
    context === undefined ? null : text.contextOf(context),
    model.license ?? loaded?.license,
  ];
  return (
    <p id="model-details">
      <span class="narrow-only">
        {joined([stateOf(model, text), size === null ? null : roundBytes(size), ""])}
      </span>
      {joined(parts)}
    </p>
  );
}

/** Chooses the model. A native select works with every input device and screen reader. */
export function ModelPicker() {
  const text = t.value;
  const chosen = chosenModel.value;
  const groups = [
    { label: text.catalogue, list: models.value.filter((model) => model.origin === "catalogue") },
    { label: text.fromServer, list: models.value.filter((model) => model.origin === "server") },
    {
      label: text.added,
      list: models.value.filter((model) => model.origin === "added" || model.origin === "file"),
    },
  ].filter((group) => group.list.length > 0);

  return (
    <>
      <div class="picker">
        <Select
          id="model"
          aria-label={text.model}
          aria-describedby="model-details"
          value={chosen?.id ?? ""}
          onChange={(event) => {
            updateSettings({ modelId: event.currentTarget.value });
            followChoice();
          }}
        >
          {groups.map((group) => (
            <optgroup key={group.label} label={group.label}>
              {group.list.map((model) => (
                <Option key={model.id} model={model} />
              ))}
            </optgroup>
          ))}
        </Select>
        <button
          type="button"
          class="icon-button"
          aria-label={text.addModel}
          title={text.addModel}
          onClick={() => (dialog.value = "addModel")}
        >
          <Icon name="plus" />
        </button>
      </div>
      {chosen && <Details model={chosen} />}
    </>
  );
}
