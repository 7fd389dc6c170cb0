/**
 * The engine as the page sees it: a queue of calls to a worker, which is replaced when its device or its wasm
 * fails.
 */
import { LoadedAdapters, type AdapterCall, type AdapterUse } from "./adapters.js";
import { completionsOf, type TextCompletions } from "./api/completions.js";
import { streamedChoices, wholeChoices } from "./api/choices.js";
import { apiFetch } from "./api/fetch.js";
import type { PromptLogprob } from "./api/logprobs.js";
import { modelsOf, type Models } from "./api/models.js";
import { embeddingsOf, type Embeddings, type EmbeddingRequest } from "./api/embeddings.js";
import type { Responses } from "./api/response-types.js";
import { responsesOf } from "./api/responses.js";
import type {
  ChatCompletion,
  ChatCompletionCreateParams,
  ChatCompletions,
  CompletionOptions,
  ContextOverflow,
} from "./chat.js";
import { CompletionBuilder, type Told } from "./chat-builder.js";
import { requestPersistentStorage } from "./browser.js";
import type { Engine, EngineOptions } from "./engine-types.js";
import {
  AbortedError,
  DeviceLostError,
  InternalError,
  InvalidRequestError,
  WorkerLostError,
} from "./errors.js";
import { deviceInfo, modelInfo, type DeviceInfo, type ModelInfo } from "./loaded.js";
import { spawnWorker, type WorkerLike, type WorkerLink } from "./link.js";
import type { Calls, Loaded, LoadRequest, MemoryUse } from "./protocol.js";
import { deletePromptCache } from "./pages.js";
import { CallQueue, disposed } from "./queue.js";
import { kvFormat, responseTemplate, overflow, tokenIds, toRuntimeRequest } from "./request.js";
import { createRemoteEngine, type RemoteEngineOptions } from "./remote.js";
import type {
  RuntimeCallDelta,
  RuntimeEmbedding,
  RuntimeEnd,
  RuntimeEvent,
  RuntimeRequest,
  RuntimeStart,
} from "./runtime.js";
import { draftFiles, resolveSource } from "./source.js";
import { start } from "./start.js";
import { ChatStream } from "./stream.js";
import {
  checkpointStore,
  Teacher,
  type TrainingMethod,
  type TrainOptions,
  type TrainResult,
} from "./training.js";

/**
 * Loads a model, from the browser's storage if it is there, and returns an engine for it. With `baseURL`, the
 * engine is one on a server with OpenAI's API, to which everything is sent that it is asked.
 */
export function createEngine(options: EngineOptions | RemoteEngineOptions): Promise<Engine> {
  if ("baseURL" in options) return createRemoteEngine(options);
  return createEngineWith(options, spawnWorker, location.href);
}

/** @internal `createEngine` with another worker and page address. */
export async function createEngineWith(
  options: EngineOptions,
  spawn: () => WorkerLike,
  base: string,
): Promise<Engine> {
  const { contextLength, parallel, device = "auto", threads, kernels = "", signal } = options;
  const { promptCacheBytes = 0 } = options;
  if (contextLength !== undefined && !(Number.isSafeInteger(contextLength) && contextLength > 0))
    throw new InvalidRequestError("`contextLength` must be an integer above 0.", "contextLength");
  if (parallel !== undefined && !(Number.isSafeInteger(parallel) && parallel > 0 && parallel <= 8))
    throw new InvalidRequestError("`parallel` must be an integer from 1 to 8.", "parallel");
  if (!(Number.isSafeInteger(promptCacheBytes) && promptCacheBytes >= 0))
    throw new InvalidRequestError("`promptCacheBytes` must be an integer from 0.", "promptCacheBytes");
  if (!["auto", "webgpu", "cpu"].includes(device))
    throw new InvalidRequestError('`device` must be "auto", "webgpu" or "cpu".', "device");
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads > 0 && threads <= 64))
    throw new InvalidRequestError("`threads` must be an integer from 1 to 64.", "threads");
  const onOverflow = overflow(options.contextOverflow, "contextOverflow");
  const format = kvFormat(options.kvFormat);
  const source = resolveSource(options.model, options, base);
  const draft = options.draft === undefined ? null : draftFiles(options.draft, options, base);
  const request: LoadRequest = {
    ...source,
    draft,
    contextLength: contextLength ?? null,
    template: options.template ?? source.template,
    fallbackTemplate: options.fallbackTemplate ?? null,
    responseTemplate: responseTemplate(options.responseTemplate),
    parallel: parallel ?? null,
    kvFormat: format,
    promptCacheBytes,
    device,
    threads: threads ?? null,
    kernels,
    refresh: options.refresh ?? false,
    share: options.crossOriginStorage ?? true,
    waits: options.onHeader !== undefined,
  };
  if (signal?.aborted) throw new AbortedError();
  // Not waited for: some browsers ask the person.
  const files = [...source.files, ...(draft?.files ?? [])];
  if (files.some((file) => file.kind === "url")) void requestPersistentStorage();
  const { link, loaded } = await start(spawn, request, signal, options);
  const again = { ...request, refresh: false, waits: false };
  return new WorkerEngine(spawn, base, again, link, loaded, onOverflow);
}

