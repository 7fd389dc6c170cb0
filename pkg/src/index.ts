/** Nomoat: open language models in a browser tab, on WebGPU or the CPU. */
export { createEngine } from "./engine.js";
export type { Engine, EngineOptions } from "./engine-types.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionCreateParams,
  ChatCompletionStreamParams,
  ChatCompletions,
  ChatCompletionWholeParams,
  ChatContent,
  ChatMessage,
  ChatTool,
  ChatToolCall,
  ChatToolCallDelta,
  ChatToolChoice,
  CompletionOptions,
  CompletionUsage,
  ContextOverflow,
  FinishReason,
  Grammar,
  RecommendedSampling,
  ResponseFormat,
  Timings,
} from "./chat.js";
export type {
  AdapterFile,
  AdapterFormat,
  AdapterInfo,
  Adapters,
  AdapterSource,
  AdapterUse,
} from "./adapters.js";
export type {
  TextCompletion,
  TextCompletionCreateParams,
  TextCompletionStreamParams,
  TextCompletionWholeParams,
  TextCompletions,
} from "./api/completions.js";
export type { DeviceInfo, ModelInfo } from "./loaded.js";
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
  ResponseFunctionCall,
  ResponseFunctionCallOutput,
  ResponseFunctionTool,
  ResponseInputMessage,
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseOutputText,
  ResponseStreamEvent,
  ResponseStreamParams,
  ResponseTextFormat,
  ResponseToolChoice,
  ResponseUsage,
  ResponseWholeParams,
  Responses,
} from "./api/response-types.js";
export type { RemoteEngineOptions } from "./remote.js";
export type {
  TrainingEstimate,
  TrainingExample,
  TrainingPlan,
  TrainingPoint,
  TrainingPreference,
  TrainingSettings,
  TrainingStep,
  Trainings,
  TrainOptions,
  TrainResult,
} from "./training.js";
export { ChatStream } from "./stream.js";
export { chooseDevice } from "./features.js";
export { catalogue } from "./catalogue.js";
export type { CatalogueEntry, CatalogueFile, Strength } from "./catalogue.js";
export { downloadModel } from "./download.js";
export type { DownloadOptions } from "./download.js";
export { inspectModel } from "./inspect-here.js";
export type { InspectOptions, InspectProblem, ModelInspection } from "./inspect.js";
export { measureSpeed } from "./speed-here.js";
export { expectedSpeed } from "./speed.js";
export type { DeviceSpeed, MeasureOptions } from "./speed.js";
export type { HubFile, HubRepository } from "./hub.js";
export { deviceMemory, fitOf } from "./fit.js";
export type { Fit } from "./fit.js";
export { modelUrls } from "./source.js";
export type { ModelSource, SourceOptions } from "./source.js";
export type { ChosenDevice, DeviceChoice, DeviceReason } from "./devices.js";
export type { KvFormat } from "./runtime.js";
export type { LoadProgress, MemoryUse } from "./protocol.js";
export { deletePromptCache } from "./pages.js";
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
