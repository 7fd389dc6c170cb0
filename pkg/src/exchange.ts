/** One HTTP request with a stall timeout, and retries with backoff. */
import { AbortedError, ModelNotFoundError, NetworkError } from "./errors.js";
import type { Bytes } from "./runtime.js";

/** The network; tests replace it. */
export interface NetworkEnv {
  fetch(url: string, init: RequestInit): Promise<Response>;
  /** Resolves after `milliseconds`, or rejects when the signal fires. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

const MAX_TRIES = 5;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 60_000;
/** A connection without a byte for this long is closed and tried again. */
const STALL_MS = 30_000;
/** Statuses that are retried, in addition to 5xx. */
const RETRIED_STATUS = new Set([408, 425, 429]);

/** A failure that is worth another try. */
export class TransientError extends Error {
  constructor(
    message: string,
    readonly status?: number,
    /** Milliseconds the server asked to wait. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

/** A request whose response has arrived. The body is read chunk by chunk. */
export class Exchange {
  readonly response: Response;
  readonly #reader: ReadableStreamDefaultReader<Bytes> | null;
  readonly #controller: AbortController;

  private constructor(response: Response, controller: AbortController) {
    this.response = response;
    this.#controller = controller;
    this.#reader = response.body?.getReader() ?? null;
  }

  /** Sends a request. Throws TransientError if another try may help, otherwise an error for the status. */
  static async open(env: NetworkEnv, url: string, init: RequestInit, signal: AbortSignal): Promise<Exchange> {
    const controller = new AbortController();
    // The HTTP cache would keep a second copy, and it serialises range requests for one file.
    const request = {
      ...init,
      cache: "no-store" as const,
      signal: AbortSignal.any([signal, controller.signal]),
    };
    const response = await watched(controller, () => env.fetch(url, request), signal);
    const exchange = new Exchange(response, controller);
    if (response.ok || response.status === 416) return exchange;
    exchange.close();
    throw statusError(response, url);
  }

  /** The next bytes of the body, or null at its end. */
  async read(signal: AbortSignal): Promise<Bytes | null> {
    const reader = this.#reader;
    if (!reader) return null;
    const { value } = await watched(this.#controller, () => reader.read(), signal);
    return value ?? null;
  }

  /** Closes the connection. */
  close(): void {
    this.#controller.abort();
  }
}

/** Runs `attempt` until it succeeds, fails for good, or has failed `MAX_TRIES` times. */
export async function retrying<T>(
  env: NetworkEnv,
  url: string,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted) throw new AbortedError();
      if (!(error instanceof TransientError)) throw error;
      const offline = globalThis.navigator?.onLine === false;
      if (tries === MAX_TRIES || offline)
        throw new NetworkError(
          `${url} could not be fetched${offline ? " (offline)" : ` in ${tries} tries`}: ${error.message}`,
          error.status,
          { cause: error },
        );
      const backoff = FIRST_DELAY_MS * 2 ** (tries - 1) * (0.75 + Math.random() / 2);
      await env.sleep(Math.min(error.retryAfter ?? backoff, MAX_DELAY_MS), signal);
    }
  }
}

async function watched<T>(
  controller: AbortController,
  act: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const timer = setTimeout(() => controller.abort(), STALL_MS);
  try {
    return await act();
  } catch (error) {
    if (signal.aborted) throw new AbortedError();
    // `fetch` reports an unreachable server, a cut connection and a CORS error in the same way.
    const reason = controller.signal.aborted ? `no data for ${STALL_MS / 1000} s` : String(error);
    throw new TransientError(`the connection failed (${reason})`);
  } finally {
    clearTimeout(timer);
  }
}

function statusError(response: Response, url: string): Error {
  const { status } = response;
  if (status >= 500 || RETRIED_STATUS.has(status))
    return new TransientError(
      `the server answered ${status}`,
      status,
      retryAfter(response.headers.get("Retry-After")),
    );
  if (status === 404 || status === 410)
    return new ModelNotFoundError(`There is no file at ${url} (${status}).`, status);
  if (status === 401 || status === 403)
    return new ModelNotFoundError(
      `The server refuses ${url} (${status}): check the address, and the token if the model is private or ` +
        "gated.",
      status,
    );
  return new NetworkError(`${url} was answered with status ${status}.`, status);
}

/** Milliseconds of a Retry-After header: seconds or a date. */
function retryAfter(value: string | null): number | undefined {
  if (!value) return undefined;
  const delay = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(delay) ? Math.max(0, delay) : undefined;
}
