import type { DeviceInfo } from "nomoat";
import { t, type Dictionary } from "../i18n";
import { joined } from "../lib/format";
import { engine } from "../state/engine";
import { Icon } from "./Icon";

function described(device: DeviceInfo, text: Dictionary): string {
  if (device.backend === "cpu") return joined(["CPU", text.threads(device.threads), device.driver]);
  return joined([device.name, "WebGPU", device.isFallback ? text.fallbackDevice : null]);
}

/** The device that computes the answers, and why it was chosen. */
export function DeviceLine() {
  const text = t.value;
  const device = engine.value?.device;
  return (
    <p class="device-line">
      <span>{text.private}</span>
      {device && (
        <span class="device" title={device.why}>
          <Icon name="chip" />
          {described(device, text)}
          {` – ${text.deviceReasons[device.reason]}`}
        </span>
      )}
    </p>
  );
}
