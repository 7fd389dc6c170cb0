import { useEffect, useRef, useState } from "preact/hooks";
import { requestPersistentStorage } from "nomoat";
import type { StoredModel } from "nomoat";
import { t } from "../i18n";
import { bytes, joined } from "../lib/format";
import { deleteStored } from "../state/engine";
import { chosenModel, estimate, refreshStorage, storedCopy, storedModels } from "../state/models";
import { settings, updateSettings } from "../state/settings";
import { exportConversations, importConversations } from "../state/transfer";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";

function Persistence({ persisted }: { persisted: boolean }) {
  const text = t.value;
  const [refused, setRefused] = useState(false);
  if (persisted) return <p class="help">{text.persistent}</p>;
  return (
    <>
      <p class="help" role="status">
        {refused ? text.persistentRefused : text.notPersistent}
      </p>
      <button
        type="button"
        class="button"
        onClick={() =>
          void requestPersistentStorage()
            .catch(() => false)
            .then(async (granted) => {
              setRefused(!granted);
              await refreshStorage();
            })
        }
      >
        {text.askPersistent}
      </button>
    </>
  );
}

function Row({ stored }: { stored: StoredModel }) {
  const text = t.value;
  const [failed, setFailed] = useState(false);
  const name = stored.name || text.unknownModel;
  const chosen = chosenModel.value;
  const inUse = chosen !== null && storedCopy(chosen)?.key === stored.key;
  const percent = Math.floor((100 * stored.bytes) / Math.max(1, stored.totalBytes));
  const facts = [bytes(stored.shared ? stored.totalBytes : stored.bytes)];
  if (stored.shared) facts.push(text.storedForAll);
  if (!stored.complete && stored.name !== "") facts.push(text.partly(percent));
  if (inUse) facts.push(text.inUse);
  return (
    <li class="stored">
      <div>
        <strong>{name}</strong>
        <span class="help">{joined(facts)}</span>
        {failed && (
          <span class="help" role="alert">
            {text.deleteFailed(name)}
          </span>
        )}
      </div>
      <button
        type="button"
        class="button danger"
        aria-label={text.deleteModel(name)}
        onClick={() => void deleteStored(stored.key).catch(() => setFailed(true))}
      >
        <Icon name="trash" />
        {text.delete}
      </button>
    </li>
  );
}

/** Whether models may come from the browser's storage for all sites; few browsers have one. */
function SharedStorage() {
  const text = t.value;
  if (!("crossOriginStorage" in navigator)) return null;
  return (
    <div class="field">
      <label>
        <input
          type="checkbox"
          aria-describedby="shared-storage-help"
          checked={settings.value.shareModels}
          onChange={(event) => updateSettings({ shareModels: event.currentTarget.checked })}
        />
        {text.sharedStorage}
      </label>
      <p id="shared-storage-help" class="help">
        {text.sharedStorageHelp}
      </p>
    </div>
  );
}

function Transfer() {
  const text = t.value;
  const input = useRef<HTMLInputElement>(null);
  return (
    <section>
      <h3>{text.storedConversations}</h3>
      <div class="buttons">
        <button type="button" class="button" onClick={() => void exportConversations("json")}>
          {text.exportAll}
        </button>
        <button type="button" class="button" onClick={() => void exportConversations("markdown")}>
          {text.exportMarkdown}
        </button>
        <button type="button" class="button" onClick={() => input.current?.click()}>
          {text.importAll}
        </button>
        <input
          ref={input}
          type="file"
          accept=".json,application/json"
          hidden
          aria-label={text.importAll}
          onChange={(event) => {
            const [file] = event.currentTarget.files ?? [];
            event.currentTarget.value = "";
            if (file !== undefined) void importConversations(file);
          }}
        />
      </div>
      <p class="help">{text.exportHelp}</p>
    </section>
  );
}

function Contents() {
  const text = t.value;
  const room = estimate.value;
  useEffect(() => void refreshStorage(), []);
  return (
    <>
      {room !== null && (
        <section>
          <meter min={0} max={room.quota} value={room.usage} aria-labelledby="storage-used" />
          <p id="storage-used">{text.storageUsed(bytes(room.usage), bytes(room.quota))}</p>
          <Persistence persisted={room.persisted} />
        </section>
      )}
      <section>
        <h3>{text.storedModels}</h3>
        {storedModels.value.length === 0 ? (
          <p class="help">{text.noStoredModels}</p>
        ) : (
          <ul class="stored-list">
            {storedModels.value.map((stored) => (
              <Row key={stored.key} stored={stored} />
            ))}
          </ul>
        )}
        <SharedStorage />
      </section>
      <Transfer />
    </>
  );
}

/** The storage that the page uses, and ways to free it. */
export function StorageDialog() {
  return (
    <Dialog name="storage" title={t.value.storage}>
      <Contents />
    </Dialog>
  );
}
