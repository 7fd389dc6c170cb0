/** The shards of all files in order. The next ones are fetched while one is consumed. */
import type { ModelFile } from "./model-file.js";
import type { Bytes } from "./runtime.js";
import { shardCount } from "./store.js";

/** Shards that are fetched at once; one more may be in use. */
export const WINDOW = 4;

/** One shard and its place. */
export interface Shard {
  /** Index of the file. */
  file: number;
  /** Index of the shard in the file. */
  index: number;
  bytes: Bytes;
}

/** Reads ahead, never more than `WINDOW` shards. */
export class Prefetcher {
  readonly #files: readonly ModelFile[];
  readonly #places: { file: number; index: number }[];
  readonly #pending = new Map<number, Promise<Bytes>>();
  #next = 0;

  constructor(files: readonly ModelFile[]) {
    this.#files = files;
    this.#places = files.flatMap(({ size }, file) =>
      Array.from({ length: shardCount(size) }, (_, index) => ({ file, index })),
    );
    this.#fill();
  }

  /** A shard without consuming it. */
  peek(file: number, index: number): Promise<Bytes> | undefined {
    const place = this.#places.findIndex((other) => other.file === file && other.index === index);
    return this.#pending.get(place) ?? this.#files[file]?.read(index);
  }

  /** The next shard in order, or null after the last. */
  async take(): Promise<Shard | null> {
    const place = this.#places[this.#next];
    const pending = this.#pending.get(this.#next);
    if (!place || !pending) return null;
    const bytes = await pending;
    this.#pending.delete(this.#next);
    this.#next += 1;
    this.#fill();
    return { ...place, bytes };
  }

  /** Resolves when all requests have ended, successfully or not. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#pending.values());
  }

  #fill(): void {
    const end = Math.min(this.#next + WINDOW, this.#places.length);
    for (let at = this.#next; at < end; at++) {
      const place = this.#places[at];
      if (!place || this.#pending.has(at)) continue;
      const pending = this.#files[place.file]?.read(place.index);
      if (!pending) continue;
      // `take` reports the failure; until then it must not count as unhandled.
      pending.catch(() => undefined);
      this.#pending.set(at, pending);
    }
  }
}
