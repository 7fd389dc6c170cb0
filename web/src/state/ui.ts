import { computed, effect, signal } from "@preact/signals";
import type { ErrorPlace } from "../lib/errors";
import { persisted } from "../lib/persisted";
import { settings } from "./settings";

/** The dialog that is open, if any. */
export const dialog = signal<
  "settings" | "storage" | "models" | "conversations" | "teach" | "arena" | "tools" | null
>(null);

/**
 * The model that may not fit and what the person wants with it, until they have agreed to it once more.
 */
export const doubt = signal<{ id: string; then: "start" | "download" } | null>(null);

/** The text in the textbox. It survives a reload of the tab. */
export const draft = persisted<string>(
  "nomoat-draft",
  (stored) => (typeof stored === "string" ? stored : ""),
  () => sessionStorage,
);

/**
 * A notice that stays until it is dismissed or the next question is asked.
 */
export const notice = signal<
  | { kind: "deletedElsewhere" }
  | { kind: "tooLong"; characters: number }
  | { kind: "inspecting" }
  | { kind: "file"; error: unknown; from: ErrorPlace }
  | { kind: "imported"; conversations: number }
  | { kind: "importFailed"; error: unknown }
  | null
>(null);

/** Incremented to move the focus into the textbox. */
export const focusRequest = signal(0);

export function focusMessage(): void {
  focusRequest.value += 1;
}

/** The same, except on touch screens, where it would bring up the keyboard. */
export function refocusMessage(): void {
  if (matchMedia("(pointer: fine)").matches) focusMessage();
}

/** A sentence that screen readers announce. */
export const announcement = signal("");

function media(query: string): { readonly value: boolean } {
  const list = matchMedia(query);
  const matches = signal(list.matches);
  list.addEventListener("change", () => (matches.value = list.matches));
  return matches;
}

/** The page is wide enough to show the conversations next to the chat. */
export const isWide = media("(min-width: 900px)");

const systemDark = media("(prefers-color-scheme: dark)");

/** Whether the page is dark now. */
export const isDark = computed(() =>
  settings.value.theme === "auto" ? systemDark.value : settings.value.theme === "dark",
);

effect(() => {
  const colour = isDark.value ? "#12181a" : "#f5f4ef";
  for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]"))
    meta.content = colour;
});

effect(() => {
  const { theme } = settings.value;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
});
