/** The service worker that keeps the page for offline use, and its updates. */
import { effect, signal } from "@preact/signals";
import { busy } from "./chat";
import { chosenModel } from "./models";

/** A newer version of the page waits to take over, or has taken over in another tab. */
export const updateReady = signal(false);

/** The version that waits, until it has taken over. */
let waiting: ServiceWorker | null = null;
/** A newer version has taken over while this tab shows the older one: `asked` by a person in this tab. */
let takenOver: "no" | "elsewhere" | "asked" = "no";

function offer(worker: ServiceWorker | null): void {
  // Without a controller it is the first version, which takes over by itself.
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
    // The first version takes the page it was fetched with.
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
    // Insecure, forbidden, or a server without the script: the page works, online.
  }
}

/**
 * Another tab let the newer version take over. This one reloads, too, since its files are gone from the
 * cache: but neither in the middle of an answer, nor if that would drop a file that the person opened. What
 * was typed survives.
 */
function follow(): void {
  if (takenOver === "elsewhere" && !busy.value && chosenModel.value?.origin !== "file") location.reload();
}
effect(() => {
  if (!busy.value) follow();
});

/** Lets the new version take over; the page reloads. */
export function applyUpdate(): void {
  if (takenOver !== "no" || waiting?.state !== "installed") {
    location.reload();
    return;
  }
  takenOver = "asked";
  waiting.postMessage({ type: "SKIP_WAITING" });
}
