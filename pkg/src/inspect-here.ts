/** `inspectModel` in this browser. */
import { browserEnv } from "./browser.js";
import { chooseDevice } from "./features.js";
import { deviceMemory } from "./fit.js";
import { inspectModelWith, type InspectOptions, type ModelInspection } from "./inspect.js";
import { spawnWorker } from "./link.js";
import { speedHere } from "./speed-here.js";
import type { ModelSource } from "./source.js";

/**
 * Reads the headers of a model: of a catalogue model, an address, opened files, or a repository on the hub as
 * `owner/name` or by the address of its page, whose file that suits this device is taken. Nothing is stored.
 * A model that does not run is no error: `problem` says why. Throws as `createEngine` does for a wrong
 * address, a damaged file and a device that is not there.
 */
export async function inspectModel(
  source: ModelSource,
  options: InspectOptions = {},
): Promise<ModelInspection> {
  return inspectModelWith(source, options, {
    spawn: spawnWorker,
    network: await browserEnv(),
    base: location.href,
    backend: async (device) => (await chooseDevice(device)).backend,
    speed: speedHere,
    memory: deviceMemory(),
  });
}
