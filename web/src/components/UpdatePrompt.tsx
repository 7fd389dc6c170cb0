import { t } from "../i18n";
import { applyUpdate, updateReady } from "../state/pwa";

/** Offers a newer version of the page. */
export function UpdatePrompt() {
  const text = t.value;
  if (!updateReady.value) return null;
  return (
    <div class="toast" role="status">
      <span>{text.updateReady}</span>
      <button type="button" class="button primary" onClick={applyUpdate}>
        {text.reload}
      </button>
      <button type="button" class="button" onClick={() => (updateReady.value = false)}>
        {text.later}
      </button>
    </div>
  );
}
