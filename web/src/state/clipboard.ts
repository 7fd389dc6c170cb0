import { t } from "../i18n";
import { announcement } from "./ui";

/** Copies a text and says so. `shown` is called with true, and with false when the moment is over. */
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
