import type { LoadProgress } from "nomoat";
import { t, type Dictionary } from "../i18n";
import { bytes, joined, roundBytes } from "../lib/format";
import { hostOf } from "../lib/servers";
import { cancelLoadingAndQuestion, retry, stop, waiting } from "../state/chat";
import { engineState, startModel } from "../state/engine";
import {
  bytesOf,
  chosenModel,
  fitOfModel,
  isAtHand,
  isContextTooLong,
  isDoubtful,
  isRecommendation,
  memoryOf,
  storedCopy,
  storedModelsKnown,
} from "../state/models";
import type { ModelChoice } from "../state/models";
import { recommended } from "../state/recommend";
import { dialog, refocusMessage } from "../state/ui";
import { ErrorNotice } from "./ErrorNotice";
import { sizeOf } from "./ModelPicker";
import { TakeModel } from "./TakeModel";
import { Why } from "./Why";

function startLabel(model: ModelChoice, text: Dictionary): string {
  if (isAtHand(model)) return text.start;
  const copy = storedCopy(model);
  const size = bytesOf(model);
  if (size === null) return text.downloadAndStartUnknown;
  if (copy !== undefined && copy.bytes > 0) return text.continueDownload(roundBytes(size - copy.bytes));
  return text.downloadAndStart(sizeOf(model) ?? roundBytes(size));
}

function Consent({ model }: { model: ModelChoice }) {
  const text = t.value;
  const fit = fitOfModel(model);
  const local = isAtHand(model);
  return (
    <section class="card consent">
      <TakeModel
        id={model.id}
        fit={fit}
        needed={memoryOf(model)}
        size={sizeOf(model)}
        isAgreed={!isDoubtful(model)}
        startLabel={startLabel(model, text)}
        onStart={() => {
          void startModel();
          refocusMessage();
        }}
        onCancel={() => {
          if (waiting.value) stop();
        }}
        reason="has-no-room"
      >
        {fit === "too-large" && (
          <button type="button" class="button" onClick={() => (dialog.value = "models")}>
            {text.chooseModel}
          </button>
        )}
      </TakeModel>
      {fit === "too-large" && (
        <p id="has-no-room" class="verdict too-large">
          {isContextTooLong(model) ? text.contextTooLong : text.fitVerdicts[fit]}
        </p>
      )}
      {!local && isRecommendation.value && recommended.value !== null && <Why entry={recommended.value} />}
      {!local && fit !== "too-large" && <p>{text.consent}</p>}
    </section>
  );
}

function phaseTitle(progress: LoadProgress | null, name: string, text: Dictionary): string {
  switch (progress?.phase) {
    case "device":
      return text.preparingDevice;
    case "download":
      return text.downloading(name);
    case "load":
      return text.loadingOntoDevice(name);
    default:
      return text.loadingModel(name);
  }
}

function Loading({ model, progress }: { model: ModelChoice; progress: LoadProgress | null }) {
  const text = t.value;
  const { name, remote } = model;
  const title = remote ? text.connectingTo(hostOf(remote)) : phaseTitle(progress, name, text);
  const known = progress !== null && progress.phase !== "device" && progress.total > 0;
  const percent = known ? Math.floor((100 * progress.loaded) / progress.total) : 0;
  const parts = known ? [text.ofBytes(bytes(progress.loaded), bytes(progress.total))] : [];
  if (progress?.phase === "download" && progress.bytesPerSecond === 0) parts.push(text.stalled);
  else if (progress?.phase === "download") {
    parts.push(text.perSecond(bytes(progress.bytesPerSecond)));
    if (progress.secondsLeft !== null) parts.push(text.secondsLeft(Math.ceil(progress.secondsLeft)));
  }
  return (
    <section class="card loading">
      <div class="loading-head">
        <h2>{title}</h2>
        <button type="button" class="button" onClick={cancelLoadingAndQuestion}>
          {text.cancel}
        </button>
      </div>
      <div
        class={known ? "progress" : "progress indeterminate"}
        role="progressbar"
        aria-label={title}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={known ? percent : undefined}
        aria-valuetext={known ? `${percent}% – ${parts.join(", ")}` : title}
      >
        <div style={{ inlineSize: `${percent}%` }} />
      </div>
      <p class="loading-figures">{joined(parts)}</p>
    </section>
  );
}

/**
 * What is still needed before the model can answer: consent to a download, loading, or a way out of an error.
 */
export function ModelStatus() {
  const state = engineState.value;
  const model = chosenModel.value;
  switch (state.kind) {
    case "ready":
      return null;
    case "loading":
      return <Loading model={state.model} progress={state.progress} />;
    case "failed":
      return <ErrorNotice error={state.error} onRetry={retry} />;
    case "idle":
      return model !== null && storedModelsKnown.value ? <Consent model={model} /> : null;
  }
}
