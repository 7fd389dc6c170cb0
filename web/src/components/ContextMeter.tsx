import { t } from "../i18n";
import { messages } from "../state/conversation";
import { engine } from "../state/engine";

/** How much of the model's context the last answer and its prompt used. */
export function ContextMeter() {
  const text = t.value;
  const size = engine.value?.model.contextLength;
  const last = messages.value.findLast((message) => message.role === "assistant");
  // A server does not say.
  if (size === undefined || size === 0 || last?.role !== "assistant" || last.promptTokens === null)
    return null;
  const used = Math.min(size, last.promptTokens + last.completionTokens);
  return (
    <p class="context-meter">
      <meter min={0} max={size} high={size * 0.75} value={used} aria-labelledby="context-used" />
      <span id="context-used">{text.contextUsed(used, size)}</span>
    </p>
  );
}
