import { isRecord, persisted } from "../lib/persisted";

/** A model that the page's server offers in addition to the catalogue. */
export interface ServerModel {
  id: string;
  name: string;
  urls: string[];
  size: number | null;
}

/** The server's /config.json. */
export interface ServerConfig {
  /** Address of a mirror of the hub; null: the public hub. */
  hubEndpoint: string | null;
  models: ServerModel[];
  defaultModel: string | null;
}

function absolute(url: string): string {
  return new URL(url, location.href).href;
}

function serverModel(value: unknown): ServerModel[] {
  if (!isRecord(value) || typeof value.id !== "string") return [];
  const urls = [value.url].flat().filter((url): url is string => typeof url === "string");
  if (urls.length === 0) return [];
  const name = typeof value.name === "string" ? value.name : value.id;
  return [
    {
      id: value.id,
      name,
      urls: urls.map(absolute),
      size: typeof value.size === "number" ? value.size : null,
    },
  ];
}

function fromServer(value: unknown): ServerConfig | null {
  if (!isRecord(value)) return null;
  return {
    hubEndpoint: typeof value.hub_endpoint === "string" ? absolute(value.hub_endpoint) : null,
    models: Array.isArray(value.models) ? value.models.flatMap(serverModel) : [],
    defaultModel: typeof value.default_model === "string" ? value.default_model : null,
  };
}

function parse(stored: unknown): ServerConfig {
  const nothing: ServerConfig = { hubEndpoint: null, models: [], defaultModel: null };
  if (!isRecord(stored) || !Array.isArray(stored.models)) return nothing;
  return {
    hubEndpoint: typeof stored.hubEndpoint === "string" ? stored.hubEndpoint : null,
    models: stored.models.flatMap((model: unknown) =>
      isRecord(model) ? serverModel({ ...model, url: model.urls }) : [],
    ),
    defaultModel: typeof stored.defaultModel === "string" ? stored.defaultModel : null,
  };
}

/** The last configuration from the server, which is also used offline. */
export const config = persisted<ServerConfig>("nomoat-config", parse);

/**
 * Asks the server for its configuration. Without an answer the last one is used.
 */
export async function refreshConfig(): Promise<void> {
  try {
    const response = await fetch("/config.json", {
      cache: "no-store",
      signal: AbortSignal.timeout(3000),
    });
    if (!response.ok) return;
    const fresh = fromServer(await response.json());
    if (fresh !== null) config.value = fresh;
  } catch {
    // Offline, or a static host that answers with an HTML page.
  }
}
