/** The order of an engine's calls: some run beside each other, some alone. */
import { AbortedError } from "./errors.js";

/** See the module. Ends with the signal of its engine's lifetime. */
export class CallQueue {
  readonly #lifetime: AbortSignal;
  /** The last call that runs alone. */
  #alone: Promise<unknown> = Promise.resolve();
  /** All calls. */
  #all: Promise<unknown> = Promise.resolve();

  constructor(lifetime: AbortSignal) {
    this.#lifetime = lifetime;
  }

  /** Runs `task` after those before it. */
  alone<T>(signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    return this.#after(this.#all, signal, task, (done) => (this.#alone = this.#all = done));
  }

  /** Runs `task` beside others that may run together. */
  together<T>(signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    return this.#after(this.#alone, signal, task, (done) => (this.#all = Promise.all([this.#all, done])));
  }

  /** Runs `task` when `before` is done. An abort rejects at once; a task that has not started never does. */
  #after<T>(
    before: Promise<unknown>,
    signal: AbortSignal | undefined,
    task: () => Promise<T>,
    keep: (done: Promise<void>) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const stop = () => reject(this.#lifetime.aborted ? disposed() : new AbortedError());
      const ended = signal ? AbortSignal.any([signal, this.#lifetime]) : this.#lifetime;
      if (ended.aborted) return stop();
      ended.addEventListener("abort", stop, { once: true });
      const run = async () => {
        if (ended.aborted) return;
        try {
          resolve(await task());
        } catch (error) {
          reject(error as Error);
        } finally {
          ended.removeEventListener("abort", stop);
        }
      };
      keep(before.then(run));
    });
  }
}

/** The error of calls that the end of their engine cuts. */
export function disposed(): AbortedError {
  return new AbortedError("The engine was disposed.");
}
