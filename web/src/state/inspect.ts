import { effect, signal } from "@preact/signals";
import { AbortedError, inspectModel } from "nomoat";
import type { ModelInspection } from "nomoat";
import { hubOptions } from "./hub";
import { settings } from "./settings";
import { dialog } from "./ui";

/** What is known of the model that the person has named. */
export type Inspection =
  | { kind: "none" }
  | { kind: "running"; what: string }
  | { kind: "done"; what: string; found: ModelInspection }
  | { kind: "failed"; what: string; error: unknown };

export const inspection = signal<Inspection>({ kind: "none" });

let current: AbortController | null = null;

/**
 * Whether a text names a model: an address, or a repository as `owner/name`. Anything else is looked for in
 * the list.
 */
export function namesModel(text: string): boolean {
  const trimmed = text.trim();
  return /^https?:\/\/\S+$/i.test(trimmed) || /^[\w-][\w.-]*\/[\w.-]*[\w-]$/.test(trimmed);
}

/** Reads a model's header. `what` is an address, a repository or a catalogue id; `file` one of its files. */
export async function inspect(what: string, file?: string): Promise<void> {
  current?.abort();
  const controller = new AbortController();
  current = controller;
  inspection.value = { kind: "running", what };
  const { contextLength, device } = settings.value;
  try {
    const found = await inspectModel(what, {
      ...hubOptions.value,
      contextLength,
      device,
      signal: controller.signal,
      ...(file !== undefined && { file }),
    });
    if (current === controller) inspection.value = { kind: "done", what, found };
  } catch (error) {
    if (current !== controller || error instanceof AbortedError) return;
    inspection.value = { kind: "failed", what, error };
  }
}

/** Forgets what was inspected. */
export function clearInspection(): void {
  current?.abort();
  current = null;
  inspection.value = { kind: "none" };
}

// At once, and not when the dialog's contents are taken apart: that may be after the next inspection began.
effect(() => {
  if (dialog.value !== "models") clearInspection();
});
