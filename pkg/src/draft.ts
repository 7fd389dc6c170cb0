/** Loads a draft model beside the model that it guesses for. */
import { InvalidRequestError } from "./errors.js";
import { loadModel, type LoadEnv } from "./loader.js";
import type { ProgressMeter } from "./progress.js";
import type { LoadRequest, ModelFiles } from "./protocol.js";
import type { LoadTarget, Runtime, RuntimeErrorCode, RuntimeModelInfo } from "./runtime.js";

/** Loads a draft model, and returns what the model is with it. */
export async function loadDraft(
  runtime: Runtime,
  request: LoadRequest,
  draft: ModelFiles,
  env: LoadEnv,
  progress: ProgressMeter,
  signal: AbortSignal,
): Promise<RuntimeModelInfo> {
  let finished = "";
  const target: LoadTarget = {
    begin: (sizes) => runtime.begin_draft(sizes),
    push_header: (file, bytes) => runtime.push_header(file, bytes),
    check: () => runtime.check(),
    prepare: () => runtime.prepare(),
    push_data: (file, bytes) => runtime.push_data(file, bytes),
    finish: async () => (finished = await runtime.finish_draft()),
  };
  try {
    await loadModel(target, { ...request, ...draft }, env, progress, signal);
  } catch (error) {
    const { code, message } = Object(error) as Partial<InvalidRequestError>;
    if (code !== ("invalid_request" satisfies RuntimeErrorCode)) throw error;
    throw new InvalidRequestError(message ?? "", "draft");
  }
  return (JSON.parse(finished) as { model: RuntimeModelInfo }).model;
}
