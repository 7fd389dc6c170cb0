/** The built-in catalogue of models. `catalogue.json` is its source. */
import { data } from "./catalogue-data.js";

/** One file of a catalogue entry. */
export interface CatalogueFile {
  /** Path within the repository. */
  path: string;
  /** Bytes. */
  size: number;
  /** SHA-256 of the whole file, hex. */
  sha256: string;
}

/** A model that `createEngine` knows by id. Names are those of `catalogue.json`. */
export interface CatalogueEntry {
  /** What `createEngine({ model })` takes. */
  id: string;
  /** Name for people. */
  name: string;
  /** One sentence for people. */
  description: string;
  /** SPDX id of the weights' licence. */
  license: string;
  /** Number of weights. */
  parameters: number;
  /** Main tensor type, such as `Q4_1`. */
  quantization: string;
  /** Context length the model was trained for, in tokens. */
  context_length: number;
  /** Bytes of all files. */
  size: number;
  /** Repository on the hub, `owner/name`. */
  repo: string;
  /** Commit of the repository. */
  revision: string;
  /** The files, in order. */
  files: CatalogueFile[];
}

/** The models `createEngine` knows by id. */
export const catalogue: readonly CatalogueEntry[] = data;

/** Address of a file on a hub: `<endpoint>/<repo>/resolve/<revision>/<path>`. */
export function hubUrl(endpoint: string, entry: CatalogueEntry, path: string): string {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return `${endpoint.replace(/\/+$/, "")}/${entry.repo}/resolve/${entry.revision}/${encoded}`;
}
