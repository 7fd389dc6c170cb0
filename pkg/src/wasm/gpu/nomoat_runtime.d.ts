// What the glue that wasm-bindgen writes to dist/wasm/gpu exports, as far as this package uses it.
import type { RuntimeClass } from "../../runtime.js";

export const Runtime: RuntimeClass;
export default function init(): Promise<{ memory: WebAssembly.Memory }>;
