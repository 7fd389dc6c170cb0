// What the glue that wasm-bindgen writes to dist/wasm/gpu exports, as far as this package uses it.
import type { InspectorClass, RuntimeClass } from "../../runtime.js";

export const Inspector: InspectorClass;
export const Runtime: RuntimeClass;
export default function init(): Promise<{ memory: WebAssembly.Memory }>;
