import { effect, signal, type Signal } from "@preact/signals";

/**
 * A signal kept in localStorage, or in another storage. `parse` turns whatever was stored (or undefined) into
 * a valid value.
 */
export function persisted<T>(
  key: string,
  parse: (stored: unknown) => T,
  storage: () => Storage = () => localStorage,
): Signal<T> {
  let stored: unknown;
  try {
    stored = JSON.parse(storage().getItem(key) ?? "null");
  } catch {
    stored = undefined;
  }
  const value = signal(parse(stored ?? undefined));
  effect(() => {
    const text = JSON.stringify(value.value);
    try {
      storage().setItem(key, text);
    } catch {
      // Storage is full or forbidden: the value lasts as long as the page.
    }
  });
  return value;
}

/** True for a plain object, whose fields may then be looked at one by one. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
