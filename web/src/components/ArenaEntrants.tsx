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
import { Field } from "./Field";
import { Icon } from "./Icon";
import { Select } from "./Select";

const NAMES = Object.keys(SAMPLED) as (keyof Sampled)[];

/** A contender of any model, with any adapter of the one in use, and any sampling. */
function NewContender() {
  const text = t.value;
  const [wanted, setWanted] = useState("");
  const [adapter, setAdapter] = useState<string | null>(null);
  // What was typed, so that a number can be typed digit by digit.
  const [typed, setTyped] = useState<Partial<Record<keyof Sampled, string>>>({});
  const model = modelsHere.value.find(({ id }) => id === wanted) ?? modelsHere.value[0];
  if (model === undefined) return null;
  const learnt = model === inUse.value?.model ? adapters.value : [];
  const fields = model.remote === undefined ? NAMES : ON_SERVERS;
  const sampled: Sampled = {};
  for (const name of fields) {
    const [min, max, step] = SAMPLED[name];
    const value = Number(typed[name] || Number.NaN);
    if (value >= min && value <= max && (step === "any" || Number.isInteger(value))) sampled[name] = value;
  }
  const own: Own = {
    model: model.id,
    adapter: learnt.some(({ name }) => name === adapter) ? adapter : null,
    sampled,
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
          if (found === null || !isNew) return;
          addContender(found);
          setTyped({});
        }}
      >
        <Field id="contender-model" label={text.model}>
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
        </Field>
        {learnt.length > 0 && (
          <Field id="contender-adapter" label={text.adapterOfContender}>
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
          </Field>
        )}
        {fields.map((name) => {
          const [min, max, step] = SAMPLED[name];
          return (
            <Field key={name} id={`contender-${name}`} label={text.sampled[name]}>
              <input
                id={`contender-${name}`}
                type="number"
                min={min}
                max={max}
                step={step}
                placeholder={text.asUsual}
                value={typed[name] ?? ""}
                onInput={(event) => setTyped({ ...typed, [name]: event.currentTarget.value })}
              />
            </Field>
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
