import type { CatalogueEntry } from "nomoat";
import { t } from "../i18n";
import { backend, estimatedBytes } from "../state/recommend";
import { roundBytes } from "../lib/format";

/** Why a model is recommended for this device, in a line. */
export function Why({ entry }: { entry: CatalogueEntry }) {
  if (backend.value === null) return null;
  return <p class="why">{t.value.why[backend.value](roundBytes(estimatedBytes(entry)))}</p>;
}
