import { signal } from "@preact/signals";
import { registerSW } from "virtual:pwa-register";

/** A newer version of the page waits to take over. */
export const updateReady = signal(false);

let update: ((reload?: boolean) => Promise<void>) | null = null;

/** Registers the service worker that keeps the page for offline use. */
export function registerServiceWorker(): void {
  update = registerSW({
    immediate: true,
    onNeedRefresh() {
      updateReady.value = true;
    },
  });
}

/** Lets the new version take over; the page reloads. */
export function applyUpdate(): void {
  void update?.();
}
