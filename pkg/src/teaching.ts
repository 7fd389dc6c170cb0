/** The worker's side of training. */
import { DeviceLostError } from "./errors.js";
import type { Calls } from "./protocol.js";
import type { Runtime, RuntimeAdvance } from "./runtime.js";
import type { TrainedFiles, TrainingPlan } from "./training.js";

/** Parts of a training in a runtime. */
export interface Teaching {
  begin(params: Calls["trainBegin"]["params"]): Promise<TrainingPlan>;
  step(): Promise<RuntimeAdvance>;
  checkpoint(): Promise<Blob>;
  files(base: string): Promise<TrainedFiles>;
  end(): void;
}

/** Training in a runtime. */
export function teaching(runtime: Runtime): Teaching {
  let hasBegun = false;
  const begun = () => {
    if (!hasBegun) throw new DeviceLostError("The worker that was teaching has been replaced.");
    return runtime;
  };
  return {
    async begin(params) {
      const plan =
        "checkpoint" in params
          ? runtime.resume_training(new Uint8Array(await params.checkpoint.arrayBuffer()))
          : runtime.begin_training(JSON.stringify(params.settings), params.data);
      hasBegun = true;
      return JSON.parse(plan) as TrainingPlan;
    },
    step: async () => JSON.parse(await begun().advance_training()) as RuntimeAdvance,
    checkpoint: async () => new Blob([await begun().training_checkpoint()]),
    async files(base) {
      const gguf = new Blob([await begun().trained_gguf()]);
      const peft = await runtime.trained_peft(base);
      if (!peft) return gguf;
      const [weights, config] = peft;
      return { weights: new Blob([weights]), config: new Blob([config]), gguf };
    },
    end() {
      hasBegun = false;
      runtime.end_training();
    },
  };
}
