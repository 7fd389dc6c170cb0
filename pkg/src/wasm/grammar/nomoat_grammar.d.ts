// What the glue that wasm-bindgen writes to dist/wasm/grammar exports, as far as this package uses it.
import type { ParserClass } from "../../runtime.js";

export const Parser: ParserClass;
export default function init(): Promise<unknown>;
