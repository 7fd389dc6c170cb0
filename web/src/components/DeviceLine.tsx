import { t } from "../i18n";
import { engine } from "../state/engine";
import { Icon } from "./Icon";

/** Which device computes the answers. */
export function DeviceLine() {
  const text = t.value;
  const device = engine.value?.device;
  return (
    <p class="device-line">
      <span>{text.private}</span>
      {device && (
        <span class="device">
          <Icon name="chip" />
          {device.name}
          {device.isFallback && ` – ${text.fallbackDevice}`}
        </span>
      )}
    </p>
  );
}
