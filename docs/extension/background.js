// A service worker cannot start workers, so it has no engine. An offscreen document has it, and this asks.
import { sharedFetch } from "./nomoat/service-worker.js";

const ask = sharedFetch();

/** Opens the document with the engine, unless it is open. */
async function openOffscreen() {
  if (await chrome.offscreen.hasDocument()) return;
  const justification = "The language model runs in a worker of this document.";
  await chrome.offscreen.createDocument({ url: "offscreen.html", reasons: ["WORKERS"], justification });
}

/** Streams an answer to a popup, or to a content script: each message keeps this service worker alive. */
async function answer(port, content) {
  await openOffscreen();
  const body = JSON.stringify({ messages: [{ role: "user", content }], stream: true, max_tokens: 200 });
  const response = await ask("http://nomoat/v1/chat/completions", { method: "POST", body });
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) port.postMessage(text);
  port.disconnect();
}

chrome.runtime.onConnect.addListener((port) => {
  port.onMessage.addListener((question) => void answer(port, question));
});
