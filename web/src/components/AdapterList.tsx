import { t } from "../i18n";
import {
  adapters,
  exportAdapter,
  importAdapter,
  removeAdapter,
  setStrength,
  strengths,
} from "../state/teach";

/** The adapters of the model: each with a switch, a strength, and what can be done with it. */
export function AdapterList() {
  const text = t.value;
  return (
    <section
      aria-label={text.adapters}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        void importAdapter([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <h3>{text.adapters}</h3>
      {adapters.value.length === 0 && <p class="help">{text.noAdapters}</p>}
      <ul class="lessons">
        {adapters.value.map(({ name }) => {
          const { on, scale } = strengths.value.get(name) ?? { on: false, scale: 1 };
          return (
            <li key={name} class="adapter">
              <label>
                <input
                  type="checkbox"
                  role="switch"
                  checked={on}
                  onChange={(event) => setStrength(name, { on: event.currentTarget.checked })}
                />
                {name}
              </label>
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
                <button type="button" class="quiet-button" onClick={() => void exportAdapter(name, "peft")}>
                  {text.exportPeft}
                </button>
                <button type="button" class="quiet-button" onClick={() => void exportAdapter(name, "gguf")}>
                  {text.exportGguf}
                </button>
                <button type="button" class="quiet-button" onClick={() => void removeAdapter(name)}>
                  {text.remove}
                </button>
              </div>
            </li>
          );
        })}
      </ul>
      <label class="button file-button">
        {text.importAdapter}
        <input
          type="file"
          multiple
          class="visually-hidden"
          accept=".gguf,.safetensors,.json"
          onChange={(event) => {
            void importAdapter([...(event.currentTarget.files ?? [])]);
            event.currentTarget.value = "";
          }}
        />
      </label>
    </section>
  );
}
