/**
 * The service worker: caches the page's own files for offline use, and makes the page cross-origin isolated
 * on hosts that do not send the headers. Threads on the CPU share memory, which browsers allow only to
 * isolated pages.
 *
 * Model shards are in the package's own cache, which the service worker never touches: there is no runtime
 * caching.
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
 * `require-corp` rather than `credentialless`, because every browser with isolation has it. Only model files
 * come from other origins; they are fetched with CORS, which satisfies both.
 */
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * The workers of an isolated page need the headers as well. Other responses are not copied, because a copy
 * loses its compiled wasm.
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
    // The event's request, because that of a navigation has been replaced by one for index.html.
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

// The first version takes over the page at once; a newer one waits until the person agrees.
clientsClaim();
addEventListener("message", (event) => {
  if ((event.data as { type?: string } | null)?.type === "SKIP_WAITING") void self.skipWaiting();
});
