/**
 * The service worker: keeps the page's own files for use without a server, and makes the page cross-origin
 * isolated on hosts that send no such headers, for the CPU's threads share memory and browsers allow that to
 * isolated pages alone.
 *
 * Model shards live in the package's own cache, which nothing here reads, fills or cleans: there is no
 * runtime caching.
 */
import { clientsClaim } from "workbox-core";
import type { PrecacheEntry } from "workbox-precaching";
import {
  addPlugins,
  cleanupOutdatedCaches,
  createHandlerBoundToURL,
  precacheAndRoute,
} from "workbox-precaching";
import { NavigationRoute, registerRoute } from "workbox-routing";

declare const self: ServiceWorkerGlobalScope & { __WB_MANIFEST: (PrecacheEntry | string)[] };

/**
 * `require-corp`, which every browser with isolation has, and not `credentialless`: what comes from other
 * origins are model files alone, and those are fetched with CORS, which satisfies both.
 */
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * An isolated page's workers must embed by its rules, too. Other responses stay as they are: a copy loses its
 * compiled wasm.
 */
function isolates({ mode, destination }: Request): boolean {
  return mode === "navigate" || destination === "worker";
}

function isolated(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

addPlugins([
  {
    // The event's request: that of a navigation to another address than index.html has been replaced.
    handlerWillRespond: async ({ event, response }) =>
      event instanceof FetchEvent && isolates(event.request) ? isolated(response) : response,
  },
]);
cleanupOutdatedCaches();
precacheAndRoute(self.__WB_MANIFEST);
registerRoute(
  new NavigationRoute(createHandlerBoundToURL("index.html"), {
    denylist: [/^\/hub\//, /^\/models\//, /^\/config\.json$/],
  }),
);

// The first version takes the page at once; a newer one waits until the person agrees.
clientsClaim();
addEventListener("message", (event) => {
  if ((event.data as { type?: string } | null)?.type === "SKIP_WAITING") void self.skipWaiting();
});
