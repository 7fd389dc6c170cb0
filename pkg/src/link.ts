/** The page's side of one worker: calls with ids, their notices, and the end of the worker. */
import {
  AbortedError,
  fromWire,
  InternalError,
  InvalidRequestError,
  WorkerLostError,
  type NomoatError,
} from "./errors.js";
import type { Calls, FromWorker, Method, Notice, ToWorker } from "./protocol.js";

/** The part of `Worker` the link uses; tests replace it. */
export interface WorkerLike {
  postMessage(message: ToWorker): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<FromWorker>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/** Options of a call. */
export interface CallOptions {
  onNotice?: (notice: Notice) => void;
  /** Asks the worker to stop the call, which ends when the worker has stopped. */
  signal?: AbortSignal;
}

interface Pending {
  method: Method;
  resolve(result: unknown): void;
  reject(error: NomoatError): void;
  onNotice: ((notice: Notice) => void) | undefined;
}

/** Starts the package's worker. Bundlers recognise this expression: keep it literal. */
export function spawnWorker(): WorkerLike {
  if (typeof Worker === "undefined")
    throw new InvalidRequestError(
      "Workers cannot be started here, as in service workers and some browsers' shared workers: create the " +
        "engine in a page or in a dedicated worker.",
    );
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
}

/** Starts a worker and uses it. An abort meanwhile ends the worker. */
export async function withWorker<T>(
  spawn: () => WorkerLike,
  signal: AbortSignal | undefined,
  use: (link: WorkerLink) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) throw new AbortedError();
  const link = new WorkerLink(spawn());
  const abort = () => link.close(new AbortedError());
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await use(link);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** Starts a worker for one call. */
export function callOnce<M extends Method>(
  spawn: () => WorkerLike,
  signal: AbortSignal | undefined,
  method: M,
  params: Calls[M]["params"],
): Promise<Calls[M]["result"]> {
  return withWorker(spawn, signal, async (link) => {
    try {
      return await link.call(method, params);
    } finally {
      link.close(new InternalError("The worker's only call is over."));
    }
  });
}

/** Time that a worker gets to free its resources. */
const GRACE_MS = 1000;

/** How often a worker with something to do is asked for a sign of life. */
const BEAT_MS = 1000;
/** Beats that it may miss before it counts as hanging, at least and at most. */
const LEAST_BEATS = 10;
const MOST_BEATS = 120;
/**
 * Rows of the longest step on the CPU, during which a worker hears nothing. It takes no longer than as many
 * tokens one by one.
 */
const STEP_ROWS = 128;

/** The part of `LockManager` that the link uses; tests replace it. */
export interface WatchLocks {
  request(name: string, options: { signal: AbortSignal }, granted: () => void): Promise<unknown>;
}

/** Web Locks; browsers have them in secure contexts only. */
function browserLocks(): WatchLocks | null {
  return globalThis.navigator?.locks ?? null;
}

/** Calls to one worker. */
export class WorkerLink {
  readonly #worker: WorkerLike;
  readonly #locks: WatchLocks | null;
  /** Held by the worker as long as it lives. */
  readonly #lock = `nomoat-worker:${Date.now().toString(36)}:${Math.random().toString(36).slice(2)}`;
  readonly #watching = new AbortController();
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #end: NomoatError | null = null;
  #beating: ReturnType<typeof setInterval> | null = null;
  /** Beats since the last message. */
  #missed = 0;
  /** Milliseconds between two tokens, at most so far; null before. */
  #slowest: number | null = null;
  #tokenAt: number | null = null;

  constructor(worker: WorkerLike, locks: WatchLocks | null = browserLocks()) {
    this.#worker = worker;
    this.#locks = locks;
    worker.onmessage = (event) => this.#receive(event.data);
    worker.onerror = (event) => {
      // Without a message, the script itself failed to load.
      const what =
        event.message || "its script could not be loaded (does the Content-Security-Policy allow it?)";
      this.close(new InternalError(`The worker failed: ${what}`));
    };
    if (locks) this.#send({ type: "hold", lock: this.#lock });
  }

