import { signal } from "@preact/signals";
import { AbortedError, downloadModel, NetworkError } from "nomoat";
import type { LoadProgress } from "nomoat";
import { t } from "../i18n";
import { hubOptions } from "./hub";
import { refreshStorage, type ModelChoice } from "./models";
import { announcement } from "./ui";

/** A model that is being downloaded for later, or waits for that. */
export interface Download {
  model: ModelChoice;
  state: "waiting" | "running" | "paused" | "failed";
  progress: LoadProgress | null;
  /** Why it failed. */
  error: unknown;
}

/** The downloads, in order. One runs at a time. */
export const downloads = signal<readonly Download[]>([]);

let running: { id: string; controller: AbortController } | null = null;

/** The download of a model, if there is one. */
export function downloadOf(model: ModelChoice): Download | undefined {
  return downloads.value.find((download) => download.model.id === model.id);
}

function change(id: string, update: Partial<Download>): void {
  downloads.value = downloads.value.map((download) =>
    download.model.id === id ? { ...download, ...update } : download,
  );
}

/** Puts a model at the end of the queue, or a paused one back into it. */
export function queueDownload(model: ModelChoice): void {
  const waiting = { model, state: "waiting", progress: null, error: null } as const;
  if (downloadOf(model) === undefined) downloads.value = [...downloads.value, waiting];
  else change(model.id, { state: "waiting", error: null });
  void next();
}

/** Stops a download. What has arrived is kept. */
export function pauseDownload(model: ModelChoice): void {
  change(model.id, { state: "paused" });
  stop(model.id);
}

/** Takes a download out of the queue. What has arrived is kept. */
export function dropDownload(model: ModelChoice): void {
  downloads.value = downloads.value.filter((download) => download.model.id !== model.id);
  stop(model.id);
}

function stop(id: string): void {
  if (running?.id === id) running.controller.abort();
}

async function next(): Promise<void> {
  const waiting = downloads.value.find(({ state }) => state === "waiting");
  if (running !== null || waiting === undefined) return;
  const { model } = waiting;
  const controller = new AbortController();
  running = { id: model.id, controller };
  change(model.id, { state: "running" });
  try {
    await downloadModel(model.source, {
      ...hubOptions.value,
      signal: controller.signal,
      onProgress: (progress) => {
        if (!controller.signal.aborted) change(model.id, { progress });
      },
    });
    downloads.value = downloads.value.filter((download) => download.model.id !== model.id);
    announcement.value = t.value.downloaded(model.name);
  } catch (error) {
    if (!(error instanceof AbortedError)) change(model.id, { state: "failed", error });
  } finally {
    running = null;
    void refreshStorage();
    void next();
  }
}

/** Resolves when no download of the model runs any more, so that it can be deleted. */
export async function downloadStopped(model: ModelChoice): Promise<void> {
  while (running?.id === model.id) await new Promise((resolve) => setTimeout(resolve, 20));
}

// The person has agreed to these downloads: they go on when the network is back.
addEventListener("online", () => {
  for (const { model, state, error } of downloads.value)
    if (state === "failed" && error instanceof NetworkError) queueDownload(model);
});
