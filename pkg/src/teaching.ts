/** The worker's side of training. */
import { DeviceLostError, UnsupportedModelError } from "./errors.js";
import type { Calls } from "./protocol.js";
import type { Runtime, RuntimeAdvance } from "./runtime.js";
import type { TrainedFiles, TrainingPlan } from "./training.js";

/** A runtime that can teach. */
type Teaches = Required<Runtime>;

/** Parts of a training in a runtime. */
export interface Teaching {
  begin(params: Calls["trainBegin"]["params"]): Promise<TrainingPlan>;
  step(): RuntimeAdvance;
  checkpoint(): Blob;
  files(base: string): TrainedFiles;
  end(): void;
}

/** Training in a runtime; throws UnsupportedModelError if its build has none. */
export function teaching(runtime: Runtime): Teaching {
  if (!runtime.begin_training)
    throw new UnsupportedModelError("unsupported_feature", "This build of the runtime has no training.");
  const teaches = runtime as Teaches;
  let hasBegun = false;
  const begun = () => {
    if (!hasBegun) throw new DeviceLostError("The worker that was teaching has been replaced.");
    return teaches;
  };
  return {
    async begin(params) {
      const plan =
        "checkpoint" in params
          ? teaches.resume_training(new Uint8Array(await params.checkpoint.arrayBuffer()))
          : teaches.begin_training(JSON.stringify(params.settings), params.data);
      hasBegun = true;
      return JSON.parse(plan) as TrainingPlan;
    },
    step: () => JSON.parse(begun().advance_training()) as RuntimeAdvance,
    checkpoint: () => new Blob([begun().training_checkpoint()]),
    files(base) {
      const [weights, config] = begun().trained_peft(base);
      const gguf = new Blob([teaches.trained_gguf()]);
      return { weights: new Blob([weights]), config: new Blob([config]), gguf };
    },
    end() {
      hasBegun = false;
      teaches.end_training();
    },
  };
}
