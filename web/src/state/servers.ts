/** Servers with OpenAI's API that the person added. Addresses and keys stay in this browser. */
import { createEngine, ModelNotFoundError, type Engine } from "nomoat";
import { isRecord, persisted } from "../lib/persisted";
import { addressOf } from "../lib/servers";

/** A server, and those of its models that the person chose. */
export interface ModelServer {
  baseURL: string;
  /** Empty if the server wants none. */
  apiKey: string;
  models: readonly string[];
}

/** A model on a server. */
export interface RemoteModel {
  baseURL: string;
  apiKey: string;
  model: string;
}

const KEY = "nomoat-servers";
/** Milliseconds until a server must have told its models. */
const PATIENCE = 15_000;

function parse(stored: unknown): readonly ModelServer[] {
  if (!Array.isArray(stored)) return [];
  return stored.flatMap((item: unknown) => {
    if (!isRecord(item) || typeof item.baseURL !== "string" || !Array.isArray(item.models)) return [];
    const models = item.models.filter((model): model is string => typeof model === "string" && model !== "");
    const apiKey = typeof item.apiKey === "string" ? item.apiKey : "";
    const isUsable = models.length > 0 && addressOf(item.baseURL) === item.baseURL;
    return isUsable ? [{ baseURL: item.baseURL, apiKey, models }] : [];
  });
}

/** The servers, kept across visits. */
export const servers = persisted<readonly ModelServer[]>(KEY, parse);

// A key that was deleted in another tab must not come back from this one.
addEventListener("storage", ({ key, newValue }) => {
  if (key !== KEY && key !== null) return;
  let stored: unknown;
  try {
    stored = JSON.parse(newValue ?? "null");
  } catch {
    return;
  }
  servers.value = parse(stored);
});

/** An engine on a server. It takes no memory, so nothing has to make room before. */
export function connect(
  { baseURL, apiKey, model }: Omit<RemoteModel, "model"> & { model?: string },
  outer: AbortSignal,
): Promise<Engine> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(PATIENCE)]);
  const options = { baseURL, ...(apiKey !== "" && { apiKey }), ...(model !== undefined && { model }) };
  return createEngine({ ...options, signal });
}

/** The names of a server's models; none if the server has no list. */
export async function modelsOf(baseURL: string, apiKey: string, outer: AbortSignal): Promise<string[]> {
  try {
    const engine = await connect({ baseURL, apiKey }, outer);
    const { data } = await engine.models.list();
    return data.map(({ id }) => id);
  } catch (error) {
    if (error instanceof ModelNotFoundError && (error.status ?? 404) === 404) return [];
    throw error;
  }
}

/** Remembers a model of a server, with the key that was given last. */
export function addServerModel({ baseURL, apiKey, model }: RemoteModel): void {
  const known = servers.value.find((server) => server.baseURL === baseURL)?.models ?? [];
  const models = known.includes(model) ? known : [...known, model];
  const others = servers.value.filter((server) => server.baseURL !== baseURL);
  servers.value = [...others, { baseURL, apiKey, models }];
}

/** Forgets a model of a server. */
export function forgetServerModel({ baseURL, model }: RemoteModel): void {
  servers.value = servers.value.map((server) =>
    server.baseURL === baseURL
      ? { ...server, models: server.models.filter((name) => name !== model) }
      : server,
  );
}

/** Forgets a server, its models and its key. */
export function forgetServer({ baseURL }: RemoteModel): void {
  servers.value = servers.value.filter((server) => server.baseURL !== baseURL);
}
