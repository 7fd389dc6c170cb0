import { computed, effect, signal } from "@preact/signals";
import { catalogue, chooseDevice, deviceMemory, fitOf } from "nomoat";
import type { CatalogueEntry, Fit } from "nomoat";
import { language } from "../i18n";
import { settings } from "./settings";

/** The kind of device that would run a model; null while unknown, or if there is none. */
export const backend = signal<"webgpu" | "cpu" | null>(null);

effect(() => {
  void chooseDevice(settings.value.device)
    .then((device) => (backend.value = device.backend))
    .catch(() => (backend.value = null));
});

/** Memory for a context and for a step, beside the weights. */
const BESIDE = 300e6;
/** A larger model answers too slowly to be recommended, or takes too long to download. */
const MOST_BYTES = { webgpu: 2.6e9, cpu: 1.1e9 };

/** Bits of a weight in files of these types, roughly. */
const BITS: Record<string, number> = { Q4_0: 4.7, Q4_1: 5.2, Q4_K_M: 4.95, Q8_0: 8.6 };

/** Bytes of a model's files: as the catalogue says, or an estimate. */
export function estimatedBytes(entry: CatalogueEntry): number {
  return entry.size ?? (entry.parameters * (BITS[entry.quantization] ?? 5)) / 8;
}

/** Whether so many bytes of weights have room on this device; null while the device is unknown. */
export function fitHere(bytes: number | null): Fit | null {
  return bytes === null || backend.value === null
    ? null
    : fitOf(bytes + BESIDE, backend.value, deviceMemory());
}

/**
 * The model of the catalogue that suits this device: the largest for chat that has room, and is quick enough
 * there. In Chinese, one that knows more languages comes first.
 */
export const recommended = computed<CatalogueEntry | null>(() => {
  const device = backend.value;
  if (device === null) return null;
  const suits = (entry: CatalogueEntry) =>
    entry.strengths.includes("chat") &&
    !entry.strengths.includes("history") &&
    estimatedBytes(entry) <= MOST_BYTES[device] &&
    fitHere(estimatedBytes(entry)) === "fits";
  const largest = catalogue.filter(suits).toSorted((a, b) => b.parameters - a.parameters);
  const knowsLanguages = largest.find((entry) => entry.strengths[0] === "languages");
  return (language.value === "zh" ? knowsLanguages : undefined) ?? largest[0] ?? catalogue[0] ?? null;
});
