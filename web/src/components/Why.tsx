import type { CatalogueEntry } from "nomoat";
import { t } from "../i18n";
import { backend, estimatedBytes } from "../state/recommend";
import { expectedSpeed } from "../state/speed";
import { roughly, roundBytes } from "../lib/format";

/** Why a model is recommended for this device, in a line: it suits, its size, and how fast it would be. */
export function Why({ entry }: { entry: CatalogueEntry }) {
  if (backend.value === null) return null;
  const text = t.value;
  const size = estimatedBytes(entry);
  const speed = expectedSpeed(backend.value, size);
  const facts = [roundBytes(size), speed === null ? null : text.expectedSpeed(roughly(speed))];
  const known = facts.filter((fact) => fact !== null).join(text.comma);
  return <p class="why">{text.why[backend.value](known)}</p>;
}
