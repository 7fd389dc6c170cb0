import { useState } from "preact/hooks";
import { t } from "../i18n";
import { bytes, joined, roughly } from "../lib/format";
import { downloadOf, downloadStopped, dropDownload, pauseDownload, queueDownload } from "../state/downloads";
import { deleteStored, engine, forgetAdded, switchTo } from "../state/engine";
import { inspect } from "../state/inspect";
import { bytesOf, chosenModel, estimate, isAtHand, storedCopy, type ModelChoice } from "../state/models";
import { backend, fitHere, recommended } from "../state/recommend";
import { expectedSpeed } from "../state/speed";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";
import { factsOf, sizeOf, stateOf } from "./ModelPicker";
import { RemoteDetails } from "./RemoteDetails";
import { Why } from "./Why";

/** Stops its download, and deletes what is stored of a model. */
async function remove(model: ModelChoice): Promise<void> {
  dropDownload(model);
  await downloadStopped(model);
  if (model.origin === "added") return forgetAdded(model);
  const copy = storedCopy(model);
  if (copy !== undefined) await deleteStored(copy.key);
}

function Actions({ model }: { model: ModelChoice }) {
  const text = t.value;
  const [failed, setFailed] = useState(false);
  const copy = storedCopy(model);
  const download = downloadOf(model);
  const isHere = isAtHand(model);
  const isRunning = engine.value !== null && chosenModel.value?.id === model.id;
  const size = sizeOf(model);
  const isRemovable = (copy?.bytes ?? 0) > 0 || model.origin === "added" || download !== undefined;
  return (
    <>
      <div class="buttons">
        {!isRunning && (
          <button
            type="button"
            class="button primary"
            onClick={() => {
              dropDownload(model);
              dialog.value = null;
              switchTo(model);
            }}
          >
            {isHere
              ? text.useModel
              : size === null
                ? text.downloadAndStartUnknown
                : text.downloadAndStart(size)}
          </button>
        )}
        {!isHere &&
          (download === undefined || download.state === "paused" || download.state === "failed") && (
            <button type="button" class="button" onClick={() => queueDownload(model)}>
              {download === undefined ? text.downloadOnly : text.resume}
            </button>
          )}
        {(download?.state === "running" || download?.state === "waiting") && (
          <button type="button" class="button" onClick={() => pauseDownload(model)}>
            {text.pause}
          </button>
        )}
        {model.origin !== "file" && (
          <button type="button" class="button" onClick={() => void inspect(nameOf(model))}>
            {text.inspectIt}
          </button>
        )}
        {isRemovable && (
          <button
            type="button"
            class="button danger"
            aria-label={text.deleteModel(model.name)}
            onClick={() => void remove(model).catch(() => setFailed(true))}
          >
            <Icon name="trash" />
            {text.delete}
          </button>
        )}
      </div>
      {failed && (
        <p class="help" role="alert">
          {text.deleteFailed(model.name)}
        </p>
      )}
    </>
  );
}

/** What the package takes to inspect a model of the list. */
function nameOf(model: ModelChoice): string {
  return model.origin === "catalogue" ? model.id : (model.urls[0] ?? model.id);
}

/** One model of the list: what it is, whether it fits, and what can be done with it. */
export function ModelDetails({ model }: { model: ModelChoice }) {
  return model.remote ? <RemoteDetails model={model} remote={model.remote} /> : <Local model={model} />;
}

function Local({ model }: { model: ModelChoice }) {
  const text = t.value;
  const size = bytesOf(model);
  const fit = fitHere(size);
  // Every model of the catalogue reads all its weights for each token.
  const speed = model.origin === "catalogue" ? expectedSpeed(backend.value, size) : null;
  const room = estimate.value;
  const missing = (size ?? 0) - (storedCopy(model)?.bytes ?? 0);
  const hasRoom = model.origin === "file" || room === null || missing <= room.quota - room.usage;
  const strengths = model.strengths?.map((strength) => text.strengths[strength]);
  return (
    <section class="model-details" aria-labelledby="model-shown">
      <h3 id="model-shown">{model.name}</h3>
      {model.id === recommended.value?.id && <Why entry={recommended.value} />}
      {strengths !== undefined && <p>{text.goodAt(strengths.join(text.comma))}</p>}
      <p class="help">
        {joined([
          sizeOf(model),
          ...factsOf(model, text, false),
          speed === null || fit === "too-large" ? null : text.expectedSpeed(roughly(speed)),
          stateOf(model, text),
        ])}
      </p>
      {fit !== null && <p class={`verdict ${fit}`}>{text.fitVerdicts[fit]}</p>}
      {!hasRoom && room !== null && (
        <p class="verdict too-large">
          {text.noRoom(bytes(missing), bytes(Math.max(0, room.quota - room.usage)))}
        </p>
      )}
      {model.repo !== undefined && (
        <p class="help model-repo" translate={false}>
          {model.repo}
        </p>
      )}
      <Actions model={model} />
    </section>
  );
}
