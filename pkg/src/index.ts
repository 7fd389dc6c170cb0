/** Nomoat: open language models in a browser tab, on WebGPU or the CPU. */
export { createEngine } from "./engine.js";
export type { ChatCompletions, CompletionOptions, Engine, EngineOptions, ModelInfo } from "./engine.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  Grammar,
  ResponseFormat,
  ChatCompletionStreamParams,
  ChatCompletionWholeParams,
  ChatMessage,
  CompletionUsage,
  FinishReason,
  Timings,
} from "./chat.js";
export type { AdapterFile, AdapterInfo, Adapters, AdapterSource, AdapterUse } from "./adapters.js";
export type {
  TextCompletion,
  TextCompletionCreateParams,
  TextCompletionStreamParams,
  TextCompletionWholeParams,
  TextCompletions,
} from "./api/completions.js";
export type { DeviceInfo } from "./device-info.js";
export type {
  Embedding,
  EmbeddingCreateParams,
  EmbeddingOptions,
  EmbeddingResponse,
  Embeddings,
} from "./api/embeddings.js";
export type { ChatLogprobs, TextLogprobs, TokenLogprob } from "./api/logprobs.js";
export type { Model, Models } from "./api/models.js";
export type {
  ModelResponse,
  ResponseCreateParams,
  ResponseInputMessage,
  ResponseOutputMessage,
  ResponseOutputText,
  ResponseStreamEvent,
  ResponseStreamParams,
  ResponseTextFormat,
  ResponseUsage,
  ResponseWholeParams,
  Responses,
} from "./api/responses.js";
export type { RemoteEngineOptions } from "./remote.js";
export { ChatStream } from "./stream.js";
export { chooseDevice } from "./features.js";
export { catalogue } from "./catalogue.js";
export type { CatalogueEntry, CatalogueFile, Strength } from "./catalogue.js";
export { downloadModel } from "./download.js";
export type { DownloadOptions } from "./download.js";
export { inspectModel } from "./inspect-here.js";
export type { InspectOptions, InspectProblem, ModelInspection } from "./inspect.js";
export type { HubFile, HubRepository } from "./hub.js";
export { deviceMemory, fitOf } from "./fit.js";
export type { Fit } from "./fit.js";
export { modelUrls } from "./source.js";
export type { ModelSource, SourceOptions } from "./source.js";
export type { ChosenDevice, DeviceChoice, DeviceReason } from "./devices.js";
export type { LoadProgress, MemoryUse } from "./protocol.js";
export { deleteStoredModel, listStoredModels, requestPersistentStorage, storageEstimate } from "./browser.js";
export type { StoredModel } from "./store.js";
export {
  AbortedError,
  ContextLengthError,
  CorruptFileError,
  DeviceLostError,
  DeviceWrongError,
  InternalError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
  NoSimdError,
  NoWebGpuError,
  OutOfMemoryError,
  QuotaError,
  UnsupportedModelError,
} from "./errors.js";
