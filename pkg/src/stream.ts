/** A streamed answer: filled by the engine, read once by the caller. */
import type { ChatCompletionChunk } from "./chat.js";
import { InvalidRequestError } from "./errors.js";

/**
 * A streamed answer, for `for await`. It can be read once; leaving the loop early stops the generation. After
 * an abort the loop throws AbortedError.
 */
export class ChatStream implements AsyncIterable<ChatCompletionChunk> {
  /** `controller.abort()` stops the generation. */
  readonly controller: AbortController;
  readonly #chunks: ChatCompletionChunk[] = [];
  #ended = false;
  #error: unknown = null;
  #taken = false;
  #wake: () => void = () => undefined;

  /** @internal */
  constructor(controller: AbortController) {
    this.controller = controller;
  }

  /** @internal Adds chunks. */
  push(...chunks: ChatCompletionChunk[]): void {
    if (this.#ended) return;
    this.#chunks.push(...chunks);
    this.#wake();
  }

  /** @internal Ends the stream, with or without an error. */
  end(error: unknown = null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  [Symbol.asyncIterator](): AsyncGenerator<ChatCompletionChunk, void> {
    if (this.#taken) throw new InvalidRequestError("A stream can be read once.");
    this.#taken = true;
    return this.#read();
  }

  async *#read(): AsyncGenerator<ChatCompletionChunk, void> {
    try {
      for (;;) {
        for (let chunk; (chunk = this.#chunks.shift());) yield chunk;
        if (this.#error) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      if (!this.#ended) this.controller.abort();
    }
  }
}