  /** Whether the worker is gone. */
  get closed(): boolean {
    return this.#end !== null;
  }

  /** Calls the worker. */
  call<M extends Method>(
    method: M,
    params: Calls[M]["params"],
    { onNotice, signal }: CallOptions = {},
  ): Promise<Calls[M]["result"]> {
    if (this.#end) return Promise.reject(this.#end);
    if (signal?.aborted) return Promise.reject(new AbortedError());
    const id = this.#nextId++;
    const abort = () => this.#send({ type: "abort", id });
    signal?.addEventListener("abort", abort, { once: true });
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { method, resolve, reject, onNotice });
      this.#beating ??= setInterval(() => this.#beat(), BEAT_MS);
      this.#send({ type: "call", id, method, params } as ToWorker);
    });
    return answer.finally(() => signal?.removeEventListener("abort", abort)) as Promise<Calls[M]["result"]>;
  }

  /** Lets a load go on that waits after the headers. */
  proceed(): void {
    this.#send({ type: "proceed" });
  }

  /** Ends the worker; what runs fails with `reason`. */
  close(reason: NomoatError): void {
    if (this.#end) return;
    this.#end = reason;
    this.#watching.abort();
    this.#rest();
    // Its threads wait inside wasm. A browser ends those, and frees their memory, only seconds later, so the
    // worker is asked to close first.
    this.#worker.postMessage({ type: "close" });
    setTimeout(() => this.#worker.terminate(), GRACE_MS);
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
  }

  /**
   * A browser that ends a worker, for example because memory is short, sends no event. But it releases the
   * worker's locks, so the page gets the lock when the worker is gone. A worker that is only busy keeps it.
   */
  #watch(): void {
    const { signal } = this.#watching;
    this.#locks
      ?.request(this.#lock, { signal }, () => this.close(new WorkerLostError()))
      .catch(() => undefined); // Aborted by `close`.
  }

  /**
   * A worker that hangs keeps its lock, and one that ended says nothing where there are no locks. Beats are
   * counted, not time: while a computer sleeps there are none. Scoring and training have long steps.
   */
  #beat(): void {
    const methods = [...this.#pending.values()].map(({ method }) => method);
    if (methods.some((method) => method === "score" || method.startsWith("train"))) return;
    const step = this.#slowest === null ? MOST_BEATS : (STEP_ROWS * this.#slowest) / BEAT_MS;
    if (this.#missed >= Math.min(Math.max(step, LEAST_BEATS), MOST_BEATS)) {
      this.close(new WorkerLostError("The worker no longer responds."));
      this.#worker.terminate();
      return;
    }
    if (this.#missed === 0) this.#send({ type: "ping" });
    this.#missed += 1;
  }

  #time(notice: Notice): void {
    const isToken = notice.kind === "event" && notice.event.type === "token";
    const now = isToken ? performance.now() : null;
    if (now !== null && this.#tokenAt !== null)
      this.#slowest = Math.max(this.#slowest ?? 0, now - this.#tokenAt);
    this.#tokenAt = now;
  }

  #rest(): void {
    if (this.#beating !== null) clearInterval(this.#beating);
    this.#beating = null;
    this.#missed = 0;
  }

  #send(message: ToWorker): void {
    if (!this.#end) this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    if (this.#end) return;
    this.#missed = 0;
    if (message.type === "crash") {
      this.close(fromWire(message.error));
      return;
    }
    if (message.type === "held") this.#watch();
    if (message.type === "held" || message.type === "pong") return;
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if (message.type === "notice") {
      this.#time(message.notice);
      pending.onNotice?.(message.notice);
      return;
    }
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#rest();
    if (message.type === "result") pending.resolve(message.result);
    else pending.reject(fromWire(message.error));
  }
}
