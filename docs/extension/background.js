// A service worker cannot start workers, so it has no engine. An offscreen document has it, and this asks.
import { sharedFetch } from "./nomoat/service-worker.js";

const ask = sharedFetch();
let opening = null;

/** Opens the document with the engine, unless it is open. */
function openOffscreen() {
  return (opening ??= open().finally(() => (opening = null)));
}

async function open() {
  if (await chrome.offscreen.hasDocument()) return;
  const justification = "The language model runs in a worker of this document.";
  await chrome.offscreen.createDocument({ url: "offscreen.html", reasons: ["WORKERS"], justification });
}

/** Asks the engine. A document that has just been opened may need a moment until it is found: 503. */
async function complete(body) {
  for (let tries = 1; ; tries++) {
    const response = await ask("http://nomoat/v1/chat/completions", { method: "POST", body });
    if (response.status !== 503 || tries === 20) return response;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Streams an answer to a popup, or to a content script: each message keeps this service worker alive. */
async function answer(port, content) {
  try {
    await openOffscreen();
    const messages = [{ role: "user", content }];
    const response = await complete(JSON.stringify({ messages, stream: true, max_tokens: 200 }));
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const events of response.body.pipeThrough(new TextDecoderStream())) {
      // The engine sends whole events.
      for (const [, json] of events.matchAll(/^data: (\{.*\})$/gm))
        port.postMessage({ text: JSON.parse(json).choices[0]?.delta.content ?? "" });
    }
    port.postMessage({ done: true });
  } catch (error) {
    port.postMessage({ done: true, text: String(error) });
  }
}

chrome.runtime.onConnect.addListener((port) => {
  port.onMessage.addListener((question) => void answer(port, question));
});
