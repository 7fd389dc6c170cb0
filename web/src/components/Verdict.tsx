import type { HubRepository, ModelInspection } from "nomoat";
import { deviceMemory, fitOf } from "nomoat";
import { useId, useState } from "preact/hooks";
import { t } from "../i18n";
import { explain } from "../lib/errors";
import { bytes, joined, parameters, roughly, roundBytes } from "../lib/format";
import { queueDownload } from "../state/downloads";
import { switchTo } from "../state/engine";
import { inspect, type Inspection } from "../state/inspect";
import { addInspected, models, openFiles, storedCopy } from "../state/models";
import { backend } from "../state/recommend";
import { contextLengths, settings, updateSettings } from "../state/settings";
import { expectedSpeed } from "../state/speed";
import { dialog } from "../state/ui";
import { Select } from "./Select";
import { TakeModel } from "./TakeModel";

/** The files of a repository: another one can be taken. */
function Files({ repository, chosen }: { repository: HubRepository; chosen: string | undefined }) {
  const text = t.value;
  const current = repository.files.find(({ urls }) => urls[0] === chosen);
  return (
    <label class="field">
      <span>{text.fileOf(repository.id)}</span>
      <Select
        value={current?.path ?? ""}
        onChange={(event) => void inspect(repository.id, event.currentTarget.value)}
      >
        {repository.files.map(({ path, size, quantization }) => (
          <option key={path} value={path}>
            {joined([quantization || path, size === null ? null : roundBytes(size)])}
          </option>
        ))}
      </Select>
    </label>
  );
}

/** Memory for the weights and for a context of a length that can be tried out. */
function Memory({
  found,
  context,
  onChange,
}: {
  found: ModelInspection;
  context: number;
  onChange: (n: number) => void;
}) {
  const text = t.value;
  const lengths = contextLengths.filter((length) => length <= found.trainedContextLength);
  const kv = (found.kvBytes / Math.max(1, found.contextLength)) * context;
  return (
    <div class="field">
      <label for="context-tried">{text.labelled(text.contextLength, context.toLocaleString("en"))}</label>
      {lengths.length > 1 && (
        <input
          id="context-tried"
          type="range"
          min={0}
          max={lengths.length - 1}
          step={1}
          value={Math.max(0, lengths.indexOf(context))}
          aria-valuetext={context.toLocaleString("en")}
          onInput={(event) => onChange(lengths[event.currentTarget.valueAsNumber] ?? context)}
        />
      )}
      <p class="help" role="status">
        {text.memoryNeeded(bytes(found.weightBytes), bytes(kv), bytes(found.weightBytes + kv))}
      </p>
    </div>
  );
}

/** The files that were inspected; null if they were not opened here. */
function filesOf(model: ModelInspection["model"]): File[] | null {
  return Array.isArray(model) ? model : model instanceof File ? [model] : null;
}

function Found({ found }: { found: ModelInspection }) {
  const text = t.value;
  const most = found.trainedContextLength || Infinity;
  const [context, setContext] = useState(
    () =>
      contextLengths.filter((n) => n <= Math.min(most, settings.peek().contextLength)).at(-1) ??
      found.contextLength,
  );
  const verdict = useId();
  const { model, repository } = found;
  // What only lacks room may have it with a shorter context.
  const lacksRoom = found.problem?.code === "out_of_memory";
  const problem = lacksRoom ? null : found.problem;
  const runsOn = lacksRoom ? backend.value : found.runsOn;
  const needed = found.weightBytes + (found.kvBytes / Math.max(1, found.contextLength)) * context;
  const fit = runsOn === null ? found.fit : fitOf(needed, runsOn, deviceMemory());
  const canRun = problem === null && fit !== "too-large";
  const speed = expectedSpeed(runsOn, found.bytesPerToken);
  const files = filesOf(model);
  const choose = () => {
    updateSettings({ contextLength: context });
    if (files !== null) return openFiles(files, found);
    // A model of the list was inspected by its id.
    return typeof model === "string"
      ? (models.value.find(({ id }) => id === model) ?? addInspected(found))
      : addInspected(found);
  };
  const url = typeof model === "object" && "url" in model ? [model.url].flat()[0] : undefined;
  const known = models.value.find(({ id }) => id === (typeof model === "string" ? model : url));
  const copy = known && storedCopy(known);
  const isHere = files !== null || copy?.complete === true;
  return (
    <>
      <h3 id="verdict-title">{found.name || repository?.id}</h3>
      <p id={verdict} class={`verdict ${canRun ? fit : "too-large"}`} role="status">
        {canRun && runsOn !== null
          ? joined([
              text.runsOn[runsOn],
              speed === null ? null : text.expectedSpeed(roughly(speed)),
              fit === "fits" ? null : text.fitVerdicts[fit],
            ])
          : joined([text.runsNot, problem === null ? text.fitVerdicts["too-large"] : null])}
      </p>
      {problem !== null && (
        <p class="notice-detail" lang="en">
          {problem.message}
        </p>
      )}
      <p class="help">
        {joined([
          bytes(found.size),
          text.parameterCount(parameters(found.parameters)),
          found.architecture,
          found.quantization,
          found.trainedContextLength > 0 ? text.contextOf(found.trainedContextLength) : null,
          found.hasChatTemplate ? text.withTemplate : text.withoutTemplate,
          found.license ?? text.noLicense,
        ])}
      </p>
      {repository !== null && <Files repository={repository} chosen={url} />}
      {found.weightBytes > 0 && <Memory found={found} context={context} onChange={setContext} />}
      {problem === null && (
        <TakeModel
          id={url ?? found.name}
          fit={fit}
          needed={needed}
          size={roundBytes(found.size)}
          isAgreed={isHere || (copy?.bytes ?? 0) > 0}
          startLabel={isHere ? text.useModel : text.downloadAndStart(roundBytes(found.size))}
          onStart={() => {
            const chosen = choose();
            if (chosen === null) return;
            dialog.value = null;
            switchTo(chosen);
          }}
          downloadLabel={text.downloadOnly}
          onDownload={
            isHere
              ? null
              : () => {
                  const chosen = choose();
                  if (chosen !== null) queueDownload(chosen);
                }
          }
          reason={verdict}
        />
      )}
    </>
  );
}

/** What is known of a model before its download: whether it runs here, and what it needs. */
export function Verdict({ state }: { state: Exclude<Inspection, { kind: "server" }> }) {
  const text = t.value;
  return (
    <section class="model-details" aria-labelledby="verdict-title">
      {state.kind === "running" && (
        <>
          <h3 id="verdict-title">{state.what}</h3>
          <p role="status">{text.inspecting}</p>
        </>
      )}
      {state.kind === "failed" && <Failed {...state} />}
      {state.kind === "done" && (
        <Found key={`${state.what} ${JSON.stringify(state.found.model)}`} found={state.found} />
      )}
    </section>
  );
}

function Failed({ what, error, isOwnFile = false }: Extract<Inspection, { kind: "failed" }>) {
  const text = t.value;
  const { title, help, detail } = explain(error, text, { isOwnFile });
  return (
    <div role="alert">
      <h3 id="verdict-title">{title}</h3>
      <p>{help}</p>
      <p class="notice-detail" lang="en">
        {detail}
      </p>
      {!isOwnFile && (
        <button type="button" class="button" onClick={() => void inspect(what)}>
          {text.tryAgain}
        </button>
      )}
    </div>
  );
}
