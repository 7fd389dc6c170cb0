/** Errors as the Prompt API names them. */
import { NomoatError } from "../errors.js";

/** The error for a prompt that does not fit; where the browser has its newer class, of that. */
export function quotaExceeded(requested: number, quota: number): Error {
  const message = `The prompt needs ${requested} tokens, the context holds ${quota}.`;
  const { QuotaExceededError: Own } = globalThis as {
    QuotaExceededError?: new (message: string, options: { requested: number; quota: number }) => Error;
  };
  if (Own) return new Own(message, { requested, quota });
  return Object.assign(new DOMException(message, "QuotaExceededError"), { requested, quota });
}

/** An engine's error as the specification names it. */
export function inDom(error: unknown): unknown {
  if (!(error instanceof NomoatError)) return error;
  switch (error.code) {
    case "aborted":
      return new DOMException(error.message, "AbortError");
    case "invalid_request":
    case "unsupported_feature":
      return new DOMException(error.message, "NotSupportedError");
    default:
      return Object.assign(new DOMException(error.message, "OperationError"), { cause: error });
  }
}

/** The promise's result, unless the signal fires first. */
export async function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
