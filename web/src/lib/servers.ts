/** Addresses of servers. */

/** Whether an address leads to this device, which no other machine can listen to. */
export function isLoopback(address: string): boolean {
  const { hostname } = new URL(address);
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** Whether a browser refuses to ask this address from a page: http from https. */
export function isBlocked(address: string, page: string): boolean {
  return page.startsWith("https:") && address.startsWith("http:") && !isLoopback(address);
}

/**
 * The address of an API from what a person types: `localhost:8080` and `https://host/v1/models` are enough.
 * Null if it cannot be one.
 */
export function addressOf(typed: string): string | null {
  const text = typed.trim();
  if (text === "" || /\s/.test(text)) return null;
  const isWhole = /^https?:\/\//i.test(text);
  if (!isWhole && (/^[a-z]+:\/\//i.test(text) || !URL.canParse(`http://${text}`))) return null;
  const whole = isWhole ? text : `${isLoopback(`http://${text}`) ? "http" : "https"}://${text}`;
  if (!URL.canParse(whole)) return null;
  const { origin, pathname, username } = new URL(whole);
  if (username !== "") return null; // A key has a field of its own.
  const path = pathname
    .replace(/\/+$/, "")
    .replace(/\/(models|(chat\/)?completions|responses|embeddings)$/, "");
  return origin + (path === "" ? "/v1" : path);
}

/** A model's name with its server's, for places that show nothing else of it. */
export function remoteName({ baseURL, model }: { baseURL: string; model: string }): string {
  return `${model} (${hostOf({ baseURL })})`;
}

/** Where a model's server is, for people. */
export function hostOf({ baseURL }: { baseURL: string }): string {
  return new URL(baseURL).host;
}
