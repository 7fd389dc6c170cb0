/** Stands in for `nomoat` in the code of the docs. */
import type { EngineOptions, RemoteEngineOptions } from "nomoat";

declare global {
  interface Window {
    /** The address of the server that stands in for those of the docs. */
    served: string;
  }
}

/** The engine of the page; or one on the test's server, where the code names one. */
export const createEngine = async (options: EngineOptions | RemoteEngineOptions) =>
  "baseURL" in options ? window.nomoat.createEngine({ ...options, baseURL: window.served }) : window.engine;

export const { ModelNotFoundError } = window.nomoat;
