/** Adapters in the files that people have: GGUF, PEFT's two files, or a zip of PEFT's folder. */
import type { AdapterSource } from "nomoat";
import { NoAdapterError } from "./errors";
import { unzip } from "./zip";

const CONFIG = "adapter_config.json";
const WEIGHTS = ".safetensors";

/** A file name without its folders and its ending, as an adapter may be called. */
function nameOf(path: string): string {
  const file = path.split("/").at(-1) ?? "";
  return file.replace(/\.\w+$/, "").replaceAll(":", " ") || "adapter";
}

/** The adapters of an archive. Folders within another adapter's, such as PEFT's checkpoints, are left out. */
async function packed(archive: File): Promise<[string, AdapterSource][]> {
  const isWanted = (path: string) => /(^|\/)adapter_config\.json$|\.(safetensors|gguf)$/.test(path);
  let files: [string, Blob][];
  try {
    files = await unzip(archive, isWanted);
  } catch {
    throw new NoAdapterError(archive.name);
  }
  const folder = (path: string) => path.slice(0, path.lastIndexOf("/") + 1);
  const found = files.flatMap(([path, file]): { at: string; name: string; source: AdapterSource }[] => {
    const at = folder(path);
    if (path.endsWith(".gguf")) return [{ at, name: nameOf(path), source: file }];
    if (!path.endsWith(CONFIG)) return [];
    const weights = files.find(([other]) => other.endsWith(WEIGHTS) && folder(other) === at)?.[1];
    const name = at === "" ? archive.name : `${at.slice(0, -1)}.zip`;
    return weights ? [{ at, name: nameOf(name), source: { config: file, weights } }] : [];
  });
  const outer = found.filter(({ at }) => !found.some((other) => other.at !== at && at.startsWith(other.at)));
  if (outer.length === 0) throw new NoAdapterError(archive.name);
  return outer.map(({ name, source }) => [name, source]);
}

/** What is to be loaded of these files, each with a name. Throws NoAdapterError. */
export async function adaptersIn(files: readonly File[]): Promise<[string, AdapterSource][]> {
  const config = files.find(({ name }) => name.endsWith(".json"));
  const weights = files.find(({ name }) => name.endsWith(WEIGHTS));
  if (config && weights) return [[nameOf(weights.name), { config, weights }]];
  const all: [string, AdapterSource][] = [];
  for (const file of files) {
    if (/\.zip$/i.test(file.name)) all.push(...(await packed(file)));
    else if (/\.(json|safetensors)$/.test(file.name)) throw new NoAdapterError(file.name);
    else all.push([nameOf(file.name), file]);
  }
  return all;
}
