import { useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { openAndStart } from "../state/files";
import { followChoice, forgetAdded } from "../state/engine";
import { addByUrl, models } from "../state/models";
import { dialog } from "../state/ui";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";

function ByUrl() {
  const text = t.value;
  const [urls, setUrls] = useState("");
  const [invalid, setInvalid] = useState(false);
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        const added = addByUrl(urls);
        setInvalid(!added);
        if (!added) return;
        dialog.value = null;
        followChoice();
      }}
    >
      <label for="model-url">{text.url}</label>
      <textarea
        id="model-url"
        rows={2}
        spellcheck={false}
        inputMode="url"
        placeholder="https://…/model.gguf"
        value={urls}
        aria-invalid={invalid}
        aria-describedby="model-url-help"
        onInput={(event) => {
          setUrls(event.currentTarget.value);
          setInvalid(false);
        }}
      />
      <p id="model-url-help" class="help" role={invalid ? "alert" : undefined}>
        {invalid ? text.urlInvalid : text.urlHelp}
      </p>
      <button type="submit" class="button" disabled={urls.trim() === ""}>
        {text.add}
      </button>
    </form>
  );
}

function Added() {
  const text = t.value;
  const added = models.value.filter((model) => model.origin === "added");
  if (added.length === 0) return null;
  return (
    <section>
      <h3>{text.added}</h3>
      <ul class="stored-list">
        {added.map((model) => (
          <li key={model.id} class="stored">
            <div>
              <strong>{model.name}</strong>
              <span class="help">{model.urls[0]}</span>
            </div>
            <button
              type="button"
              class="button danger"
              aria-label={text.deleteModel(model.name)}
              onClick={() => void forgetAdded(model).catch(() => undefined)}
            >
              <Icon name="trash" />
              {text.delete}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Opens a model of the person's own: from files, or from an address. */
export function AddModelDialog() {
  const text = t.value;
  const input = useRef<HTMLInputElement>(null);
  return (
    <Dialog name="addModel" title={text.addModel}>
      <p class="help">{text.addModelHelp}</p>
      <div class="field">
        <input
          ref={input}
          type="file"
          accept=".gguf"
          multiple
          hidden
          aria-label={text.openFile}
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            if (files.length > 0) void openAndStart(files);
          }}
        />
        <button type="button" class="button primary" onClick={() => input.current?.click()}>
          <Icon name="file" />
          {text.openFile}
        </button>
        <p class="help">{text.openFileHelp}</p>
      </div>
      <hr />
      <ByUrl />
      <Added />
    </Dialog>
  );
}