class WorkerEngine implements Engine {
  readonly model: ModelInfo;
  readonly device: DeviceInfo;
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: TextCompletions;
  readonly responses: Responses;
  readonly embeddings: Embeddings;
  readonly models: Models;
  readonly fetch: typeof fetch;
  readonly adapters: LoadedAdapters;
  readonly trainings: Teacher;
  readonly #spawn: () => WorkerLike;
  readonly #request: LoadRequest;
  /** Where a request does not say it. */
  readonly #onOverflow: ContextOverflow | undefined;
  /** Null if the worker is gone: the next call starts another one. */
  #link: WorkerLink | null;
  /** The worker that is being started in its place. */
  #starting: Promise<WorkerLink> | null = null;
  readonly #lifetime = new AbortController();
  readonly #queue = new CallQueue(this.#lifetime.signal);

  constructor(
    spawn: () => WorkerLike,
    base: string,
    request: LoadRequest,
    link: WorkerLink,
    loaded: Loaded,
    onOverflow: ContextOverflow | undefined,
  ) {
    this.#spawn = spawn;
    this.#request = request;
    this.#onOverflow = onOverflow;
    this.#link = link;
    this.model = modelInfo(loaded.model);
    this.device = deviceInfo(loaded);
    const create = (params: ChatCompletionCreateParams, options?: CompletionOptions) =>
      this.#create(params, options);
    const completions: ChatCompletions = { create: create as ChatCompletions["create"] };
    this.chat = { completions };
    this.completions = completionsOf(this.model.name, {
      request: (params) => this.#checked(params),
      whole: (request, options) => this.#whole(request, false, options),
      streamed: (request, options) => this.#streamed(request, { usage: true, ids: false }, options),
    });
    this.responses = responsesOf(this.model.name, completions);
    this.embeddings = embeddingsOf(this.model.name, (request, signal) => this.#embed(request, signal));
    this.models = modelsOf(this.model.name);
    this.fetch = apiFetch(this);
    const call: AdapterCall = (method, params, signal) => this.#simple(method, params, signal);
    this.adapters = new LoadedAdapters(this.model.name, base, call);
    this.trainings = new Teacher({
      model: this.model.name,
      call: (method, params) => this.#once(method, params),
      store: checkpointStore,
      adapters: this.adapters,
    });
  }

  train(options: TrainOptions): Promise<TrainResult> {
    return this.trainings.train(options);
  }

  async score(
    ids: ArrayLike<number>,
    {
      oneByOne = false,
      adapters,
      signal,
    }: { oneByOne?: boolean; adapters?: AdapterUse[]; signal?: AbortSignal } = {},
  ): Promise<{ logprobs: number[]; top: number[] }> {
    const params = { ids: tokenIds(ids), oneByOne, adapters: this.adapters.uses({ adapters }) };
    return this.#simple("score", params, signal);
  }

  async tokenize(text: string, { special = false }: { special?: boolean } = {}): Promise<number[]> {
    if (typeof text !== "string") throw new InvalidRequestError("`text` must be a string.", "text");
    return this.#simple("tokenize", { text, special });
  }

  async detokenize(ids: ArrayLike<number>): Promise<string> {
    return this.#simple("detokenize", { ids: tokenIds(ids) });
  }

  async forget(): Promise<void> {
    if (this.#link && !this.#link.closed) return this.#link.call("forget", null);
    await deletePromptCache();
  }

  async memory(): Promise<MemoryUse> {
    if (!this.#link || this.#link.closed) return { wasmBytes: 0, gpuBytes: 0 };
    return this.#link.call("memory", null);
  }

  async dispose(): Promise<void> {
    this.#lifetime.abort();
    this.#link?.close(disposed());
    this.#link = null;
  }

  #checked(params: ChatCompletionCreateParams): RuntimeRequest {
    const request = toRuntimeRequest(params);
    if (this.#onOverflow) request.context_overflow ??= this.#onOverflow;
    const adapters = this.adapters.uses(params);
    if (adapters.length > 0) request.adapters = adapters;
    return request;
  }

  async #create(
    params: ChatCompletionCreateParams,
    options?: CompletionOptions,
  ): Promise<ChatStream | ChatCompletion> {
    const request = this.#checked(params);
    const usage = params.stream_options?.include_usage === true;
    const ids = params.return_token_ids === true;
    const n = params.n ?? 1;
    const whole = (one: RuntimeRequest, own?: CompletionOptions) => this.#whole(one, ids, own);
    if (n > 1 && params.stream)
      return streamedChoices(request, n, { usage, ids }, options, (...one) => this.#streamed(...one));
    if (n > 1) return wholeChoices(request, n, options, whole);
    if (!params.stream) return whole(request, options);
    return this.#streamed(request, { usage, ids }, options);
  }

  async #embed(request: EmbeddingRequest, signal?: AbortSignal): Promise<RuntimeEmbedding> {
    let found: RuntimeEmbedding | null = null;
    const usual = { max_tokens: null, temperature: 1, top_p: 1, seed: null, stop: [] };
    const onEvent = (event: RuntimeEvent) => {
      if (event.type === "embedding") found = event;
    };
    await this.#queue.together(signal, () => this.#generate({ ...usual, ...request }, signal, onEvent));
    if (!found) throw new InternalError("There was no embedding.");
    return found;
  }

  async #whole(
    request: RuntimeRequest,
    tellsIds: boolean,
    { signal, onPrefill }: CompletionOptions = {},
  ): Promise<ChatCompletion> {
    const before = request.continue_ids?.length ?? 0;
    const answer = new CompletionBuilder(this.model.name, { usage: false, ids: tellsIds }, before);
    let text = "";
    let reasoning = "";
    const calls: RuntimeCallDelta[] = [];
    const logprobs: PromptLogprob[] = [];
    const ids: number[] = [];
    let end: RuntimeEnd | null = null;
    let omitted = 0;
    const onStart = (start: RuntimeStart) => (omitted = start.omitted_messages);
    const onEvent = (event: RuntimeEvent) => {
      if (event.type === "prefill") onPrefill?.(event.done, event.total);
      else if (event.type === "prompt") logprobs.push(...event.logprobs);
      else if (event.type !== "embedding") {
        text += event.text;
        reasoning += event.reasoning ?? "";
        calls.push(...(event.calls ?? []));
        if (event.logprob) logprobs.push(event.logprob);
      }
      if (event.type === "token") ids.push(event.id);
      if (event.type === "end") end = event;
    };
    await this.#queue.together(signal, () => this.#generate(request, signal, onEvent, onStart));
    if (!end) throw new InternalError("The generation had no end.");
    const told = request.top_logprobs === undefined ? null : logprobs;
    return answer.whole(text, reasoning, calls, end, omitted, told, ids);
  }

  async #streamed(
    request: RuntimeRequest,
    told: Told,
    { signal: outer, onPrefill }: CompletionOptions = {},
  ): Promise<ChatStream> {
    const answer = new CompletionBuilder(this.model.name, told, request.continue_ids?.length);
    const controller = new AbortController();
    const signal = outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
    const stream = new ChatStream(controller);
    const onEvent = (event: RuntimeEvent) => {
      if (event.type === "prefill") onPrefill?.(event.done, event.total);
      else if (event.type === "prompt") stream.push(answer.prompt(event.logprobs));
      else if (event.type === "end") stream.push(...answer.last(event));
      else if (event.type === "token") stream.push(...answer.pieces(event));
    };
    await new Promise<void>((resolve, reject) => {
      let started = false;
      const onStart = (start: RuntimeStart) => {
        // A continuation on a new worker starts again, but the answer has already begun.
        if (!started) stream.push(answer.first(start));
        started = true;
        resolve();
      };
      this.#queue
        .together(signal, () => this.#generate(request, signal, onEvent, onStart))
        .then(
          () => stream.end(),
          (error: unknown) => {
            stream.end(error);
            reject(error as Error);
          },
        );
    });
    return stream;
  }

  /** One generation. After the device or the worker is lost, it continues after the tokens it already has. */
  #generate(
    request: RuntimeRequest,
    signal: AbortSignal | undefined,
    onEvent: (event: RuntimeEvent) => void,
    onStart?: (start: RuntimeStart) => void,
  ): Promise<void> {
    const ids = [...(request.continue_ids ?? [])];
    // What was told of the prompt is not told again.
    const resumed = () => ({ ...request, continue_ids: [...ids], prompt_logprobs: false });
    return this.#recovering((link) =>
      link.call("generate", ids.length > 0 ? resumed() : request, {
        signal,
        onNotice: (notice) => {
          if (notice.kind === "start") onStart?.(notice.start);
          if (notice.kind !== "event") return;
          if (notice.event.type === "token") ids.push(notice.event.id);
          onEvent(notice.event);
        },
      }),
    );
  }

  #simple<M extends "score" | "tokenize" | "detokenize" | "loadAdapter" | "unloadAdapter">(
    method: M,
    params: Calls[M]["params"],
    signal?: AbortSignal,
  ): Promise<Calls[M]["result"]> {
    const task = () => this.#recovering((link) => link.call(method, params, { signal }));
    if (method === "tokenize" || method === "detokenize") return this.#queue.together(signal, task);
    return this.#queue.alone(signal, task);
  }

  /** A call of a training, whose worker is not simply replaced when it is lost. */
  #once<M extends TrainingMethod>(method: M, params: Calls[M]["params"]): Promise<Calls[M]["result"]> {
    return this.#queue.alone(undefined, async () => {
      const link = await this.#worker();
      try {
        return await link.call(method, params);
      } catch (error) {
        if (error instanceof DeviceLostError || error instanceof WorkerLostError) link.close(error);
        throw error;
      }
    });
  }

  /** Runs `act`, and once more on a new worker if the device or the worker is lost. */
  async #recovering<T>(act: (link: WorkerLink) => Promise<T>): Promise<T> {
    for (let rebuilt = false; ; rebuilt = true) {
      const link = await this.#worker();
      try {
        return await act(link);
      } catch (error) {
        if (!(error instanceof DeviceLostError || error instanceof WorkerLostError)) throw error;
        link.close(error);
        if (rebuilt) throw error;
      }
    }
  }

  /** The worker, or a new one if it is gone, which all calls share. */
  async #worker(): Promise<WorkerLink> {
    if (this.#link && !this.#link.closed) return this.#link;
    this.#link = null;
    this.#starting ??= this.#restart().finally(() => (this.#starting = null));
    return this.#starting;
  }

  async #restart(): Promise<WorkerLink> {
    const { link } = await start(this.#spawn, this.#request, this.#lifetime.signal);
    await this.adapters.restore(link);
    this.#link = link;
    return link;
  }
}
