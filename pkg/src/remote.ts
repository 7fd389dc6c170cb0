/** An engine whose model runs on a server with OpenAI's API: what it is asked leaves the device. */
import type { Adapters } from "./adapters.js";
import type { EmbeddingCreateParams, EmbeddingResponse, Embeddings } from "./api/embeddings.js";
import type { TextCompletions, TextCompletion, TextCompletionCreateParams } from "./api/completions.js";
import type { ApiErrorBody } from "./api/errors.js";
import type { Model, Models } from "./api/models.js";
import type { ResponseCreateParams, Responses, ResponseStreamEvent } from "./api/response-types.js";
import type { ChatCompletionChunk, ChatCompletionCreateParams } from "./chat.js";
import type { ChatCompletions, CompletionOptions, Engine } from "./engine.js";
import {
  AbortedError,
  ContextLengthError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
} from "./errors.js";
import type { DeviceInfo, ModelInfo } from "./loaded.js";
import type { MemoryUse } from "./protocol.js";
import { eventData } from "./sse.js";
import { ChatStream } from "./stream.js";
import type { Trainings } from "./training.js";

/** Options of `createEngine` for a model on a server. */
export interface RemoteEngineOptions {
  /** The address of the API, up to and with `/v1`. What is asked is sent there. */
  baseURL: string;
  /** Sent as `Authorization: Bearer KEY`. */
  apiKey?: string;
  /** The model's name on the server. Default: the first that the server lists. */
  model?: string;
  /** Stops the first request, which finds out whether the server answers. */
  signal?: AbortSignal;
  /** Default: the page's. */
  fetch?: typeof fetch;
}

/** Asks the server for its models, and gives an engine for one of them. */
export async function createRemoteEngine(options: RemoteEngineOptions): Promise<Engine> {
  const { model, signal } = options;
  if (model !== undefined && (typeof model !== "string" || model === ""))
    throw new InvalidRequestError("`model` must be the name of a model on the server.", "model");
  const server = new Server(options);
  let listed: Model[] = [];
  try {
    listed = (await server.json<{ data: Model[] }>("/models", undefined, signal)).data;
  } catch (error) {
    // Not every server has a list.
    if (!(error instanceof ModelNotFoundError && error.status === 404 && model)) throw error;
  }
  const name = model ?? listed[0]?.id;
  if (name === undefined) throw new ModelNotFoundError(`${options.baseURL} lists no models: name one.`);
  return new RemoteEngine(server, name);
}

/** Sends requests with the key, and makes errors of what fails. */
class Server {
  readonly #base: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof fetch;
  readonly #lifetime = new AbortController();

