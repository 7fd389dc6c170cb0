/**
 * Entry of the dedicated worker: the wasm runtime, the browser's store and network, and the session between
 * them.
 */
import { browserEnv } from "./browser.js";
import { toWire } from "./errors.js";
import { platform } from "./platform.js";
import type { FromWorker, ToWorker } from "./protocol.js";
import { Session } from "./session.js";

const post = (message: FromWorker) => postMessage(message);
const session = new Session(platform, browserEnv, post);

addEventListener("message", (event: MessageEvent<ToWorker>) => {
  const handled = session.handle(event.data);
  if (event.data.type === "close") void handled.finally(() => close());
});
// A panic inside a future never settles its promise. It only appears here.
addEventListener("error", (event) => crash(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof WebAssembly.RuntimeError) crash(event.reason);
});

function crash(reason: unknown): void {
  post({ type: "crash", error: { ...toWire(reason), code: "internal", fatal: true } });
}
