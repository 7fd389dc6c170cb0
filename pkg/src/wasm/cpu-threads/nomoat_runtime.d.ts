// What the glue that wasm-bindgen writes to dist/wasm/cpu-threads exports, as far as this package uses it.
import type { InspectorClass, RuntimeClass } from "../../runtime.js";

export const Inspector: InspectorClass;
export const Runtime: RuntimeClass;
export default function init(source: {
  module_or_path: WebAssembly.Module;
}): Promise<{ memory: WebAssembly.Memory }>;
export function initSync(source: { module: WebAssembly.Module; memory: WebAssembly.Memory }): unknown;
export function start_team(threads: number): void;
export function work(thread: number): void;
/** Ends the team with an error, for a thread whose {@link work} has failed: the others would wait for it. */
export function fail_team(): void;
