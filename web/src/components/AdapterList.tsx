import type { AdapterInfo } from "nomoat";
import { useState } from "preact/hooks";
import { t } from "../i18n";
import { explain } from "../lib/errors";
import {
  adapters,
  adaptersError,
  exportAdapter,
  importAdapters,
  isFreeName,
  removeAdapter,
  renameAdapter,
  setStrength,
  strengths,
  trainings,
} from "../state/adapters";

function NewName({ name, close }: { name: string; close: () => void }) {
  const text = t.value;
  const [draft, setDraft] = useState(name);
  const to = draft.trim();
  const isSame = to === name;
  return (
    <form
      class="adapter-name"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isSame && !isFreeName(to)) return;
        if (!isSame) void renameAdapter(name, to);
        close();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.preventDefault(); // The dialog stays.
        close();
      }}
    >
      <input
        ref={(input) => input?.focus()}
        type="text"
        class="text-field"
        aria-label={text.nameOfAdapter}
        value={draft}
        onInput={(event) => setDraft(event.currentTarget.value)}
      />
      <button type="submit" class="button small" disabled={!isSame && !isFreeName(to)}>
        {text.saveExample}
      </button>
    </form>
  );
}

function AdapterRow({ adapter: { name, formats } }: { adapter: AdapterInfo }) {
  const text = t.value;
  const [isRenaming, setRenaming] = useState(false);
  const { on, scale } = strengths.value.get(name) ?? { on: false, scale: 1 };
  return (
    <li class="adapter">
      {isRenaming ? (
        <NewName name={name} close={() => setRenaming(false)} />
      ) : (
        <label>
          <input
            type="checkbox"
            role="switch"
            checked={on}
            onChange={(event) => setStrength(name, { on: event.currentTarget.checked })}
          />
          {name}
        </label>
      )}
      <label>
        {text.strength(scale)}
        <input
          type="range"
          min={0}
          max={2}
          step={0.1}
          value={scale}
          aria-label={text.strengthOf(name)}
          onInput={(event) => setStrength(name, { scale: event.currentTarget.valueAsNumber })}
        />
      </label>
      <div class="row">
        {!trainings.value.includes(name) && (
          <button
            type="button"
            class="quiet-button"
            aria-label={text.renameAdapter(name)}
            aria-expanded={isRenaming}
            onClick={() => setRenaming(!isRenaming)}
          >
            {text.rename}
          </button>
        )}
        {formats.includes("peft") && (
          <button type="button" class="quiet-button" onClick={() => void exportAdapter(name, "peft")}>
            {text.exportPeft}
          </button>
        )}
        {formats.includes("gguf") && (
          <button type="button" class="quiet-button" onClick={() => void exportAdapter(name, "gguf")}>
            {text.exportGguf}
          </button>
        )}
        <button type="button" class="quiet-button" onClick={() => void removeAdapter(name)}>
          {text.remove}
        </button>
      </div>
    </li>
  );
}

/** The adapters of the model: each with a switch, a strength, and what can be done with it. */
export function AdapterList() {
  const text = t.value;
  const take = (files: FileList | null | undefined) => void importAdapters([...(files ?? [])]);
  return (
    <section
      aria-label={text.adapters}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        take(event.dataTransfer?.files);
      }}
    >
      <h3>{text.adapters}</h3>
      {adapters.value.length === 0 && <p class="help">{text.noAdapters}</p>}
      <ul class="lessons">
        {adapters.value.map((adapter) => (
          <AdapterRow key={adapter.name} adapter={adapter} />
        ))}
      </ul>
      {adaptersError.value !== null && (
        <p role="alert" class="help">
          {explain(adaptersError.value, text).title}
        </p>
      )}
      <label class="button file-button">
        {text.importAdapter}
        <input
          type="file"
          multiple
          class="visually-hidden"
          accept=".gguf,.safetensors,.json,.zip"
          onChange={(event) => {
            take(event.currentTarget.files);
            event.currentTarget.value = "";
          }}
        />
      </label>
    </section>
  );
}
