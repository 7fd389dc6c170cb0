import type { Signal } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t, type Dictionary } from "../i18n";
import { hasWords } from "../lib/text";
import { switchTo } from "../state/engine";
import { clearInspection, inspect, namesModel } from "../state/inspect";
import { fitOfModel, isDoubtful, models, storedCopy, type ModelChoice } from "../state/models";
import { recommended } from "../state/recommend";
import { dialog, doubt } from "../state/ui";
import { Icon } from "./Icon";
import { ModelRow } from "./ModelRow";

interface Group {
  label: string;
  list: ModelChoice[];
}

/** Whether every word of the search is in the model's texts. */
function matches(model: ModelChoice, search: string, text: Dictionary): boolean {
  const { name, id, license, description, repo, strengths } = model;
  const strong = strengths?.map((strength) => text.strengths[strength]);
  const all = [name, id, license, description, repo, strong?.join(" ")].join(" ");
  return hasWords(all, search);
}

/** Each model once: on this device, recommended, on the server, or the rest. */
function groupsOf(search: string, text: Dictionary): Group[] {
  const found = models.value.filter((model) => matches(model, search, text));
  const isHere = (model: ModelChoice) => model.origin === "file" || (storedCopy(model)?.bytes ?? 0) > 0;
  const isRecommended = (model: ModelChoice) => model.id === recommended.value?.id;
  const rest = found.filter((model) => !isHere(model) && !isRecommended(model));
  return [
    { label: text.onThisDevice, list: found.filter(isHere) },
    { label: text.recommended, list: found.filter((model) => !isHere(model) && isRecommended(model)) },
    { label: text.onOtherServers, list: rest.filter(({ origin }) => origin === "remote") },
    { label: text.fromServer, list: rest.filter(({ origin }) => origin === "server") },
    { label: text.added, list: rest.filter(({ origin }) => origin === "added") },
    { label: text.catalogue, list: rest.filter(({ origin }) => origin === "catalogue") },
  ].filter(({ list }) => list.length > 0);
}

/**
 * A search box and the models that it finds: ARIA's combobox with a listbox. The focus stays in the box, the
 * arrow keys move through the list, and Enter takes the model.
 */
export function ModelList({ active }: { active: Signal<string | null> }) {
  const text = t.value;
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const [search, setSearch] = useState("");
  const isName = namesModel(search);
  const groups = groupsOf(isName ? "" : search, text);
  const order = groups.flatMap((group) => group.list);
  const index = order.findIndex((model) => model.id === active.value);
  const optionId = (model: ModelChoice | undefined) =>
    model ? `${id}-${models.value.indexOf(model)}` : undefined;

  const show = (model: ModelChoice | undefined) => {
    if (model === undefined) return;
    clearInspection();
    doubt.value = null;
    active.value = model.id;
  };

  useEffect(() => {
    const option = document.getElementById(optionId(order[index]) ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }, [active.value, search]);

  const take = (model: ModelChoice) => {
    // What has no room stays shown with the reason.
    if (fitOfModel(model) === "too-large") return;
    if (isDoubtful(model)) {
      doubt.value = { id: model.id, then: "start" };
      return;
    }
    dialog.value = null;
    switchTo(model);
  };

  const change = (value: string) => {
    setSearch(value);
    clearInspection();
    if (namesModel(value)) return;
    const [first] = groupsOf(value, text).flatMap((group) => group.list);
    if (value !== "" && first !== undefined) active.value = first.id;
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: Math.min(index + 5, order.length - 1),
      PageUp: Math.max(index - 5, 0),
    };
    const to = steps[event.key];
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      const model = order[index];
      if (isName) void inspect(search.trim());
      else if (model !== undefined) take(model);
    } else if (to !== undefined && order.length > 0) {
      event.preventDefault();
      show(order[(to + order.length) % order.length]);
    }
  };

  return (
    <div class="models-list">
      <div class="search-box">
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          // A touch screen's keyboard would cover the list.
          autofocus={matchMedia("(pointer: fine)").matches}
          autocomplete="off"
          spellcheck={false}
          aria-label={text.searchModels}
          placeholder={text.searchModelsHint}
          aria-expanded={order.length > 0}
          aria-controls={`${id}-list`}
          aria-autocomplete="list"
          aria-activedescendant={isName ? undefined : optionId(order[index])}
          value={search}
          onInput={(event) => change(event.currentTarget.value)}
          onPaste={(event) => {
            const pasted = event.clipboardData?.getData("text").trim() ?? "";
            if (search !== "" || !namesModel(pasted)) return;
            event.preventDefault();
            change(pasted);
            void inspect(pasted);
          }}
          onKeyDown={onKeyDown}
        />
      </div>
      {isName && (
        <button type="button" class="button" onClick={() => void inspect(search.trim())}>
          {text.inspectName(search.trim())}
        </button>
      )}
      <div ref={list} id={`${id}-list`} class="models-options" role="listbox" aria-label={text.models}>
        {groups.map((group, number) => (
          <div key={group.label} role="group" aria-labelledby={`${id}-group-${number}`}>
            <h3 id={`${id}-group-${number}`}>{group.label}</h3>
            {group.list.map((model) => (
              <ModelRow
                key={model.id}
                id={optionId(model) ?? ""}
                model={model}
                isActive={!isName && model.id === active.value}
                onShow={() => show(model)}
              />
            ))}
          </div>
        ))}
      </div>
      <p class="help" role="status">
        {order.length === 0 ? text.noModelFound : ""}
      </p>
    </div>
  );
}
