import { t } from "../i18n";
import { explain, type Remedy } from "../lib/errors";
import { continueOnCpu, editLast, newChat, removeQuestion, unanswered } from "../state/chat";
import { serverInUse } from "../state/engine";
import { chosenModel } from "../state/models";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

interface ErrorNoticeProps {
  error: unknown;
  onRetry: () => void;
}

/** What is wrong, what helps, and buttons that do it. */
export function ErrorNotice({ error, onRetry }: ErrorNoticeProps) {
  const text = t.value;
  const { title, help, detail, remedies } = explain(error, text, {
    isOwnFile: chosenModel.value?.origin === "file",
    server: serverInUse.value?.baseURL,
  });
  const actions: Record<Remedy, { label: string; act: () => void }> = {
    retry: { label: text.tryAgain, act: onRetry },
    storage: { label: text.openStorage, act: () => (dialog.value = "storage") },
    settings: { label: text.openSettings, act: () => (dialog.value = "settings") },
    models: { label: text.chooseModel, act: () => (dialog.value = "models") },
    cpu: { label: text.continueOnCpu, act: continueOnCpu },
    reload: { label: text.reload, act: () => location.reload() },
    newChat: { label: text.newChat, act: () => void newChat() },
    edit: { label: text.editMessage, act: editLast },
    remove: {
      label: text.removeMessage,
      act: () => {
        if (unanswered.value !== null) removeQuestion(unanswered.value.id);
      },
    },
    addModel: { label: text.chooseFile, act: () => (dialog.value = "models") },
  };
  return (
    <section class="notice" role="alert">
      <Icon name="alert" />
      <div>
        <h2>{title}</h2>
        <p>{help}</p>
        {detail !== "" && (
          <p class="notice-detail" lang="en">
            {detail}
          </p>
        )}
        {remedies.length > 0 && (
          <div class="buttons">
            {remedies.map((remedy, index) => (
              <button
                key={remedy}
                type="button"
                class={index === 0 ? "button primary" : "button"}
                onClick={actions[remedy].act}
              >
                {actions[remedy].label}
              </button>
            ))}
          </div>
        )}
      </div>
    </section>
  );
}
