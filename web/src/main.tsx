import { render } from "preact";
import { App } from "./components/App";
import { restore } from "./state/chat";
import {
  checkDevice,
  engineSettled,
  engineState,
  followChoice,
  serverInUse,
  startModel,
} from "./state/engine";
import { refreshList } from "./state/history";
import { measureWhenIdle } from "./state/measure";
import { reloadOnceIsolated, wasLoading } from "./state/isolation";
import { refreshStorage } from "./state/models";
import { registerServiceWorker } from "./state/pwa";
import { refocusMessage } from "./state/ui";
import "./styles/index.css";

async function start(): Promise<void> {
  void registerServiceWorker();
  // Nothing is waited for: whatever holds the history up, the page is there and says so.
  void refreshList();
  void restore();
  const root = document.getElementById("app");
  if (root) render(<App />, root);
  refocusMessage();
  // A model on a server needs no device.
  const isHere = serverInUse.peek() === null;
  const checked = isHere ? checkDevice() : null;
  const [device] = await Promise.all([checked, refreshStorage(), engineSettled()]);
  measureWhenIdle();
  if (isHere && device === null) return;
  if (device?.isolationHelps === true) reloadOnceIsolated();
  if (engineState.value.kind !== "idle") return;
  if (wasLoading()) void startModel();
  else followChoice();
}

void start();
