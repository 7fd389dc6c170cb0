/**
 * One engine for all tabs of a site and its service worker: one tab owns it, and when that is closed another
 * tab takes over.
 */
import { Client } from "./sharing/client.js";
import { nameOf } from "./sharing/messages.js";
import { answerClients } from "./sharing/owner.js";

/** Options of `shareEngine` and `serveEngine`. */
export interface SharingOptions {
  /** Tells engines of one site apart. Default `engine`. */
  name?: string;
}

/** What shares an engine: `createEngine`'s result, or anything with such a `fetch`. */
export interface Shareable {
  readonly fetch: typeof fetch;
  dispose(): Promise<void>;
}

/** A tab's part in a shared engine. */
export interface SharedEngine {
  /** A `fetch` for OpenAI's addresses under `/v1/`, answered by the tab that owns the engine. */
  readonly fetch: typeof fetch;
  /** Whether this tab owns the engine. */
  readonly isOwner: boolean;
  /** Rejects if this tab was to own the engine and could not create it; otherwise it stays pending. */
  readonly failed: Promise<never>;
  /** Leaves. If this tab owned the engine, it is disposed and another tab takes over. */
  close(): void;
}

/**
 * Shares one engine with the other tabs of the site that call this. `create` is called in the tab that owns
 * it: the first one, and after that is closed the next one.
 */
export function shareEngine(
  create: () => Promise<Shareable>,
  { name = "engine" }: SharingOptions = {},
): SharedEngine {
  const client = new Client(name);
  const closed = new AbortController();
  const whenClosed = new Promise<void>((resolve) => closed.signal.addEventListener("abort", () => resolve()));
  let isOwner = false;
  const own = async () => {
    const engine = await create();
    if (!closed.signal.aborted) {
      isOwner = true;
      const end = answerClients(name, engine.fetch);
      await whenClosed;
      isOwner = false;
      end();
    }
    await engine.dispose();
  };
  const failed = new Promise<never>((_, reject) => {
    navigator.locks.request(nameOf(name), { signal: closed.signal }, own).catch((error: unknown) => {
      if (!closed.signal.aborted) reject(error as Error);
    });
  });
  // It is the page's choice to look.
  failed.catch(() => undefined);
  return {
    fetch: client.fetch,
    get isOwner() {
      return isOwner;
    },
    failed,
    close() {
      client.close();
      closed.abort();
    },
  };
}

/**
 * A `fetch` for OpenAI's addresses under `/v1/`, answered by the tab that owns the engine. For what cannot
 * own one, such as an extension's service worker.
 */
export function sharedFetch({ name = "engine" }: SharingOptions = {}): typeof fetch {
  return new Client(name).fetch;
}

/** A service worker's event for a request. */
interface FetchEventLike {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
  waitUntil(promise: Promise<unknown>): void;
}

/** A service worker's `self`. */
export interface ServiceWorkerScope {
  readonly location: { readonly origin: string };
  addEventListener(type: "fetch", listener: (event: FetchEventLike) => void): void;
}

/**
 * Answers requests for the site's addresses under `/v1/` by the engine that its tabs share. Other requests
 * are left alone.
 */
export function serveEngine(scope: ServiceWorkerScope, { name = "engine" }: SharingOptions = {}): void {
  const client = new Client(name);
  scope.addEventListener("fetch", (event) => {
    const { origin, pathname } = new URL(event.request.url);
    if (origin !== scope.location.origin || !pathname.startsWith("/v1/")) return;
    const started = client.start(event.request);
    event.respondWith(started.then(({ response }) => response));
    event.waitUntil(started.then(({ done }) => done).catch(() => undefined));
  });
}
