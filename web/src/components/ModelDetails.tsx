import { useId, useState } from "preact/hooks";
import { t } from "../i18n";
import { bytes, joined, roughly } from "../lib/format";
import { downloadOf, downloadStopped, dropDownload, pauseDownload, queueDownload } from "../state/downloads";
import { deleteStored, engine, forgetAdded, switchTo } from "../state/engine";
import { inspect } from "../state/inspect";
import {
  bytesOf,
  chosenModel,
  estimate,
  fitOfModel,
  isAtHand,
  isContextTooLong,
  isDoubtful,
  memoryOf,
  storedCopy,
  type ModelChoice,
} from "../state/models";
import { backend, contextHere, recommended } from "../state/recommend";
import { expectedSpeed } from "../state/speed";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";
import { factsOf, sizeOf, stateOf } from "./ModelPicker";
import { RemoteDetails } from "./RemoteDetails";
import { TakeModel } from "./TakeModel";
import { Why } from "./Why";

/** Stops its download, and deletes what is stored of a model. */
async function remove(model: ModelChoice): Promise<void> {
  dropDownload(model);
  await downloadStopped(model);
  if (model.origin === "added") return forgetAdded(model);
  const copy = storedCopy(model);
  if (copy !== undefined) await deleteStored(copy.key);
}

function Actions({ model, reason }: { model: ModelChoice; reason: string }) {
  const text = t.value;
  const [failed, setFailed] = useState(false);
  const copy = storedCopy(model);
  const download = downloadOf(model);
  const isHere = isAtHand(model);
  const isRunning = engine.value !== null && chosenModel.value?.id === model.id;
  const isUnderWay = download?.state === "running" || download?.state === "waiting";
  const size = sizeOf(model);
  const isRemovable = (copy?.bytes ?? 0) > 0 || model.origin === "added" || download !== undefined;
  return (
    <>
      <TakeModel
        id={model.id}
        fit={fitOfModel(model)}
        needed={memoryOf(model)}
        size={size}
        isAgreed={!isDoubtful(model)}
        startLabel={
          isHere ? text.useModel : size === null ? text.downloadAndStartUnknown : text.downloadAndStart(size)
        }
        onStart={
          isRunning
            ? null
            : () => {
                dropDownload(model);
                dialog.value = null;
                switchTo(model);
              }
        }
        downloadLabel={download === undefined ? text.downloadOnly : text.resume}
        onDownload={isHere || isUnderWay ? null : () => queueDownload(model)}
        reason={reason}
      >
        {isUnderWay && (
          <button type="button" class="button" onClick={() => pauseDownload(model)}>
            {text.pause}
          </button>
        )}
        <button type="button" class="button" onClick={() => void inspect(nameOf(model))}>
          {text.inspectIt}
        </button>
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
      </TakeModel>
      {failed && (
        <p class="help" role="alert">
          {text.deleteFailed(model.name)}
        </p>
      )}
    </>
  );
}

/** What the package takes to inspect a model of the list. */
function nameOf({ origin, id, source, urls }: ModelChoice): string | readonly File[] {
  if (Array.isArray(source)) return source;
  return origin === "catalogue" ? id : (urls[0] ?? id);
}

/** One model of the list: what it is, whether it fits, and what can be done with it. */
export function ModelDetails({ model }: { model: ModelChoice }) {
  return model.remote ? <RemoteDetails model={model} remote={model.remote} /> : <Local model={model} />;
}

function Local({ model }: { model: ModelChoice }) {
  const text = t.value;
  const size = bytesOf(model);
  const fit = fitOfModel(model);
  const isTooLong = isContextTooLong(model);
  const needed = memoryOf(model);
  const verdict = useId();
  // Models of the catalogue read about all their weights for each token.
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
      {fit !== null && needed !== null && (
        <p id={verdict} class={`verdict ${fit}`}>
          {text.needsMemory(
            bytes(needed),
            contextHere(model),
            isTooLong ? text.contextTooLong : text.fitVerdicts[fit],
          )}
        </p>
      )}
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
      <Actions model={model} reason={verdict} />
    </section>
  );
}
