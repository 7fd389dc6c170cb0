import type { DeviceChoice } from "nomoat";
import { isRecord, persisted } from "../lib/persisted";

export type LanguageSetting = "auto" | "en" | "zh";
export type ThemeSetting = "auto" | "light" | "dark";

/** A model that the person added by address. */
export interface AddedModel {
  name: string;
  urls: string[];
  /** SHA-256 of each file, where the hub said so. */
  sha256?: string[];
  /** Memory of a token of context, and the longest context that it was trained for. */
  kvBytesPerToken?: number;
  contextLength?: number;
}

export interface Settings {
  /** Null: what suits the model. */
  temperature: number | null;
  /** Most tokens in one answer. */
  maxTokens: number;
  /** Most tokens that a model may think before it answers; null: no limit. */
  thinkingBudget: number | null;
  /** Tokens of conversation the model keeps; takes effect when the model is loaded. */
  contextLength: number;
  /** What computes; takes effect when the model is loaded. */
  device: DeviceChoice;
  /**
   * Built-in chat templates in place of the files' own, by the models' ids. They take effect when a model is
   * loaded.
   */
  templates: Readonly<Record<string, string>>;
  systemPrompt: string;
  language: LanguageSetting;
  theme: ThemeSetting;
  /** Address of the hub or of a mirror of it; null: the server's choice, or the public hub. */
  hubEndpoint: string | null;
  /** Take models from the browser's storage for all sites, and keep them there. */
  shareModels: boolean;
  /** The chosen model; null until one is chosen, which means the default. */
  modelId: string | null;
  addedModels: AddedModel[];
}

export const contextLengths = [1024, 2048, 4096, 8192, 16384, 32768];
export const devices: readonly DeviceChoice[] = ["auto", "webgpu", "cpu"];
/** Built-in chat templates: `EngineOptions.template`. */
export const templates = ["chatml", "alpaca", "vicuna", "koala", "open-assistant", "gpt4all-j", "plain"];
export const limits = {
  temperature: { min: 0, max: 2 },
  maxTokens: { min: 1, max: 32768 },
  thinkingBudget: { min: 0, max: 32768 },
};

const defaults: Settings = {
  temperature: null,
  maxTokens: 1024,
  thinkingBudget: null,
  contextLength: 4096,
  device: "auto",
  templates: {},
  systemPrompt: "",
  language: "auto",
  theme: "auto",
  hubEndpoint: null,
  shareModels: true,
  modelId: null,
  addedModels: [],
};

function numberIn<T>(value: unknown, min: number, max: number, fallback: T): number | T {
  return typeof value === "number" && value >= min && value <= max ? value : fallback;
}

function oneOf<T, U>(value: unknown, allowed: readonly T[], fallback: U): T | U {
  return allowed.find((item) => item === value) ?? fallback;
}

function isHash(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function addedModels(value: unknown): AddedModel[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) => {
    if (!isRecord(item) || typeof item.name !== "string" || !Array.isArray(item.urls)) return [];
    const urls = item.urls.filter((url): url is string => typeof url === "string");
    const hashes = (Array.isArray(item.sha256) ? item.sha256 : []).filter(isHash);
    const isPinned = hashes.length === urls.length;
    const kvBytesPerToken = numberIn(item.kvBytesPerToken, 1, 1e9, null);
    const contextLength = numberIn(item.contextLength, 1, 1e9, null);
    const known = {
      ...(isPinned && { sha256: hashes }),
      ...(kvBytesPerToken !== null && { kvBytesPerToken }),
      ...(contextLength !== null && { contextLength }),
    };
    return urls.length > 0 ? [{ name: item.name, urls, ...known }] : [];
  });
}

/**
 * Templates by model. Once there was one for all models (`template`): it was meant for the one that was
 * chosen then.
 */
function templatesOf({ templates: stored, template, modelId }: Record<string, unknown>) {
  const before = isRecord(stored) ? stored : typeof modelId === "string" ? { [modelId]: template } : {};
  const known = Object.entries(before).flatMap(([id, value]): [string, string][] => {
    const name = oneOf(value, templates, null);
    return name === null ? [] : [[id, name]];
  });
  return Object.fromEntries(known);
}

/** An address that a hub can have, without a slash at its end; null for other values. */
export function hubAddress(value: unknown): string | null {
  if (typeof value !== "string" || !URL.canParse(value.trim())) return null;
  const { protocol, href } = new URL(value.trim());
  return /^https?:$/.test(protocol) ? href.replace(/\/+$/, "") : null;
}

function parse(stored: unknown): Settings {
  if (!isRecord(stored)) return defaults;
  return {
    temperature: numberIn(
      stored.temperature,
      limits.temperature.min,
      limits.temperature.max,
      defaults.temperature,
    ),
    maxTokens: numberIn(stored.maxTokens, limits.maxTokens.min, limits.maxTokens.max, defaults.maxTokens),
    thinkingBudget: numberIn(
      stored.thinkingBudget,
      limits.thinkingBudget.min,
      limits.thinkingBudget.max,
      defaults.thinkingBudget,
    ),
    contextLength: oneOf(stored.contextLength, contextLengths, defaults.contextLength),
    device: oneOf(stored.device, devices, defaults.device),
    templates: templatesOf(stored),
    systemPrompt: typeof stored.systemPrompt === "string" ? stored.systemPrompt : defaults.systemPrompt,
    language: oneOf(stored.language, ["auto", "en", "zh"] as const, defaults.language),
    theme: oneOf(stored.theme, ["auto", "light", "dark"] as const, defaults.theme),
    hubEndpoint: hubAddress(stored.hubEndpoint),
    shareModels: stored.shareModels !== false,
    modelId: typeof stored.modelId === "string" ? stored.modelId : null,
    addedModels: addedModels(stored.addedModels),
  };
}

/** What the person has set, kept across visits. The key is read by public/theme.js too. */
export const settings = persisted<Settings>("nomoat-settings", parse);

/** The built-in chat template that was chosen for a model; null: its own. */
export function templateOf(id: string): string | null {
  return Object.hasOwn(settings.value.templates, id) ? (settings.value.templates[id] ?? null) : null;
}

/** Chooses a built-in chat template for a model; null: its own. */
export function setTemplate(id: string, name: string | null): void {
  const { [id]: _, ...others } = settings.value.templates;
  updateSettings({ templates: name === null ? others : { ...others, [id]: name } });
}

export function updateSettings(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change };
}
