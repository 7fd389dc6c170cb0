/** What is wrong with a server that the person added, and what to do. */
import { ContextLengthError, InvalidRequestError, ModelNotFoundError, NetworkError } from "nomoat";
import type { Dictionary } from "../i18n";
import type { Explanation, Remedy } from "./errors";
import { isBlocked } from "./servers";

/** Null for errors that are not the server's. */
export function explainServer(
  error: unknown,
  t: Dictionary,
  address: string,
  say: (text: { title: string; help: string }, ...remedies: Remedy[]) => Explanation,
): Explanation | null {
  const { server, invalidRequest } = t.errors;
  if (error instanceof ContextLengthError) return say(server.tooLong, "edit", "remove", "newChat");
  if (error instanceof InvalidRequestError) return say(invalidRequest, "settings", "edit", "remove");
  if (error instanceof ModelNotFoundError)
    return say(error.status === 404 ? server.notFound : server.refused, "models", "retry");
  if (!(error instanceof NetworkError)) return null;
  if (error.status === 429) return say(server.busy, "retry", "models");
  if (error.status === 200) return say(server.notApi, "models", "retry");
  // 503: llama.cpp's server loads its model.
  const isSlow = error.status === 503 || Object(error.cause as unknown).name === "TimeoutError";
  if (!isSlow && error.status !== undefined) return say(server.failed, "retry", "models");
  if (isSlow) return say(server.slow, "retry", "models");
  if (isBlocked(address, location.href)) return say(server.blocked, "models");
  const { title, help } = server.unreachable;
  return say({ title, help: help(location.origin) }, "retry", "models");
}
