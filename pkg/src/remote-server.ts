/** Requests to a server with OpenAI's API, and errors of what fails. */
import {
  AbortedError,
  ContextLengthError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
} from "./errors.js";
import { eventData } from "./sse.js";

/** Where the server is, and how it is asked. */
export interface ServerOptions {
  baseURL: string;
  apiKey?: string;
  fetch?: typeof fetch;
}

/** Characters of a server's message that are told. */
const LONGEST = 2000;

/** Sends requests with the key, and makes errors of what fails. */
export class Server {
  readonly #base: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof fetch;
  readonly #lifetime = new AbortController();

  constructor({ baseURL, apiKey, fetch: given }: ServerOptions) {
    if (!URL.canParse(baseURL) || !/^https?:/.test(baseURL))
      throw new InvalidRequestError(
        "`baseURL` must be the address of a server, such as https://host/v1.",
        "baseURL",
      );
    this.#base = baseURL.replace(/\/+$/, "");
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
    this.#fetch = given ?? ((input, init) => fetch(input, init));
  }

  get host(): string {
    return new URL(this.#base).host;
  }

  close(): void {
    this.#lifetime.abort();
  }

  /** The answer as JSON. */
  async json<T>(path: string, body: object | undefined, signal?: AbortSignal): Promise<T> {
    const response = await this.#ask(path, body, signal);
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw this.#failed(error, signal, "its answer is not JSON", response.status);
    }
  }

  /** The answer's events. */
  async events<T>(path: string, body: object, signal?: AbortSignal): Promise<AsyncGenerator<T, void>> {
    const response = await this.#ask(path, body, signal);
    if (response.headers.get("content-type")?.startsWith("text/event-stream") !== true) {
      await response.body?.cancel().catch(() => undefined);
      throw this.#failed(null, signal, "its answer is not a stream of events", response.status);
    }
    return this.#read<T>(response, signal);
  }

  /**
   * A request for an address under `/v1/` of any origin, sent to the server with its key. JSON that is sent
   * names `model`, as there is only one.
   */
  async forward(request: Request, model: string): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const address = this.#base + pathname.replace(/^.*?\/v1(?=\/)/, "") + search;
    const headers = new Headers(request.headers);
    headers.delete("authorization");
    for (const [name, value] of Object.entries(this.#headers)) headers.set(name, value);
    const signal = AbortSignal.any([request.signal, this.#lifetime.signal]);
    const init = { method: request.method, headers, signal };
    if (request.method !== "POST") return this.#fetch(address, init);
    // A text without a type is JSON for the engine, too.
    if (headers.get("content-type")?.startsWith("text/plain"))
      headers.set("content-type", "application/json");
    return this.#fetch(address, { ...init, body: naming(await request.text(), model) });
  }

  async *#read<T>(response: Response, signal?: AbortSignal): AsyncGenerator<T, void> {
    let isEnded = false;
    try {
      for await (const data of eventData(response)) {
        if (data === "[DONE]") return;
        const event = JSON.parse(data) as Event;
        // An event of a response may have a member of this name, too, but it has a type.
        if (event.error && event.type === undefined) throw errorOf(codeOf(event.error) ?? 500, data);
        isEnded ||= isLast(event);
        yield event as Awaited<T>;
      }
    } catch (error) {
      throw error instanceof NomoatError ? error : this.#failed(error, signal, "its answer was cut");
    }
    if (!isEnded) throw this.#failed(null, signal, "its answer was cut");
  }

  async #ask(path: string, body: object | undefined, signal?: AbortSignal): Promise<Response> {
    const ended = signal ? AbortSignal.any([signal, this.#lifetime.signal]) : this.#lifetime.signal;
    const post = { method: "POST", body: JSON.stringify(body) };
    const headers = { ...this.#headers, ...(body && { "content-type": "application/json" }) };
    let response: Response;
    try {
      response = await this.#fetch(this.#base + path, { ...(body && post), headers, signal: ended });
    } catch (error) {
      throw this.#failed(error, signal, "it does not answer, or does not allow this page to ask");
    }
    if (response.ok) return response;
    throw errorOf(response.status, await response.text().catch(() => ""));
  }

  /** `status`: the answer's, if the answer is what is wrong. */
  #failed(error: unknown, signal: AbortSignal | undefined, what: string, status?: number): NomoatError {
    const reason: unknown = signal?.reason;
    const isLate = Object(reason).name === "TimeoutError";
    if (!isLate && (signal?.aborted || this.#lifetime.signal.aborted)) return new AbortedError();
    const [why, cause] = isLate ? ["it did not answer in time", reason] : [what, error];
    return new NetworkError(`The server ${this.host} failed: ${why}.`, status, { cause });
  }
}

/** What is looked at of a streamed event. */
interface Event {
  type?: string;
  error?: unknown;
  choices?: { finish_reason?: string | null }[];
}

/** Whether an event says that the answer, or a choice of it, is over. */
function isLast({ type, choices }: Event): boolean {
  if (type !== undefined) return /^response\.(completed|incomplete|failed)$/.test(type);
  return choices?.some((choice) => choice.finish_reason != null) ?? false;
}

function codeOf(error: unknown): number | undefined {
  const { code } = Object(error) as { code?: unknown };
  return typeof code === "number" ? code : undefined;
}

function naming(body: string, model: string): string {
  const given = parsed(body);
  return Object.keys(given).length > 0 ? JSON.stringify({ ...given, model }) : body;
}

/** A JSON object; an empty one if the text is something else. */
function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? { ...value } : {};
  } catch {
    return {};
  }
}

/**
 * What a server says is wrong, as one of the package's errors. OpenAI's servers send `{ error: { message,
 * param, code } }`; vLLM sends some errors without `error` around them, or with a text in it; FastAPI's have
 * a `detail`.
 */
export function errorOf(status: number, body: string): NomoatError {
  const { error, ...others } = parsed(body);
  const told = (typeof error === "object" && error !== null ? error : others) as Record<string, unknown>;
  const found = [error, told["message"], others["detail"]].find((it) => typeof it === "string" && it !== "");
  const message = ((found as string | undefined) ?? `The server answered with status ${status}.`).slice(
    0,
    LONGEST,
  );
  const { code, type, param } = told;
  const isTooLong =
    code === "context_length_exceeded" ||
    type === "exceed_context_size_error" || // llama.cpp
    /maximum context length/.test(message); // vLLM
  if (isTooLong) return new ContextLengthError(message);
  if (code === "template") return new NomoatError(code, message);
  if ([401, 403, 404].includes(status)) return new ModelNotFoundError(message, status);
  if (status >= 400 && status < 500 && ![408, 429].includes(status))
    return new InvalidRequestError(
      message,
      typeof param === "string" ? param : undefined,
      typeof code === "string" ? code : undefined,
    );
  return new NetworkError(message, status);
}
