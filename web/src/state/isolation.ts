import { busy } from "./chat";
import { engineState } from "./engine";
import { chosenModel } from "./models";
import { dialog, draft } from "./ui";

/** Key in sessionStorage: set if this page has reloaded itself, with whether a model was loading then. */
const KEY = "nomoat-reloaded";

/**
 * On a host that does not send the headers, the first visit is not cross-origin isolated; later ones are,
 * through the service worker. So the page reloads once when the service worker takes over, unless the person
 * has begun to use it.
 */
export function reloadOnceIsolated(): void {
  // A page that is already controlled, or was reloaded before, gains nothing.
  if (!("serviceWorker" in navigator) || navigator.serviceWorker.controller !== null) return;
  if (read() !== null) return;
  const reload = () => {
    const isUsed = draft.value !== "" || busy.value || dialog.value !== null;
    // A file that was opened is gone after a reload.
    if (isUsed || chosenModel.value?.origin === "file") return;
    if (write(engineState.value.kind === "loading" ? "loading" : "idle")) location.reload();
  };
  navigator.serviceWorker.addEventListener("controllerchange", reload, { once: true });
}

/** Whether the reload interrupted the loading of a model, to which the person had agreed. True once. */
export function wasLoading(): boolean {
  return read() === "loading" && write("idle");
}

function read(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** False if nothing can be stored. */
function write(state: "loading" | "idle"): boolean {
  try {
    sessionStorage.setItem(KEY, state);
    return true;
  } catch {
    return false;
  }
}
