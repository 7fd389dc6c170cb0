/** Keeps pages of the prefix cache in the browser's storage, and gives them back before a prompt is read. */
import type { PageStore } from "./pages.js";
import type { Runtime, RuntimePromptPages } from "./runtime.js";

/** Pages that are read from the store at once. */
const READ_AHEAD = 8;

/** Calls the runtime when no other call waits for it. */
export type Exclusive = <T>(call: (runtime: Runtime) => T | Promise<T>) => Promise<T>;

/** Moves pages between the runtime and the store. What fails there only costs time. */
export class Keeper {
  readonly #store: PageStore;
  readonly #exclusive: Exclusive;
  #isKeeping = false;
  /** Counts `forget`. */
  #forgotten = 0;

  constructor(store: PageStore, exclusive: Exclusive) {
    this.#store = store;
    this.#exclusive = exclusive;
  }

  /** Restores what the store has of a prompt. `request` is `RuntimeRequest` as JSON. */
  async restore(request: string): Promise<void> {
    if (this.#store.isEmpty) return;
    try {
      const prompt = await this.#exclusive((runtime) => runtime.prompt_pages(request));
      const { set, ids, names, cached } = JSON.parse(prompt) as RuntimePromptPages;
      const all = Uint32Array.from(ids);
      const perPage = ids.length / names.length;
      const missing = names.findIndex((name, index) => index >= cached && this.#store.bytesOf(name) === null);
      const end = missing < 0 ? names.length : missing;
      for (let first = cached; first < end; first += READ_AHEAD) {
        const some = names.slice(first, Math.min(first + READ_AHEAD, end));
        const pages = await Promise.all(some.map((name) => this.#store.read(name)));
        for (const [index, page] of pages.entries()) {
          if (!page) return;
          const before = all.subarray(0, (first + index + 1) * perPage);
          if (await this.#exclusive((runtime) => runtime.restore_page(set, before, page))) continue;
          // It is damaged, or there is no room: then it is stored again when it has been computed.
          await this.#store.remove(some[index] ?? "");
          return;
        }
      }
    } catch {
      // The prompt is computed.
    }
  }

  /** Stores pages that are not stored yet, as long as `isIdle`. Call it after every answer. */
  async keep(isIdle: () => boolean): Promise<void> {
    if (this.#isKeeping) return;
    this.#isKeeping = true;
    try {
      const forgotten = this.#forgotten;
      const names = await this.#exclusive((runtime) => runtime.cached_pages());
      let total = 0;
      let largest = 0;
      const kept: string[] = [];
      for (const name of names) {
        if (!isIdle() || total + largest > this.#store.maxBytes) break;
        if (this.#store.bytesOf(name) === null) {
          const page = await this.#exclusive((runtime) => runtime.read_page(name));
          if (page && forgotten === this.#forgotten) await this.#store.write(name, page);
          // What was read before is not there after.
          if (forgotten !== this.#forgotten) return await this.#store.remove(name);
        }
        const bytes = this.#store.bytesOf(name) ?? 0;
        largest = Math.max(largest, bytes);
        total += bytes;
        kept.push(name);
      }
      await this.#store.tidy(kept);
    } catch {
      // The storage is full, or the device is lost.
    } finally {
      this.#isKeeping = false;
    }
  }

  /** Deletes what is stored. The runtime must have forgotten its pages. */
  async forget(): Promise<void> {
    this.#forgotten += 1;
    await this.#store.clear();
  }
}
