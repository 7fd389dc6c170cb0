/** Error classes by cause, and how errors travel from the worker to the page. */

/** Data of an error; which members are set depends on its class. */
export interface ErrorDetails {
  /** HTTP status, where there was an answer. */
  status?: number;
  /** Bytes needed and bytes available. */
  needed?: number;
  available?: number;
  /** The request's field that is wrong, and what OpenAI's API calls that. */
  param?: string;
  apiCode?: string;
  /** The device that ran out of memory. */
  backend?: "webgpu" | "cpu";
}

/**
 * Base class of all errors of this package. Its own code is `template`: the model's chat template failed.
 */
export class NomoatError extends Error {
  /** A stable word for the cause, such as `corrupt_file`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = "NomoatError";
  }
}

/** The browser or the machine has no WebGPU adapter. */
export class NoWebGpuError extends NomoatError {
  constructor(message: string) {
    super("no_webgpu", message);
    this.name = "NoWebGpuError";
  }
}

/** The model was to run on the CPU, but this browser's WebAssembly has no SIMD. */
export class NoSimdError extends NomoatError {
  constructor(message: string) {
    super("no_simd", message);
    this.name = "NoSimdError";
  }
}

/** The device failed the self-test: it gives wrong results and is not used. */
export class DeviceWrongError extends NomoatError {
  constructor(message: string) {
    super("device_wrong", message);
    this.name = "DeviceWrongError";
  }
}

/** The catalogue has no such id, or the server has no such file (404) or refuses it (401, 403). */
export class ModelNotFoundError extends NomoatError {
  /** HTTP status, if a server said so. */
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super("model_not_found", message);
    this.name = "ModelNotFoundError";
    this.status = status;
  }
}

/** The file is damaged, cut off, not GGUF, or not the file that was pinned. */
export class CorruptFileError extends NomoatError {
  constructor(message: string, options?: ErrorOptions) {
    super("corrupt_file", message, options);
    this.name = "CorruptFileError";
  }
}

/** The file is sound, but its architecture, a tensor type or a feature is not implemented. */
export class UnsupportedModelError extends NomoatError {
  declare readonly code: "unsupported_architecture" | "unsupported_tensor_type" | "unsupported_feature";

  constructor(
    code: "unsupported_architecture" | "unsupported_tensor_type" | "unsupported_feature",
    message: string,
  ) {
    super(code, message);
    this.name = "UnsupportedModelError";
  }
}

/** The GPU or the wasm memory could not hold the model and its context. */
export class OutOfMemoryError extends NomoatError {
  /** The device that ran the model. */
  readonly backend: "webgpu" | "cpu" | undefined;

  constructor(message: string, backend?: "webgpu" | "cpu") {
    super("out_of_memory", message);
    this.name = "OutOfMemoryError";
    this.backend = backend;
  }
}

/** The browser's storage cannot hold the model. */
export class QuotaError extends NomoatError {
  /** Bytes the model still needs. */
  readonly needed: number;
  /** Bytes the browser still grants. */
  readonly available: number;

  constructor(message: string, needed: number, available: number) {
    super("quota", message);
    this.name = "QuotaError";
    this.needed = needed;
    this.available = available;
  }
}

/** The GPU device was lost, and lost again on a new worker. */
export class DeviceLostError extends NomoatError {
  constructor(message: string, options?: ErrorOptions) {
    super("device_lost", message, options);
    this.name = "DeviceLostError";
  }
}

/** The caller's `AbortSignal` fired, or the engine was disposed. `name` is "AbortError", as in the DOM. */
export class AbortedError extends NomoatError {
  constructor(message = "The request was aborted.", options?: ErrorOptions) {
    super("aborted", message, options);
    this.name = "AbortError";
  }
}

/** The network or the server failed, after several tries. */
export class NetworkError extends NomoatError {
  /** HTTP status of the last answer, if there was one. */
  readonly status: number | undefined;

  constructor(message: string, status?: number, options?: ErrorOptions) {
    super("network", message, options);
    this.name = "NetworkError";
    this.status = status;
  }
}

/** The prompt alone is longer than the context. */
export class ContextLengthError extends NomoatError {
  constructor(message: string) {
    super("context_length_exceeded", message);
    this.name = "ContextLengthError";
  }
}

/** A parameter is missing, malformed or not supported; `param` names it. */
export class InvalidRequestError extends NomoatError {
  /** The field at fault, such as `messages[0].role`. */
  readonly param: string | undefined;
  /** What is wrong with it, as one of the codes of OpenAI's API, such as `unknown_parameter`. */
  readonly apiCode: string;

  constructor(message: string, param?: string, apiCode?: string) {
    super("invalid_request", message);
    this.name = "InvalidRequestError";
    this.param = param;
    this.apiCode = apiCode ?? (param === undefined ? "invalid_request" : "invalid_value");
  }
}

/** A bug in this package or its runtime. Please report it. */
export class InternalError extends NomoatError {
  constructor(message: string, options?: ErrorOptions) {
    super("internal", message, options);
    this.name = "InternalError";
  }
}

/**
 * The browser ended the worker, or it hangs. The engine starts a new one; callers see this error only if that
 * one is lost as well.
 */
export class WorkerLostError extends InternalError {
  constructor(message = "The worker ended unexpectedly.") {
    super(message);
  }
}

/** An error as it crosses from the worker to the page. */
export interface WireError extends ErrorDetails {
  code: string;
  message: string;
  /** The wasm instance is dead: the worker must be replaced. */
  fatal?: boolean;
}

/** Rebuilds the error class from its wire form. */
export function fromWire(wire: WireError): NomoatError {
  const { code, message } = wire;
  switch (code) {
    case "no_webgpu":
      return new NoWebGpuError(message);
    case "no_simd":
      return new NoSimdError(message);
    case "device_wrong":
      return new DeviceWrongError(message);
    case "model_not_found":
      return new ModelNotFoundError(message, wire.status);
    case "corrupt_file":
      return new CorruptFileError(message);
    case "unsupported_architecture":
    case "unsupported_tensor_type":
    case "unsupported_feature":
      return new UnsupportedModelError(code, message);
    case "out_of_memory":
      return new OutOfMemoryError(message, wire.backend);
    case "quota":
      return new QuotaError(message, wire.needed ?? 0, wire.available ?? 0);
    case "device_lost":
      return new DeviceLostError(message);
    case "aborted":
      return new AbortedError(message);
    case "network":
      return new NetworkError(message, wire.status);
    case "context_length_exceeded":
      return new ContextLengthError(message);
    case "invalid_request":
      return new InvalidRequestError(message, wire.param, wire.apiCode);
    case "template":
      return new NomoatError(code, message);
    default:
      return new InternalError(message);
  }
}

/** The wire form of anything thrown in the worker. A wasm trap (`WebAssembly.RuntimeError`) is fatal. */
export function toWire(error: unknown): WireError {
  if (error instanceof WebAssembly.RuntimeError)
    return { code: "internal", message: `The runtime stopped: ${error.message}`, fatal: true };
  const { code, message, status, needed, available, param, apiCode } = Object(error) as Partial<WireError>;
  return {
    code: typeof code === "string" ? code : "internal",
    message: typeof message === "string" ? message : String(error),
    ...(status !== undefined && { status }),
    ...(needed !== undefined && { needed }),
    ...(available !== undefined && { available }),
    ...(param !== undefined && { param }),
    ...(apiCode !== undefined && { apiCode }),
  };
}
