import { useState } from "preact/hooks";
import { ON_SERVERS, SAMPLED, type Own, type Sampled } from "../arena/contenders";
import { t } from "../i18n";
import { adapters } from "../state/adapters";
import {
  addContender,
  contenderOf,
  contenders,
  entrants,
  modelsHere,
  removeContender,
  setEntrant,
} from "../state/contenders";
import { inUse } from "../state/engine";
import { fullName } from "../state/models";
import { Icon } from "./Icon";
import { Select } from "./Select";

const NAMES = Object.keys(SAMPLED) as (keyof Sampled)[];

/** A contender of any model, with any adapter of the one in use, and any sampling. */
function NewContender() {
  const text = t.value;
  const [wanted, setWanted] = useState("");
  const [adapter, setAdapter] = useState<string | null>(null);
  const [sampled, setSampled] = useState<Sampled>({});
  const model = modelsHere.value.find(({ id }) => id === wanted) ?? modelsHere.value[0];
  if (model === undefined) return null;
  const learnt = model === inUse.value?.model ? adapters.value : [];
  const fields = model.remote === undefined ? NAMES : ON_SERVERS;
  const chosen = Object.entries(sampled).filter(([name]) => fields.includes(name as keyof Sampled));
  const own: Own = {
    model: model.id,
    adapter: learnt.some(({ name }) => name === adapter) ? adapter : null,
    sampled: Object.fromEntries(chosen),
  };
  const found = contenderOf(own);
  const isNew = found !== null && contenders.value.every(({ name }) => name !== found.name);
  return (
    <details class="new-contender">
      <summary>{text.newContender}</summary>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          if (!isNew) return;
          addContender(own);
          setSampled({});
        }}
      >
        <div class="field">
          <label for="contender-model">{text.model}</label>
          <Select
            id="contender-model"
            value={model.id}
            onChange={(event) => setWanted(event.currentTarget.value)}
          >
            {modelsHere.value.map((one) => (
              <option key={one.id} value={one.id}>
                {fullName(one) + (one.remote ? ` – ${text.notPrivate}` : "")}
              </option>
            ))}
          </Select>
        </div>
        {learnt.length > 0 && (
          <div class="field">
            <label for="contender-adapter">{text.adapterOfContender}</label>
            <Select
              id="contender-adapter"
              value={own.adapter ?? ""}
              onChange={(event) => setAdapter(event.currentTarget.value || null)}
            >
              <option value="">{text.noAdapter}</option>
              {learnt.map(({ name }) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </Select>
          </div>
        )}
        {fields.map((name) => {
          const [min, max, step] = SAMPLED[name];
          return (
            <div key={name} class="field">
              <label for={`contender-${name}`}>{text.sampled[name]}</label>
              <input
                id={`contender-${name}`}
                type="number"
                min={min}
                max={max}
                step={step === 1 ? 1 : "any"}
                placeholder={text.asUsual}
                value={sampled[name] ?? ""}
                onInput={(event) => {
                  const value = event.currentTarget.valueAsNumber;
                  const { [name]: _, ...others } = sampled;
                  const fits = value >= min && value <= max && (step < 1 || Number.isInteger(value));
                  setSampled(fits ? { ...others, [name]: value } : others);
                }}
              />
            </div>
          );
        })}
        <p class="help" role="status">
          {found === null ? "" : isNew ? found.name : text.contenderIsThere}
        </p>
        <button type="submit" class="button" disabled={!isNew}>
          {text.addContender}
        </button>
      </form>
    </details>
  );
}

/** Who takes part, to be ticked, and a form for more. */
export function ArenaEntrants() {
  const text = t.value;
  const list = entrants.value;
  return (
    <details>
      <summary>{text.entrants(list.length)}</summary>
      <ul class="entrants" aria-label={text.entrants(list.length)}>
        {contenders.value.map((one) => (
          <li key={one.name}>
            <label>
              <input
                type="checkbox"
                checked={list.includes(one)}
                onChange={(event) => setEntrant(one.name, event.currentTarget.checked)}
              />
              {one.name} {one.model.remote && <span class="tag not-private">{text.notPrivate}</span>}
            </label>
            {one.own && (
              <button
                type="button"
                class="icon-button small"
                aria-label={text.removeContender(one.name)}
                onClick={() => one.own && removeContender(one.own)}
              >
                <Icon name="trash" />
              </button>
            )}
          </li>
        ))}
      </ul>
      <NewContender />
    </details>
  );
}
