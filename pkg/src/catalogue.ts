/** The built-in catalogue of models. `catalogue.json` is its source. */
import { data } from "./catalogue-data.js";
import type { RecommendedSampling } from "./chat.js";

/** One file of a catalogue entry. */
export interface CatalogueFile {
  /** Path within the repository. */
  path: string;
  /** Bytes. Without them, the hub says how many there are. */
  size?: number;
  /** SHA-256 of the whole file, hex. Without it, the file is checked against what the hub says. */
  sha256?: string;
}

/** What a model is good at, or why one may want it. */
export type Strength = "small" | "chat" | "languages" | "code" | "reasoning" | "long-context" | "history";

/** A model that `createEngine` knows by id. Names are those of `catalogue.json`. */
export interface CatalogueEntry {
  /** What `createEngine({ model })` takes. */
  id: string;
  /** Name for people. */
  name: string;
  /** One sentence for people. */
  description: string;
  /** SPDX id of the weights' licence, or what the hub calls it. */
  license: string;
  /** Number of weights. */
  parameters: number;
  /** Main tensor type, such as `Q4_1`. */
  quantization: string;
  /** Context length the model was trained for, in tokens. */
  context_length: number;
  /** Bytes of keys and values of a token of context. With the files, the memory that the model needs. */
  kv_bytes_per_token: number;
  /** The first is the main one. */
  strengths: Strength[];
  /** How its makers recommend to choose tokens. */
  sampling?: RecommendedSampling;
  /** A built-in chat template, for files from before templates. */
  template?: string;
  /** Bytes of all files, where they are known before the download. */
  size?: number;
  /** Repository on the hub, `owner/name`. */
  repo: string;
  /**
   * Commit of the repository. Without it, its newest one: Koala's repository has never been seen with a whole
   * commit id beside its list of files.
   */
  revision?: string;
  /** The files, in order. */
  files: CatalogueFile[];
}

/** The models `createEngine` knows by id. */
export const catalogue: readonly CatalogueEntry[] = data;

/** Address of a file on a hub: `<endpoint>/<repo>/resolve/<revision>/<path>`. */
export function hubUrl(endpoint: string, entry: CatalogueEntry, path: string): string {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return `${endpoint.replace(/\/+$/, "")}/${entry.repo}/resolve/${entry.revision ?? "main"}/${encoded}`;
}
