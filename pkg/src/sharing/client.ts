/** What asks the tab with the engine: any tab, or a service worker. */
import { randomId } from "../id.js";
import { nameOf, type Ask, type Part, type SharingMessage } from "./messages.js";

const NO_ENGINE = "No tab with an engine is open.";

/** A request that is being answered. */
interface Asked {
  ask: Ask;
  /** Chunks so far. */
  received: number;
  /** Null until the head of the answer has come. */
  body: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | null;
  resolve: (response: Response) => void;
  /** Ends it with an error. */
  fail: (error: unknown) => void;
  /** Called when it is over. */
  over: () => void;
}

/** Asks whichever tab owns the engine of this name. */
export class Client {
  readonly #name: string;
  readonly #channel: BroadcastChannel;
  readonly #asked = new Map<string, Asked>();
  readonly #lock = `nomoat-client:${randomId()}`;
  readonly #closed = new AbortController();
  #living: Promise<void> | null = null;
  #watches = false;

  constructor(name: string) {
    this.#name = nameOf(name);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<SharingMessage>) => this.#take(data);
  }

  /** A `fetch` whose answer comes from the owner, or from the next one if that is closed. */
  readonly fetch: typeof fetch = async (input, init) => (await this.start(input, init)).response;

  /** The same; `done` resolves when the answer is over. */
  async start(
    input: RequestInfo | URL,
    init?: RequestInit,
  ): Promise<{ response: Response; done: Promise<void> }> {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    this.#closed.signal.throwIfAborted();
    await (this.#living ??= this.#live());
    const ask: Ask = {
      kind: "ask",
      id: randomId(),
      client: this.#lock,
      url: request.url,
      method: request.method,
      headers: [...request.headers],
      body: repeatable(await request.text()),
    };
    let over = () => {};
    const done = new Promise<void>((resolve) => (over = resolve));
    const response = new Promise<Response>((resolve, reject) => {
      const fail = (error: unknown) => {
        const { body } = asked;
        this.#end(ask.id);
        if (body) body.error(error);
        else reject(error as Error);
      };
      const asked: Asked = { ask, received: 0, body: null, resolve, fail, over };
      this.#asked.set(ask.id, asked);
      const abort = () => {
        if (this.#asked.has(ask.id)) this.#post({ kind: "abort", id: ask.id });
        fail(signal.reason);
      };
      signal.addEventListener("abort", abort, { once: true });
      void done.then(() => signal.removeEventListener("abort", abort));
      this.#post(ask);
      void this.#watch();
    });
    return { response: await response, done };
  }

  /** Ends everything that is being asked. */
  close(): void {
    for (const { ask, fail } of [...this.#asked.values()]) {
      this.#post({ kind: "abort", id: ask.id });
      fail(new DOMException("The engine is no longer shared here.", "AbortError"));
    }
    this.#closed.abort(new DOMException("The engine is no longer shared here.", "AbortError"));
    this.#channel.close();
  }

  /** Takes a lock until this client is gone; resolves once it is held. */
  #live(): Promise<void> {
    return new Promise((resolve) => {
      void navigator.locks.request(this.#lock, () => {
        resolve();
        return new Promise<void>((leave) => this.#closed.signal.addEventListener("abort", () => leave()));
      });
    });
  }

  #post(message: SharingMessage): void {
    this.#channel.postMessage(message);
  }

  #end(id: string): void {
    this.#asked.get(id)?.over();
    this.#asked.delete(id);
  }

  #take(message: SharingMessage): void {
    if (message.kind === "ready") for (const { ask } of this.#asked.values()) this.#post(ask);
    if (message.kind === "ready" || message.kind === "ask" || message.kind === "abort") return;
    const asked = this.#asked.get(message.id);
    if (asked) this.#receive(asked, message);
  }

  #receive(asked: Asked, part: Part): void {
    if (part.kind === "head" && !asked.body) {
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        start: (controller) => void (asked.body = controller),
        cancel: () => {
          this.#post({ kind: "abort", id: part.id });
          this.#end(part.id);
        },
      });
      asked.resolve(new Response(body, { status: part.status, headers: part.headers }));
    }
    if (part.kind === "chunk" && part.index === asked.received) {
      asked.received += 1;
      asked.body?.enqueue(part.bytes);
    }
    if (part.kind === "failed") asked.fail(new TypeError(part.message));
    if (part.kind === "end") {
      this.#end(part.id);
      asked.body?.close();
    }
  }

  /** Answers with an error once no tab has the engine or waits for it. */
  async #watch(): Promise<void> {
    if (this.#watches) return;
    this.#watches = true;
    while (this.#asked.size > 0) {
      // It is granted when the owner is gone, and before the next one.
      await navigator.locks.request(this.#name, { mode: "shared" }, async () => {
        const { pending = [] } = await navigator.locks.query();
        if (pending.some(({ name, mode }) => name === this.#name && mode === "exclusive")) return;
        for (const asked of [...this.#asked.values()])
          if (asked.body) asked.fail(new TypeError(NO_ENGINE));
          else {
            this.#end(asked.ask.id);
            asked.resolve(noEngine());
          }
      });
    }
    this.#watches = false;
  }
}

function noEngine(): Response {
  const error = { message: NO_ENGINE, type: "server_error", param: null, code: "no_engine" };
  return Response.json({ error }, { status: 503 });
}

/** A body whose answer is the same when it is asked again: a streamed one gets a seed. */
function repeatable(body: string): string | null {
  if (body === "") return null;
  try {
    const params: unknown = JSON.parse(body);
    const { stream, seed } = Object(params) as { stream?: unknown; seed?: unknown };
    if (stream !== true || seed != null) return body;
    const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
    return JSON.stringify({ ...(params as object), seed: random });
  } catch {
    return body;
  }
}
