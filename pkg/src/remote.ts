/** An engine whose model runs on a server with OpenAI's API: what it is asked leaves the device. */
import type { Adapters } from "./adapters.js";
import type { EmbeddingCreateParams, EmbeddingResponse, Embeddings } from "./api/embeddings.js";
import type { TextCompletions, TextCompletion, TextCompletionCreateParams } from "./api/completions.js";
import { apiFetch } from "./api/fetch.js";
import type { Model, Models } from "./api/models.js";
import type { ResponseCreateParams, Responses, ResponseStreamEvent } from "./api/response-types.js";
import { responsesOf } from "./api/responses.js";
import type {
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatCompletions,
  CompletionOptions,
} from "./chat.js";
import type { Engine } from "./engine-types.js";
import { InvalidRequestError, ModelNotFoundError, NetworkError } from "./errors.js";
import type { DeviceInfo, ModelInfo } from "./loaded.js";
import { deletePromptCache } from "./pages.js";
import type { MemoryUse } from "./protocol.js";
import { Server } from "./remote-server.js";
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
    listed = await list(server, signal);
  } catch (error) {
    // Not every server has a list.
    if (!(error instanceof ModelNotFoundError && error.status === 404 && model)) throw error;
  }
  const name = model ?? listed[0]?.id;
  if (name === undefined) throw new ModelNotFoundError(`${options.baseURL} lists no models: name one.`);
  return new RemoteEngine(server, name);
}

async function list(server: Server, signal?: AbortSignal): Promise<Model[]> {
  const { data } = Object(await server.json("/models", undefined, signal)) as { data?: unknown };
  const isModel = (item: unknown): item is Model => typeof (Object(item) as Partial<Model>).id === "string";
  if (Array.isArray(data) && data.every(isModel)) return data;
  throw new NetworkError(`The server ${server.host} failed: its answer is not a list of models.`, 200);
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
    const unknown = {
      architecture: "",
      parameters: 0,
      quantization: "",
      license: null,
      sha256: [],
      warnings: [],
    };
    const chats = { hasChatTemplate: true, draft: null, sampling: {}, tools: "template" as const };
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
    const asked = <T extends { adapters?: unknown[] | null }>({ adapters, ...params }: T) => {
      if (adapters?.length) throw refusal("adapters");
      return { ...params, model: name };
    };
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
        ? server.events<ResponseStreamEvent>("/responses", { ...params, model: name }, signal)
        : server.json("/responses", { ...params, model: name }, signal);
    // Many servers have chats only: a response is then made of one here.
    const byChat = responsesOf(name, this.chat.completions);
    let isMissing = false;
    const create = async (params: ResponseCreateParams, options?: CompletionOptions) => {
      if (isMissing) return byChat.create(params, options);
      try {
        return await respond(params, options);
      } catch (error) {
        isMissing = error instanceof ModelNotFoundError && error.status === 404;
        if (!isMissing) throw error;
        return byChat.create(params, options);
      }
    };
    this.responses = { create: create as Responses["create"] };
    const embed = (params: EmbeddingCreateParams, { signal }: { signal?: AbortSignal } = {}) =>
      server.json<EmbeddingResponse>("/embeddings", { ...params, model: name }, signal);
    this.embeddings = { create: embed };
    this.models = {
      list: () => server.json("/models", undefined),
      retrieve: (id) => server.json(`/models/${encodeURIComponent(id)}`, undefined),
    };
    const own = apiFetch(this);
    this.fetch = async (input, init) => {
      const request = new Request(input, init);
      if (!/\/v1\/responses$/.test(new URL(request.url).pathname)) return server.forward(request, name);
      if (isMissing) return own(request);
      const copy = request.clone();
      const answer = await server.forward(request, name);
      isMissing = answer.status === 404;
      if (!isMissing) return answer;
      await answer.body?.cancel();
      return own(copy);
    };
    const none = () => {
      throw refusal();
    };
    this.adapters = { load: notHere, list: () => [], unload: notHere, export: none };
    const resumable = async () => [];
    this.trainings = { plan: notHere, estimate: notHere, resumable, discard: notHere, snapshot: notHere };
  }

  readonly train = notHere;
  readonly score = notHere;
  readonly tokenize = notHere;
  readonly detokenize = notHere;

  async forget(): Promise<void> {
    // What a server keeps is its own affair. Here there may be pages of another engine.
    await deletePromptCache();
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

function refusal(param?: string): InvalidRequestError {
  return new InvalidRequestError("The model runs on a server, which does not offer this.", param);
}

async function notHere(): Promise<never> {
  throw refusal();
}
