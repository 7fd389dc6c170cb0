/** Which GPU kernels suit an adapter: measured once, then kept in the browser's storage. */

import { cacheOrigin } from "./store.js";

/** Where the choice is kept; tests replace it. */
export interface KernelStore {
  /** The kernels kept for an adapter, or null. */
  get(adapter: string): Promise<string | null>;
  put(adapter: string, kernels: string): Promise<void>;
}

/** Kernels are measured again after this changes. */
const CACHE_NAME = "nomoat-kernels-v1";

const address = (adapter: string) => `${cacheOrigin()}/.nomoat/kernels/${encodeURIComponent(adapter)}`;

/** In Cache Storage, like models. Without it nothing is kept. */
export const kernelStore: KernelStore = {
  async get(adapter) {
    try {
      const cache = await caches.open(CACHE_NAME);
      return (await (await cache.match(address(adapter)))?.text()) ?? null;
    } catch {
      return null;
    }
  },
  async put(adapter, kernels) {
    try {
      const cache = await caches.open(CACHE_NAME);
      await cache.put(address(adapter), new Response(kernels));
    } catch {
      // They are measured again next time.
    }
  },
};
