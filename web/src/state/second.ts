/**
 * A second model on this device, for a moment: beside the model in use where there is room for both, else in
 * its place, and the model in use comes back afterwards.
 */
import { effect, signal } from "@preact/signals";
import { OutOfMemoryError, type Engine, type LoadProgress } from "nomoat";
import { inUse, makeWay, openHere } from "./engine";
import { onLeave } from "./history";
import { memoryOf, type ModelChoice } from "./models";
import { fitHere } from "./recommend";

/** How far the second model is loaded; null while none is loading. */
export const secondProgress = signal<LoadProgress | null>(null);

/** A model that stays beside the one in use. */
let beside: { model: ModelChoice; engine: Engine } | null = null;

/** Whether a model has room beside the one in use. */
export function hasRoomBeside(model: ModelChoice): boolean {
  const other = inUse.value?.model;
  if (other === undefined || other.remote !== undefined) return true;
  const [own, its] = [memoryOf(model), memoryOf(other)];
  return own !== null && its !== null && fitHere(own + its) === "fits";
}

async function open(model: ModelChoice, signal: AbortSignal): Promise<Engine> {
  try {
    return await openHere(model, {
      signal,
      onProgress(progress) {
        if (!signal.aborted) secondProgress.value = progress;
      },
    });
  } finally {
    secondProgress.value = null;
  }
}

/** Runs something with a second model. One that has room stays for the next time, until `freeSecond`. */
export async function withSecond<T>(
  model: ModelChoice,
  signal: AbortSignal,
  use: (engine: Engine) => Promise<T>,
): Promise<T> {
  if (beside?.model.id !== model.id) {
    await freeSecond();
    if (hasRoomBeside(model))
      try {
        beside = { model, engine: await open(model, signal) };
      } catch (error) {
        // The estimate was too good.
        if (!(error instanceof OutOfMemoryError)) throw error;
      }
  }
  if (beside !== null) return use(beside.engine);
  return makeWay(async (isWanted) => {
    const engine = await open(model, AbortSignal.any([signal, isWanted]));
    try {
      return await use(engine);
    } finally {
      await engine.dispose().catch(() => undefined);
    }
  });
}

/** Frees the memory of the model beside the one in use. */
export async function freeSecond(): Promise<void> {
  const old = beside;
  beside = null;
  await old?.engine.dispose().catch(() => undefined);
}

// Another model in use may need the room.
effect(() => {
  void inUse.value?.model.id;
  void freeSecond();
});

onLeave((event) => {
  if (!event.persisted) void freeSecond();
});
