/** Registers the service worker and applies its updates. */
import { effect, signal } from "@preact/signals";
import { busy } from "./chat";
import { chosenModel } from "./models";

/** A newer version of the page waits to take over, or has taken over in another tab. */
export const updateReady = signal(false);

/** The new version, while it waits. */
let waiting: ServiceWorker | null = null;
/**
 * Whether a newer version has taken over while this tab shows the older one, and whether this tab asked for
 * it.
 */
let takenOver: "no" | "elsewhere" | "asked" = "no";

function offer(worker: ServiceWorker | null): void {
  // Without a controller this is the first version, which takes over at once.
  if (worker === null || navigator.serviceWorker.controller === null) return;
  waiting = worker;
  updateReady.value = true;
}

/** Registers the service worker. */
export async function registerServiceWorker(): Promise<void> {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  const { serviceWorker } = navigator;
  let isControlled = serviceWorker.controller !== null;
  serviceWorker.addEventListener("controllerchange", () => {
    // The first version is no update.
    const isUpdate = isControlled;
    isControlled = true;
    if (!isUpdate) return;
    if (takenOver === "asked") location.reload();
    else if (takenOver === "no") takenOver = "elsewhere";
    updateReady.value = true;
    follow();
  });
  try {
    const registration = await serviceWorker.register("/sw.js");
    offer(registration.waiting);
    registration.addEventListener("updatefound", () => {
      const worker = registration.installing;
      worker?.addEventListener("statechange", () => {
        if (worker.state === "installed") offer(worker);
      });
    });
  } catch {
    // Insecure, forbidden, or a server without the script: the page works online only.
  }
}

/**
 * Another tab applied the update. This tab reloads as well, because its files are gone from the cache, but
 * not during an answer, and not if that would lose an opened file. The draft survives.
 */
function follow(): void {
  if (takenOver === "elsewhere" && !busy.value && chosenModel.value?.origin !== "file") location.reload();
}
effect(() => {
  if (!busy.value) follow();
});

/** Applies the update; the page reloads. */
export function applyUpdate(): void {
  if (takenOver !== "no" || waiting?.state !== "installed") {
    location.reload();
    return;
  }
  takenOver = "asked";
  waiting.postMessage({ type: "SKIP_WAITING" });
}
