import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { explain } from "../lib/errors";
import { addressOf, hostOf, isLoopback } from "../lib/servers";
import { switchTo } from "../state/engine";
import { models } from "../state/models";
import { addServerModel, modelsOf, type RemoteModel } from "../state/servers";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";
import { Select } from "./Select";

type Asked =
  | { kind: "not" | "asking" | "wrong" }
  | { kind: "told"; names: readonly string[] }
  | { kind: "failed"; error: unknown };

/** Keeps the model, and takes it in place of the one in use. */
function take(remote: RemoteModel): void {
  addServerModel(remote);
  const { baseURL, model } = remote;
  const choice = models.value.find((one) => one.remote?.baseURL === baseURL && one.remote.model === model);
  if (choice === undefined) return;
  dialog.value = null;
  switchTo(choice);
}

/** One of the server's models, or a name where it has no list. */
function Choice({ names, onTake }: { names: readonly string[]; onTake: (model: string) => void }) {
  const text = t.value;
  const [chosen, setChosen] = useState(names[0] ?? "");
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector<HTMLElement>("select, input")?.focus(), []);
  const model = chosen.trim();
  return (
    <form
      ref={form}
      class="server-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (model !== "") onTake(model);
      }}
    >
      <p class="help" role="status">
        {names.length === 0 ? text.serverHasNoList : text.serverListed(names.length)}
      </p>
      <label class="field">
        <span>{text.serverModel}</span>
        {names.length === 0 ? (
          <input
            type="text"
            class="text-field"
            spellcheck={false}
            autocapitalize="off"
            value={chosen}
            onInput={(event) => setChosen(event.currentTarget.value)}
          />
        ) : (
          <Select value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
            {names.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </Select>
        )}
      </label>
      <button type="submit" class="button primary" disabled={model === ""}>
        {text.useModel}
      </button>
    </form>
  );
}

/** Adds a model on a server: its address, its key, and one of the models that it lists. */
export function ServerForm({ baseURL: begun, apiKey: kept }: { baseURL: string; apiKey: string }) {
  const text = t.value;
  const [address, setAddress] = useState(begun);
  const [key, setKey] = useState(kept);
  const [asked, setAsked] = useState<Asked>({ kind: "not" });
  const running = useRef<AbortController | null>(null);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    form.current?.querySelector("input")?.focus();
    return () => running.current?.abort();
  }, []);

  const baseURL = addressOf(address);
  const apiKey = key.trim();
  const change = (set: (value: string) => void) => (event: { currentTarget: HTMLInputElement }) => {
    set(event.currentTarget.value);
    running.current?.abort();
    setAsked({ kind: "not" });
  };
  const ask = async () => {
    if (baseURL === null) return setAsked({ kind: "wrong" });
    running.current?.abort();
    const controller = (running.current = new AbortController());
    setAsked({ kind: "asking" });
    let next: Asked;
    try {
      next = { kind: "told", names: await modelsOf(baseURL, apiKey, controller.signal) };
    } catch (error) {
      next = { kind: "failed", error };
    }
    if (!controller.signal.aborted) setAsked(next);
  };

  const isWrong = asked.kind === "wrong";
  const failure = asked.kind === "failed" ? explain(asked.error, text, { server: baseURL ?? "" }) : null;
  return (
    <section class="model-details" aria-labelledby="server-title">
      <h3 id="server-title">{text.serverTitle}</h3>
      <p class="help">{text.serverHelp}</p>
      <p class="not-private">
        <Icon name="alert" />
        {text.serverWarning}
      </p>
      <form
        ref={form}
        class="server-form"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void ask();
        }}
      >
        <label class="field">
          <span>{text.serverAddress}</span>
          <input
            type="url"
            inputMode="url"
            spellcheck={false}
            autocomplete="off"
            placeholder="https://host/v1"
            value={address}
            aria-invalid={isWrong}
            aria-describedby="server-address-help"
            onInput={change(setAddress)}
          />
        </label>
        <p id="server-address-help" class="help" role={isWrong ? "alert" : undefined}>
          {isWrong && text.serverAddressWrong}
          {baseURL?.startsWith("http:") === true && !isLoopback(baseURL) && text.serverUnencrypted}
        </p>
        <label class="field">
          <span>{text.serverKey}</span>
          <input
            type="password"
            class="text-field"
            autocomplete="off"
            value={key}
            aria-describedby="server-key-help"
            onInput={change(setKey)}
          />
        </label>
        <p id="server-key-help" class="help">
          {text.serverKeyHelp}
        </p>
        {asked.kind !== "told" && (
          <button type="submit" class="button primary" disabled={asked.kind === "asking"}>
            {asked.kind === "asking" && baseURL !== null
              ? text.connectingTo(hostOf({ baseURL }))
              : text.connect}
          </button>
        )}
      </form>
      {failure !== null && (
        <div role="alert">
          <p class="verdict too-large">{failure.title}</p>
          <p>{failure.help}</p>
          <p class="notice-detail" lang="en">
            {failure.detail}
          </p>
        </div>
      )}
      {asked.kind === "told" && baseURL !== null && (
        <Choice names={asked.names} onTake={(model) => take({ baseURL, apiKey, model })} />
      )}
    </section>
  );
}
