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

/** Memory for a context, where nothing is known of the model's. */
const USUAL_CONTEXT = 300e6;
/** A larger model answers too slowly to be recommended, or takes too long to download. */
const MOST_BYTES = { webgpu: 2.6e9, cpu: 1.2e9 };

/** Bits of a weight in files of these types, roughly. */
const BITS: Record<string, number> = { Q4_0: 4.7, Q4_1: 5.2, Q4_K_M: 4.95, Q8_0: 8.6 };

/** Bytes of a model's files: as the catalogue says, or an estimate. */
export function estimatedBytes(entry: CatalogueEntry): number {
  return entry.size ?? (entry.parameters * (BITS[entry.quantization] ?? 5)) / 8;
}

/** The context that a model would have: what Settings ask for, or the longest that it was trained for. */
export function contextHere({ contextLength = Infinity }: { contextLength?: number }): number {
  return Math.min(settings.value.contextLength, contextLength);
}

/** Memory for so many bytes of weights and so long a context, of which a token takes `kvBytesPerToken`. */
export function memoryNeeded(bytes: number, context: number, kvBytesPerToken: number | undefined): number {
  return bytes + (kvBytesPerToken === undefined ? USUAL_CONTEXT : context * kvBytesPerToken);
}

/** Whether so much memory is there on this device; null while the device is unknown. */
export function fitHere(needed: number | null): Fit | null {
  return needed === null || backend.value === null ? null : fitOf(needed, backend.value, deviceMemory());
}

/**
 * The model of the catalogue that suits this device: the largest for chat that has room, and is quick enough
 * there. In Chinese, one that knows more languages comes first.
 */
export const recommended = computed<CatalogueEntry | null>(() => {
  const device = backend.value;
  if (device === null) return null;
  const suits = (entry: CatalogueEntry) => {
    const bytes = estimatedBytes(entry);
    const context = contextHere({ contextLength: entry.context_length });
    return (
      entry.strengths.includes("chat") &&
      !entry.strengths.includes("history") &&
      bytes <= MOST_BYTES[device] &&
      fitHere(memoryNeeded(bytes, context, entry.kv_bytes_per_token)) === "fits"
    );
  };
  const largest = catalogue.filter(suits).toSorted((a, b) => b.parameters - a.parameters);
  const knowsLanguages = largest.find((entry) => entry.strengths[0] === "languages");
  return (language.value === "zh" ? knowsLanguages : undefined) ?? largest[0] ?? catalogue[0] ?? null;
});
