/** What the loaded model has learnt: adapters, and which of them answer. */
import { effect, signal } from "@preact/signals";
import type { AdapterFormat, AdapterInfo, AdapterSource, Engine } from "nomoat";
import { forgetAdapter, storeAdapter, storedAdapters, type StoredAdapter } from "../lessons/database";
import { adaptersIn } from "../lib/adapter-files";
import { download } from "../lib/download";
import { zip } from "../lib/zip";
import { engine } from "./engine";

/** What an unfinished training has learnt so far is loaded for a moment, under this name. */
export const SO_FAR = "…";

/** Adapters of the loaded model. */
export const adapters = signal<readonly AdapterInfo[]>([]);
export const strengths = signal<ReadonlyMap<string, { on: boolean; scale: number }>>(new Map());
/** Names of the trainings that are not over. */
export const trainings = signal<readonly string[]>([]);
/** Why the last change was not made. */
export const adaptersError = signal<unknown>(null);

/** The adapters of the next request. */
export function adapterUses(): { name: string; scale: number }[] {
  return adapters.peek().flatMap(({ name }) => {
    const strength = strengths.peek().get(name);
    return strength?.on === true ? [{ name, scale: strength.scale }] : [];
  });
}

/** Switches an adapter, or changes its strength. */
export function setStrength(name: string, change: Partial<{ on: boolean; scale: number }>): void {
  const before = strengths.peek().get(name) ?? { on: true, scale: 1 };
  strengths.value = new Map(strengths.peek()).set(name, { ...before, ...change });
}

function refresh(loaded: Engine): void {
  if (engine.peek() !== loaded) return;
  adapters.value = loaded.adapters.list().filter(({ name }) => name !== SO_FAR);
}

const isLoaded = (loaded: Engine, name: string) =>
  loaded.adapters.list().some((adapter) => adapter.name === name);

/** What an adapter is loaded from. */
function sourceOf({ config, weights, gguf }: StoredAdapter): AdapterSource | undefined {
  return config && weights ? { config, weights, ...(gguf && { gguf }) } : gguf;
}

/** An adapter as it is stored, under a name. */
function filesOf({ adapters, model }: Engine, name: string, as = name): StoredAdapter {
  const formats = adapters.list().find((adapter) => adapter.name === name)?.formats ?? [];
  return {
    model: model.name,
    name: as,
    ...(formats.includes("gguf") && { gguf: adapters.export(name, "gguf") }),
    ...(formats.includes("peft") && adapters.export(name, "peft")),
  };
}

async function change(act: (loaded: Engine) => Promise<void>): Promise<void> {
  const loaded = engine.peek();
  if (loaded === null) return;
  adaptersError.value = null;
  try {
    await act(loaded);
  } catch (error) {
    if (engine.peek() === loaded) adaptersError.value = error;
  }
  refresh(loaded);
}

/** Loads what is stored for the model and is not loaded; off, until it is switched on. */
export function restoreAdapters(): Promise<void> {
  return change(async (loaded) => {
    // A model of the same name may run on a server, which takes none.
    if (loaded.device.backend === "remote") return;
    let failure: unknown = null;
    for (const stored of await storedAdapters(loaded.model.name)) {
      const source = sourceOf(stored);
      if (source === undefined || isLoaded(loaded, stored.name)) continue;
      try {
        await loaded.adapters.load(source, { name: stored.name });
      } catch (error) {
        failure = error; // The others may be good.
      }
    }
    if (failure !== null) throw failure;
  });
}

/** The model that the strengths are of. */
let strengthsOf: string | null = null;

// Another model has other adapters. Where the same one is loaded again, those that are on stay on.
effect(() => {
  const loaded = engine.value;
  adapters.value = [];
  adaptersError.value = null;
  if (loaded === null) return;
  if (loaded.model.name !== strengthsOf) strengths.value = new Map();
  strengthsOf = loaded.model.name;
  void restoreAdapters();
});

/** Stores a loaded adapter, and switches it on. */
export async function keepAdapter(loaded: Engine, name: string): Promise<void> {
  setStrength(name, { on: true, scale: 1 });
  refresh(loaded);
  await storeAdapter(filesOf(loaded, name));
}

/** Frees an adapter, and takes it out of the store. */
export function removeAdapter(name: string): Promise<void> {
  return change(async (loaded) => {
    await loaded.adapters.unload(name);
    await forgetAdapter(loaded.model.name, name);
  });
}

/** Frees an adapter, if it is there; it stays stored. */
export async function unloadAdapter(loaded: Engine, name: string): Promise<void> {
  if (isLoaded(loaded, name)) await loaded.adapters.unload(name);
  refresh(loaded);
}

/** Gives an adapter another name, which must be free. */
export function renameAdapter(name: string, to: string): Promise<void> {
  return change(async (loaded) => {
    const files = filesOf(loaded, name, to);
    const source = sourceOf(files);
    if (source === undefined) return;
    await loaded.adapters.load(source, { name: to });
    try {
      await storeAdapter(files, name);
    } catch (error) {
      await loaded.adapters.unload(to);
      throw error;
    }
    const strength = strengths.peek().get(name);
    if (strength) setStrength(to, strength);
    await loaded.adapters.unload(name);
  });
}

/** Whether an adapter can be called so. */
export function isFreeName(name: string): boolean {
  const taken = [SO_FAR, ...adapters.value.map((adapter) => adapter.name), ...trainings.value];
  return name !== "" && !name.includes(":") && !taken.includes(name);
}

/** A name that is free: `name`, or with a number. */
export function freeName(name: string): string {
  let free = name;
  for (let n = 2; !isFreeName(free); n += 1) free = `${name} ${n}`;
  return free;
}

/** Loads adapters from files, and keeps them. */
export function importAdapters(files: readonly File[]): Promise<void> {
  return change(async (loaded) => {
    for (const [wanted, source] of await adaptersIn(files)) {
      const name = freeName(wanted);
      await loaded.adapters.load(source, { name });
      await keepAdapter(loaded, name);
    }
  });
}

/** Saves an adapter for llama.cpp, or for PEFT as a zip. */
export function exportAdapter(name: string, format: AdapterFormat): Promise<void> {
  return change(async (loaded) => {
    if (format === "gguf") {
      download(loaded.adapters.export(name, "gguf"), `${name}.gguf`, "application/octet-stream");
      return;
    }
    const { config, weights } = loaded.adapters.export(name, "peft");
    const folder = await zip([
      [`${name}/adapter_config.json`, config],
      [`${name}/adapter_model.safetensors`, weights],
    ]);
    download(folder, `${name}.zip`, "application/zip");
  });
}
