/** Serves the packages, the model and a blank page. */
import { join } from "node:path";
import { places } from "../support/places.ts";
import { Site } from "../support/server.ts";

const ORT = "ort-wasm-simd-threaded.asyncify";

/** Paths on the bench's site. */
export const paths = {
  model: "/model.gguf",
  nomoat: "/nomoat/index.js",
  baseline: "/baseline/index.js",
  wllama: "/wllama/index.js",
  wllamaWasm: "/wllama/wasm/wllama.wasm",
  transformers: "/transformers/transformers.min.js",
  /** The build that transformers.js uses; `.mjs` and `.wasm` are added to this. */
  ort: `/ort/${ORT}`,
  onnx: "/onnx/",
};

/** Folders and files that the site serves. */
interface Sources {
  /** The model's GGUF file. */
  model: string;
  /** The folder of its ONNX model, or null. */
  onnx: string | null;
  /** The folder of another build of the package, or null. */
  baseline: string | null;
}

/** Starts the site. */
export async function startBenchSite({ model, onnx, baseline }: Sources): Promise<Site> {
  const modules = join(import.meta.dirname, "node_modules");
  const site = await Site.start({
    "/nomoat/": places.package,
    "/wllama/": join(modules, "@wllama/wllama/esm"),
    "/transformers/": join(modules, "@huggingface/transformers/dist"),
    "/ort/": join(modules, "onnxruntime-web/dist"),
    ...(baseline !== null && { "/baseline/": baseline }),
    ...(onnx !== null && { [`${paths.onnx}model/`]: onnx }),
  });
  site.texts.set("/", '<!doctype html><title>bench</title><link rel="icon" href="data:,">');
  site.files.set(paths.model, model);
  return site;
}

/** Bytes of all wasm files that were sent since request number `since`. */
export function wasmBytes(site: Site, since: number): number {
  const sent = site.log.slice(since).filter(({ path }) => path.endsWith(".wasm"));
  return sent.reduce((sum, entry) => sum + entry.sent, 0);
}
