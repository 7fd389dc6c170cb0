import { busy } from "./chat";
import { engineState } from "./engine";
import { chosenModel } from "./models";
import { dialog, draft } from "./ui";

/** In the tab's session: this page has reloaded itself, and whether a model was loading then. */
const KEY = "nomoat-reloaded";

/**
 * On a host that does not send the headers the first visit is not cross-origin isolated; with the service
 * worker's answers the next one is. So the page reloads when the worker takes it over, once, unless a person
 * has begun to use it.
 */
export function reloadOnceIsolated(): void {
  // A page that a worker already controls, or that has been reloaded, gains nothing.
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

/** False where nothing can be written down. */
function write(state: "loading" | "idle"): boolean {
  try {
    sessionStorage.setItem(KEY, state);
    return true;
  } catch {
    return false;
  }
}
