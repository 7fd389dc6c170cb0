import { render } from "preact";
import { App } from "./components/App";
import { restore } from "./state/chat";
import { checkWebGpu, engineSettled, engineState, followChoice } from "./state/engine";
import { loadSummaries } from "./state/history";
import { refreshStorage } from "./state/models";
import { registerServiceWorker } from "./state/pwa";
import { refocusMessage } from "./state/ui";
import "./styles/index.css";

async function start(): Promise<void> {
  registerServiceWorker();
  await loadSummaries()
    .then(restore)
    .catch(() => undefined);
  const root = document.getElementById("app");
  if (root) render(<App />, root);
  refocusMessage();
  const [usable] = await Promise.all([checkWebGpu(), refreshStorage(), engineSettled()]);
  if (usable && engineState.value.kind === "idle") followChoice();
}

void start();
