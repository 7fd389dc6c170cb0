import { t } from "../i18n";
import { announcement } from "./ui";

/** Copies a text and announces it. Calls `shown` with true, and a moment later with false. */
export async function copyText(text: string, shown: (copied: boolean) => void): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return; // Refused by the browser: the button does not claim otherwise.
  }
  shown(true);
  announcement.value = t.value.copied;
  setTimeout(() => {
    shown(false);
    announcement.value = "";
  }, 1600);
}
