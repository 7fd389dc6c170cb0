/** The runtime's words for a loaded model and its device, and the page's. */
import type { RecommendedSampling } from "./chat.js";
import type { DeviceReason } from "./devices.js";
import type { Loaded, LoadedModel } from "./protocol.js";

/** The device the model runs on. */
export interface DeviceInfo {
  name: string;
  /** `remote`: the model runs on a server, and what it is asked is sent there. */
  backend: "webgpu" | "cpu" | "remote";
  /** Why this device was chosen. */
  reason: DeviceReason;
  /** The reason as a sentence, in English. */
  why: string;
  /** The GPU's driver, if the browser reports it; on the CPU, its vector instructions. */
  driver: string;
  /** A software device, which is slow. */
  isFallback: boolean;
  f16: boolean;
  subgroups: boolean;
  /** The kernels in use: `exact` or `int8`, and on a GPU their variants. */
  kernels: string;
  /** Bytes; 0 on the CPU. */
  maxBufferSize: number;
  /** On the CPU; 0 on a GPU. */
  threads: number;
}

/** The loaded model. Sizes in bytes. */
export interface ModelInfo {
  name: string;
  architecture: string;
  /** Number of weights. */
  parameters: number;
  /** Main tensor type, such as `Q4_1`. */
  quantization: string;
  /** Tokens the context holds. */
  contextLength: number;
  trainedContextLength: number;
  vocabSize: number;
  /** Weights in the file. */
  tensorBytes: number;
  /** Of weights, what is read for each token of an answer: of experts, only those in use. */
  bytesPerToken: number;
  /** All GPU buffers. */
  gpuBytes: number;
  /** The KV cache, included in `gpuBytes`. */
  kvBytes: number;
  hasChatTemplate: boolean;
  /** The name of the draft model, whose buffers are counted above; null without one. */
  draft: string | null;
  /** Who tells the model about tools: its chat template, or a built-in text. Null without a template. */
  tools: "template" | "built-in" | null;
  /** How its makers recommend to choose tokens, if the file says so. Requests do not use it by themselves. */
  sampling: RecommendedSampling;
  license: string | null;
  /** SHA-256 of each of its files, in order; none for a model on a server. */
  sha256: string[];
  /** What was odd in the file and has been put right, in sentences. */
  warnings: string[];
}

/** What the runtime says of a model. */
export function modelInfo(info: LoadedModel): ModelInfo {
  return {
    name: info.name,
    architecture: info.architecture,
    parameters: info.parameters,
    quantization: info.quantization,
    contextLength: info.context_length,
    trainedContextLength: info.trained_context_length,
    vocabSize: info.vocab_size,
    tensorBytes: info.tensor_bytes,
    bytesPerToken: info.bytes_per_token,
    gpuBytes: info.gpu_bytes,
    kvBytes: info.kv_bytes,
    hasChatTemplate: info.has_chat_template,
    draft: info.draft,
    tools: info.tools,
    sampling: info.sampling,
    license: info.license,
    sha256: info.sha256,
    warnings: info.warnings,
  };
}

/** What the runtime says of a device. */
export function deviceInfo({ device, reason, why }: Loaded): DeviceInfo {
  const { name } = device;
  if ("threads" in device) {
    const { simd: driver, threads } = device;
    const { kernels } = device;
    const none = { isFallback: false, f16: false, subgroups: false, kernels, maxBufferSize: 0 };
    return { name, backend: "cpu", reason, why, driver, ...none, threads };
  }
  return {
    name,
    backend: "webgpu",
    reason,
    why,
    driver: device.driver,
    isFallback: device.is_fallback,
    f16: device.f16,
    subgroups: device.subgroup_size > 0,
    kernels: device.kernels,
    maxBufferSize: device.max_buffer_size,
    threads: 0,
  };
}
