import { t } from "../i18n";
import { explain } from "../lib/errors";
import { bytes, joined } from "../lib/format";
import { downloads, dropDownload, pauseDownload, queueDownload, type Download } from "../state/downloads";
import { Icon } from "./Icon";

function Row({ download }: { download: Download }) {
  const text = t.value;
  const { model, state, progress, error } = download;
  const isActive = state === "running" || state === "waiting";
  const percent = progress === null ? 0 : Math.floor((100 * progress.loaded) / Math.max(1, progress.total));
  const figures = progress === null ? null : text.ofBytes(bytes(progress.loaded), bytes(progress.total));
  const line = state === "failed" ? explain(error, text).title : text.downloadStates[state];
  return (
    <li class="download">
      <div class="download-head">
        <span>
          <strong>{model.name}</strong>
          <span class="help" role={state === "failed" ? "alert" : undefined}>
            {joined([line, figures])}
          </span>
        </span>
        <button
          type="button"
          class="button small"
          aria-label={isActive ? text.pauseDownload(model.name) : text.resumeDownload(model.name)}
          onClick={() => (isActive ? pauseDownload(model) : queueDownload(model))}
        >
          {isActive ? text.pause : text.resume}
        </button>
        <button
          type="button"
          class="icon-button small"
          aria-label={text.dropDownload(model.name)}
          title={text.dropDownload(model.name)}
          onClick={() => dropDownload(model)}
        >
          <Icon name="close" />
        </button>
      </div>
      <div
        class="progress"
        role="progressbar"
        aria-label={text.downloading(model.name)}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
      >
        <div style={{ inlineSize: `${percent}%` }} />
      </div>
    </li>
  );
}

/** The downloads that run, wait, or were paused. */
export function Downloads() {
  const text = t.value;
  if (downloads.value.length === 0) return null;
  return (
    <section class="downloads" aria-labelledby="downloads-title">
      <h3 id="downloads-title">{text.downloads}</h3>
      <ul>
        {downloads.value.map((download) => (
          <Row key={download.model.id} download={download} />
        ))}
      </ul>
    </section>
  );
}
