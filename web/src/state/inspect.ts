import { effect, signal } from "@preact/signals";
import { AbortedError, chooseDevice, deviceMemory, fitOf, inspectModel, OutOfMemoryError } from "nomoat";
import type { ModelInspection } from "nomoat";
import { hubOptions } from "./hub";
import { settings } from "./settings";
import { dialog, doubt } from "./ui";

/** What is known of the model that the person has named. */
export type Inspection =
  | { kind: "none" }
  | { kind: "running"; what: string }
  | { kind: "done"; what: string; found: ModelInspection }
  /** A server is being added; its address and key begin like this. */
  | { kind: "server"; baseURL: string; apiKey: string }
  | { kind: "failed"; what: string; error: unknown; isOwnFile?: boolean };

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

/**
 * Reads a model's header. `model` is an address, a repository, a catalogue id or opened files; `file` one of
 * the repository's files.
 */
export async function inspect(model: string | readonly File[], file?: string): Promise<void> {
  const what = typeof model === "string" ? model : namesOf(model);
  current?.abort();
  const controller = new AbortController();
  current = controller;
  inspection.value = { kind: "running", what };
  const { contextLength, device } = settings.value;
  try {
    const found = await inspectModel(typeof model === "string" ? model : [...model], {
      ...hubOptions.value,
      contextLength,
      device,
      signal: controller.signal,
      ...(file !== undefined && { file }),
    });
    if (current === controller) inspection.value = { kind: "done", what, found };
  } catch (error) {
    if (current !== controller || error instanceof AbortedError) return;
    inspection.value = { kind: "failed", what, error, isOwnFile: typeof model !== "string" };
  }
}

function namesOf(files: readonly File[]): string {
  return files.map(({ name }) => name).join(", ");
}

/**
 * Whether opened files are a model that runs on this device and has room there, and what is known of it then,
 * if anything. If not, or if it may have no room, the verdict is shown. Throws if the header cannot be read.
 */
export async function passes(
  files: readonly File[],
  signal: AbortSignal,
): Promise<ModelInspection | null | false> {
  const { contextLength, device } = settings.value;
  let backend;
  try {
    ({ backend } = await chooseDevice(device));
  } catch {
    return null; // The file is not to blame: loading says what is wrong with the device.
  }
  const what = namesOf(files);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (fitOf(size, backend, deviceMemory()) === "too-large") {
    const message = `${what} has ${(size / 1e9).toFixed(1)} GB, which is more than this device has room for.`;
    show({ kind: "failed", what, error: new OutOfMemoryError(message, backend), isOwnFile: true });
    return false;
  }
  const found = await inspectModel([...files], { contextLength, device, signal });
  if (found.problem === null && found.fit === "fits") return found;
  show({ kind: "done", what, found });
  return false;
}

function show(verdict: Inspection): void {
  current?.abort();
  current = null;
  dialog.value = "models";
  inspection.value = verdict;
}

/** Shows the form that adds a server, or another model of a known one. */
export function showServerForm({ baseURL, apiKey } = { baseURL: "", apiKey: "" }): void {
  clearInspection();
  inspection.value = { kind: "server", baseURL, apiKey };
}

/** Forgets what was inspected. */
export function clearInspection(): void {
  current?.abort();
  current = null;
  inspection.value = { kind: "none" };
}

// At once, and not when the dialog's contents are taken apart: that may be after the next inspection began.
effect(() => {
  if (dialog.value === "models") return;
  clearInspection();
  doubt.value = null;
});
