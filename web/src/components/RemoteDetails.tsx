import { t } from "../i18n";
import { hostOf } from "../lib/servers";
import { engine, forgetRemote, switchTo } from "../state/engine";
import { showServerForm } from "../state/inspect";
import { chosenModel, type ModelChoice } from "../state/models";
import { servers, type RemoteModel } from "../state/servers";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

/** A model on a server: where it is, what that means, and what can be done with it. */
export function RemoteDetails({ model, remote }: { model: ModelChoice; remote: RemoteModel }) {
  const text = t.value;
  const host = hostOf(remote);
  const isRunning = engine.value !== null && chosenModel.value?.id === model.id;
  const isOnly = servers.value.find(({ baseURL }) => baseURL === remote.baseURL)?.models.length === 1;
  return (
    <section class="model-details" aria-labelledby="model-shown">
      <h3 id="model-shown">{model.name}</h3>
      <p class="help model-repo" translate={false}>
        {remote.baseURL}
      </p>
      <p class="not-private">
        <Icon name="alert" />
        {text.notPrivateLine(host)}
      </p>
      <p class="help">
        {text.serverNoMemory} {remote.apiKey !== "" && text.serverHasKey}
      </p>
      <div class="buttons">
        {!isRunning && (
          <button
            type="button"
            class="button primary"
            onClick={() => {
              dialog.value = null;
              switchTo(model);
            }}
          >
            {text.useModel}
          </button>
        )}
        <button type="button" class="button" onClick={() => showServerForm(remote)}>
          {text.otherOnServer}
        </button>
        {!isOnly && (
          <button
            type="button"
            class="button danger"
            aria-label={text.deleteModel(model.name)}
            onClick={() => forgetRemote(remote, "model")}
          >
            <Icon name="trash" />
            {text.delete}
          </button>
        )}
        <button
          type="button"
          class="button danger"
          aria-label={`${text.deleteServer}: ${host}`}
          onClick={() => forgetRemote(remote, "server")}
        >
          <Icon name="trash" />
          {text.deleteServer}
        </button>
      </div>
    </section>
  );
}
