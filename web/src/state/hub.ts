import { computed } from "@preact/signals";
import { config } from "./config";
import { settings } from "./settings";

/** The hub's address as the package takes it: the person's choice, or else the server's. */
export const hubOptions = computed<{ hubEndpoint?: string }>(() => {
  const hubEndpoint = settings.value.hubEndpoint ?? config.value.hubEndpoint;
  return hubEndpoint === null ? {} : { hubEndpoint };
});
