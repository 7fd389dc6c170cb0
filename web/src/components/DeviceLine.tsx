import type { DeviceInfo } from "nomoat";
import { t, type Dictionary } from "../i18n";
import { joined } from "../lib/format";
import { hostOf } from "../lib/servers";
import { engine, serverInUse } from "../state/engine";
import { Icon } from "./Icon";

function described(device: DeviceInfo, text: Dictionary): string {
  if (device.backend === "cpu") return joined(["CPU", text.threads(device.threads), device.driver]);
  return joined([device.name, "WebGPU", device.isFallback ? text.fallbackDevice : null]);
}

/** The device that computes the answers, and why it was chosen; or the server to which they are sent. */
export function DeviceLine() {
  const text = t.value;
  const server = serverInUse.value;
  if (server !== null)
    return (
      <p class="device-line not-private">
        <span>
          <Icon name="alert" />
          {text.notPrivateLine(hostOf(server))}
        </span>
      </p>
    );
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
