/** The tab with the engine: answers what clients ask. */
import { nameOf, type Ask, type Part, type SharingMessage } from "./messages.js";

/** Answers all clients by this `fetch`; returns what ends it. */
export function answerClients(name: string, answer: typeof fetch): () => void {
  const channel = new BroadcastChannel(nameOf(name));
  const post = (message: SharingMessage) => channel.postMessage(message);
  const running = new Map<string, AbortController>();
  // Clients send again what they sent before this tab was ready.
  const taken = new Set<string>();
  channel.onmessage = ({ data }: MessageEvent<SharingMessage>) => {
    if (data.kind === "abort") running.get(data.id)?.abort();
    if (data.kind !== "ask" || taken.has(data.id)) return;
    taken.add(data.id);
    const controller = new AbortController();
    running.set(data.id, controller);
    void respond(data, answer, controller, post).finally(() => running.delete(data.id));
  };
  post({ kind: "ready" });
  return () => {
    channel.close();
    for (const controller of running.values()) controller.abort();
  };
}

async function respond(
  { id, client, url, method, headers, body }: Ask,
  answer: typeof fetch,
  controller: AbortController,
  post: (part: Part) => void,
): Promise<void> {
  const { signal } = controller;
  const ended = new AbortController();
  // Whoever gets the client's lock knows that the client is gone.
  const options = { mode: "shared" as const, signal: ended.signal };
  navigator.locks.request(client, options, () => controller.abort()).catch(() => undefined);
  const tell = (part: Part) => {
    if (!signal.aborted) post(part);
  };
  try {
    const response = await answer(url, { method, headers, body, signal });
    tell({ kind: "head", id, status: response.status, headers: [...response.headers] });
    const reader = response.body?.getReader();
    for (let index = 0; reader; index++) {
      const { done, value } = await reader.read();
      if (done) break;
      tell({ kind: "chunk", id, index, bytes: value });
    }
    tell({ kind: "end", id });
  } catch (error) {
    tell({ kind: "failed", id, message: String((error as Error).message) });
  } finally {
    ended.abort();
  }
}
