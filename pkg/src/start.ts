/** Starts the worker of an engine. */
import type { EngineOptions } from "./engine-types.js";
import { InternalError } from "./errors.js";
import { withWorker, type WorkerLike, type WorkerLink } from "./link.js";
import type { Loaded, LoadRequest } from "./protocol.js";

/** Starts a worker and loads the model in it. An abort ends the worker. */
export async function start(
  spawn: () => WorkerLike,
  request: LoadRequest,
  signal: AbortSignal | undefined,
  { onProgress, onHeader }: Pick<EngineOptions, "onProgress" | "onHeader"> = {},
): Promise<{ link: WorkerLink; loaded: Loaded }> {
  return withWorker(spawn, signal, async (link) => {
    try {
      const loaded = await link.call("load", request, {
        onNotice: (notice) => {
          if (notice.kind === "progress") onProgress?.(notice.progress);
          if (notice.kind === "header") void goOn(link, onHeader);
        },
      });
      return { link, loaded };
    } catch (error) {
      link.close(new InternalError("The model could not be loaded."));
      throw error;
    }
  });
}

/** Lets a load go on once the page has made room. If that fails, the load does. */
async function goOn(link: WorkerLink, onHeader: EngineOptions["onHeader"]): Promise<void> {
  try {
    await onHeader?.();
    link.proceed();
  } catch (error) {
    link.close(new InternalError(`onHeader failed: ${String(error)}`, { cause: error }));
  }
}
