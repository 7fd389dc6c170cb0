import {
  ContextLengthError,
  CorruptFileError,
  DeviceLostError,
  DeviceWrongError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
  NoSimdError,
  NoWebGpuError,
  OutOfMemoryError,
  QuotaError,
  UnsupportedModelError,
} from "nomoat";
import type { Dictionary } from "../i18n";
import { explainServer } from "./server-errors";
import { bytes } from "./format";

/** What a button below an error does. */
export type Remedy =
  "retry" | "storage" | "settings" | "newChat" | "models" | "reload" | "cpu" | "edit" | "remove" | "addModel";

/** An error in the person's language. `detail` is the technical message, in English. */
export interface Explanation {
  title: string;
  help: string;
  detail: string;
  remedies: Remedy[];
}

/** Whose error it is. */
export interface ErrorPlace {
  /** The model is a file that the person opened. */
  isOwnFile?: boolean | undefined;
  /** The address of the server that was asked. */
  server?: string | undefined;
}

/** A dropped or chosen file is not a GGUF file. */
export class NotGgufError extends Error {}

/** Nothing in a file is an adapter. */
export class NoAdapterError extends Error {}

function quotaHelp(error: QuotaError, t: Dictionary): string {
  const { needed, available } = error;
  if (!(needed > available)) return t.errors.quota.helpUnknown;
  return t.errors.quota.help(bytes(needed), bytes(available), bytes(needed - available));
}

/** Says what is wrong and what to do. */
export function explain(error: unknown, t: Dictionary, { isOwnFile, server }: ErrorPlace = {}): Explanation {
  const detail = error instanceof Error ? error.message : String(error);
  const say = (text: { title: string; help: string }, ...remedies: Remedy[]): Explanation => ({
    title: text.title,
    help: text.help,
    detail,
    remedies,
  });
  const ofServer = server === undefined ? null : explainServer(error, t, server, say);
  if (ofServer !== null) return ofServer;
  const { errors } = t;
  if (error instanceof NotGgufError) {
    return { title: t.notGguf(detail), help: t.addModelHelp, detail: "", remedies: ["addModel"] };
  }
  if (error instanceof NoAdapterError) {
    return { title: t.noAdapterIn(detail), help: "", detail: "", remedies: [] };
  }
  if (error instanceof NoWebGpuError) {
    return window.isSecureContext ? say(errors.noWebGpu, "cpu", "reload") : say(errors.insecure, "cpu");
  }
  if (error instanceof NoSimdError) return say(errors.noSimd, "reload");
  if (error instanceof DeviceWrongError) return say(errors.deviceWrong, "cpu", "reload");
  if (error instanceof ModelNotFoundError) return say(errors.modelNotFound, "retry", "models");
  // Nothing of an opened file is stored, and trying again with the same bytes would fail again.
  if (error instanceof CorruptFileError)
    return isOwnFile === true
      ? say(errors.corruptOwn, "addModel", "models")
      : say(errors.corrupt, "retry", "storage");
  if (error instanceof UnsupportedModelError) return say(errors.unsupported, "models");
  if (error instanceof OutOfMemoryError) {
    const onGpu: Remedy[] = error.backend === "webgpu" ? ["cpu"] : [];
    return say(errors.outOfMemory, "retry", "settings", ...onGpu);
  }
  if (error instanceof QuotaError) {
    return say({ title: errors.quota.title, help: quotaHelp(error, t) }, "storage", "retry");
  }
  if (error instanceof DeviceLostError) return say(errors.deviceLost, "retry", "cpu");
  if (error instanceof NetworkError) return say(errors.network, "retry");
  if (error instanceof ContextLengthError)
    return say(errors.contextLength, "edit", "remove", "settings", "newChat");
  if (error instanceof InvalidRequestError)
    return error.param?.startsWith("model") === true
      ? say(errors.modelFiles, "addModel", "models")
      : say(errors.invalidRequest, "settings", "edit", "remove");
  if (error instanceof NomoatError && error.code === "template") return say(errors.template, "models");
  return say(errors.internal, "retry");
}
