import { computed } from "@preact/signals";
import { config } from "./config";
import { settings } from "./settings";

/**
 * Where the package gets models: the hub that the person chose, or else the server, and what the browser
 * keeps for all sites.
 */
export const hubOptions = computed<{ hubEndpoint?: string; crossOriginStorage: boolean }>(() => {
  const hubEndpoint = settings.value.hubEndpoint ?? config.value.hubEndpoint;
  const crossOriginStorage = settings.value.shareModels;
  return hubEndpoint === null ? { crossOriginStorage } : { hubEndpoint, crossOriginStorage };
});
