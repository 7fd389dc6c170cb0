import { computed, effect } from "@preact/signals";
import { settings } from "../state/settings";
import { en, type Dictionary } from "./en";
import { zh } from "./zh";

export type { Dictionary };

function ofBrowser(): "en" | "zh" {
  const first = navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag));
  return first?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** The current language. */
export const language = computed(() =>
  settings.value.language === "auto" ? ofBrowser() : settings.value.language,
);

/** The texts of the page in that language. */
export const t = computed<Dictionary>(() => (language.value === "zh" ? zh : en));

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-Hans" : "en";
});
