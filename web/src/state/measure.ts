/** Measures how fast this device is, so that a first visit can say how fast models would be. */
import { computed, effect } from "@preact/signals";
import { measureSpeed, type DeviceChoice } from "nomoat";
import { downloads } from "./downloads";
import { engineState, serverInUse } from "./engine";
import { backend } from "./recommend";
import { settings } from "./settings";
import { isSpeedKnown, measured } from "./speed";

/** The page has its start, and a person time to begin something, before it is measured. */
const QUIET_MS = 1000;

/** Nothing loads, answers or is downloaded here. */
const isIdle = computed(
  () => engineState.value.kind === "idle" && downloads.value.every(({ state }) => state !== "running"),
);

/** Measures the device where no answer has been written yet, and only while there is nothing else to do. */
export function measureWhenIdle(): void {
  /** Once each: where WebGPU fails, the automatic choice measures the CPU. */
  const done = new Set<DeviceChoice>();
  effect(() => {
    const { device } = settings.value;
    const isWanted = backend.value !== null && !isSpeedKnown(backend.value) && serverInUse.value === null;
    if (!isWanted || !isIdle.value || done.has(device)) return;
    const controller = new AbortController();
    const { signal } = controller;
    const timer = setTimeout(() => {
      measureSpeed({ device, signal })
        .then((speed) => {
          done.add(device);
          measured.value = speed;
        })
        .catch(() => {
          // Loading a model says what is wrong with the device.
          if (!signal.aborted) done.add(device);
        });
    }, QUIET_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  });
}
