/** Errors as OpenAI's servers send them: a status and `{ error: { message, type, param, code } }`. */
import { InvalidRequestError, NomoatError } from "../errors.js";

/** The body of an error. */
export interface ApiErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An error that has a status of its own, such as an unknown address. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Status of each `code` of a NomoatError that is the request's fault. All others are 500: clients try those
 * again.
 */
const STATUS = new Map([
  ["invalid_request", 400],
  ["context_length_exceeded", 400],
  ["template", 400],
  ["model_not_found", 404],
]);

/** Status and body of anything thrown. */
export function toApiError(error: unknown): { status: number; body: ApiErrorBody } {
  const { message, param } = Object(error) as { message?: unknown; param?: unknown };
  const code = error instanceof ApiError || error instanceof NomoatError ? error.code : "internal";
  const status = error instanceof ApiError ? error.status : (STATUS.get(code) ?? 500);
  return {
    status,
    body: {
      error: {
        message: typeof message === "string" ? message : String(error),
        type: status < 500 ? "invalid_request_error" : "server_error",
        param: typeof param === "string" ? param : code === "model_not_found" ? "model" : null,
        code: error instanceof InvalidRequestError ? error.apiCode : code,
      },
    },
  };
}
