/** Small things that are kept in Cache Storage, as models are: by name, as text. */
import { cacheOrigin } from "./store.js";

/** Texts by name; tests replace it. */
export interface KeptTexts {
  /** The text kept under a name, or null. */
  get(name: string): Promise<string | null>;
  put(name: string, text: string): Promise<void>;
}

/** Those of a folder. Without Cache Storage nothing is kept. */
export function keptTexts(folder: string, version: number): KeptTexts {
  const open = () => caches.open(`nomoat-${folder}-v${version}`);
  const address = (name: string) => `${cacheOrigin()}/.nomoat/${folder}/${encodeURIComponent(name)}`;
  return {
    async get(name) {
      try {
        return (await (await (await open()).match(address(name)))?.text()) ?? null;
      } catch {
        return null;
      }
    },
    async put(name, text) {
      try {
        await (await open()).put(address(name), new Response(text));
      } catch {
        // It is found out again next time.
      }
    },
  };
}

/** The fastest kernels of each GPU adapter. They are measured again after the version changes. */
export const keptKernels: KeptTexts = keptTexts("kernels", 1);
/** What was measured of each device's speed. */
export const keptSpeeds: KeptTexts = keptTexts("speeds", 1);