  constructor({ baseURL, apiKey, fetch: given }: RemoteEngineOptions) {
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
      throw this.#failed(error, signal, "its answer is not JSON");
    }
  }

  /** The answer's events. */
  async events<T>(path: string, body: object, signal?: AbortSignal): Promise<AsyncGenerator<T, void>> {
    const response = await this.#ask(path, body, signal);
    return this.#read<T>(response, signal);
  }

  /** A request for an address under `/v1/` of any origin, sent to the server. */
  async forward(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const address = this.#base + url.pathname.replace(/^.*?\/v1(?=\/)/, "") + url.search;
    const headers = new Headers(request.headers);
    headers.delete("authorization");
    for (const [name, value] of Object.entries(this.#headers)) headers.set(name, value);
    const body = request.method === "GET" ? null : await request.arrayBuffer();
    return this.#fetch(address, { method: request.method, headers, body, signal: request.signal });
  }

  async *#read<T>(response: Response, signal?: AbortSignal): AsyncGenerator<T, void> {
    try {
      for await (const data of eventData(response)) {
        if (data === "[DONE]") return;
        const event = JSON.parse(data) as object;
        // An event of a response may have a member of this name, too, but it has a type.
        if ("error" in event && !("type" in event)) throw errorOf(500, event as ApiErrorBody);
        yield event as Awaited<T>;
      }
    } catch (error) {
      throw error instanceof NomoatError ? error : this.#failed(error, signal, "its answer was cut");
    }
  }

  async #ask(path: string, body: object | undefined, signal?: AbortSignal): Promise<Response> {
    const ended = signal ? AbortSignal.any([signal, this.#lifetime.signal]) : this.#lifetime.signal;
    const post = { method: "POST", body: JSON.stringify(body) };
    const headers = { ...this.#headers, ...(body && { "content-type": "application/json" }) };
    let response: Response;
    try {
      response = await this.#fetch(this.#base + path, { ...(body && post), headers, signal: ended });
    } catch (error) {
      throw this.#failed(error, ended, "it does not answer, or does not allow this page to ask");
    }
    if (response.ok) return response;
    const text = await response.text().catch(() => "");
    throw errorOf(response.status, parsed(text));
  }

  #failed(error: unknown, signal: AbortSignal | undefined, what: string): NomoatError {
    if (signal?.aborted || this.#lifetime.signal.aborted) return new AbortedError();
    return new NetworkError(`The server ${this.host} failed: ${what}.`, undefined, { cause: error });
  }
}

function parsed(text: string): Partial<ApiErrorBody> {
  try {
    return (JSON.parse(text) ?? {}) as Partial<ApiErrorBody>;
  } catch {
    return {};
  }
}

/** What a server says is wrong. */
function errorOf(status: number, { error }: Partial<ApiErrorBody>): NomoatError {
  const message = error?.message ?? `The server answered with status ${status}.`;
  if (error?.code === "context_length_exceeded") return new ContextLengthError(message);
  if ([401, 403, 404].includes(status)) return new ModelNotFoundError(message, status);
  if (status >= 400 && status < 500 && status !== 429)
    return new InvalidRequestError(message, error?.param ?? undefined);
  return new NetworkError(message, status);
}

/** An engine on a server. What only a model on this device can do is refused. */
class RemoteEngine implements Engine {
  readonly model: ModelInfo;
  readonly device: DeviceInfo;
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: TextCompletions;
  readonly responses: Responses;
  readonly embeddings: Embeddings;
  readonly models: Models;
  readonly fetch: typeof fetch;
  readonly adapters: Adapters;
  readonly trainings: Trainings;
  readonly #server: Server;

  constructor(server: Server, name: string) {
    this.#server = server;
    const unknown = { architecture: "", parameters: 0, quantization: "", license: null, warnings: [] };
    const chats = { hasChatTemplate: true, sampling: {}, tools: "template" as const };
    const sizes = { contextLength: 0, trainedContextLength: 0, vocabSize: 0 };
    const bytes = { tensorBytes: 0, bytesPerToken: 0, gpuBytes: 0, kvBytes: 0 };
    this.model = { name, ...unknown, ...chats, ...sizes, ...bytes };
    this.device = {
      name: server.host,
      backend: "remote",
      reason: "asked",
      why: `The model runs on ${server.host}: what you write is sent there.`,
      driver: "",
      isFallback: false,
      f16: false,
      subgroups: false,
      kernels: "",
      maxBufferSize: 0,
      threads: 0,
    };
    const asked = <T extends object>(params: T) => ({ ...params, model: name });
    const chat = async (params: ChatCompletionCreateParams, { signal }: CompletionOptions = {}) => {
      const path = "/chat/completions";
      return params.stream ? this.#chat(asked(params), signal) : server.json(path, asked(params), signal);
    };
    this.chat = { completions: { create: chat as ChatCompletions["create"] } };
    const text = async (params: TextCompletionCreateParams, { signal }: CompletionOptions = {}) =>
      params.stream
        ? server.events<TextCompletion>("/completions", asked(params), signal)
        : server.json("/completions", asked(params), signal);
    this.completions = { create: text as TextCompletions["create"] };
    const respond = async (params: ResponseCreateParams, { signal }: CompletionOptions = {}) =>
      params.stream
        ? server.events<ResponseStreamEvent>("/responses", asked(params), signal)
        : server.json("/responses", asked(params), signal);
    this.responses = { create: respond as Responses["create"] };
    const embed = (params: EmbeddingCreateParams, { signal }: { signal?: AbortSignal } = {}) =>
      server.json<EmbeddingResponse>("/embeddings", asked(params), signal);
    this.embeddings = { create: embed };
    this.models = {
      list: () => server.json("/models", undefined),
      retrieve: (id) => server.json(`/models/${encodeURIComponent(id)}`, undefined),
    };
    this.fetch = (input, init) => server.forward(new Request(input, init));
    const none = () => {
      throw refusal();
    };
    this.adapters = { load: notHere, list: () => [], unload: notHere, export: none };
    this.trainings = { estimate: notHere, resumable: async () => [], discard: notHere, snapshot: notHere };
  }

  readonly train = notHere;
  readonly score = notHere;
  readonly tokenize = notHere;
  readonly detokenize = notHere;

  async forget(): Promise<void> {
    // What a server keeps is its own affair.
  }

  async memory(): Promise<MemoryUse> {
    return { wasmBytes: 0, gpuBytes: 0 };
  }

  async dispose(): Promise<void> {
    this.#server.close();
  }

  async #chat(params: ChatCompletionCreateParams, outer?: AbortSignal): Promise<ChatStream> {
    const controller = new AbortController();
    const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
    const chunks = await this.#server.events<ChatCompletionChunk>("/chat/completions", params, signal);
    const stream = new ChatStream(controller);
    void (async () => {
      try {
        for await (const chunk of chunks) stream.push(chunk);
        stream.end();
      } catch (error) {
        stream.end(error);
      }
    })();
    return stream;
  }
}

function refusal(): InvalidRequestError {
  return new InvalidRequestError("The model runs on a server, which does not offer this.");
}

async function notHere(): Promise<never> {
  throw refusal();
}
