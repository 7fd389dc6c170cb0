/** Texts of teaching, in English. */
export const teachEn = {
  teachTitle: "Teach",
  teachHelp:
    "Correct answers, or vote for them, while you chat. Then press Teach: the model learns from them on " +
    "this device. What it learns can be switched on and off.",
  teachNeedsModel: "Start a model to teach it.",
  goodAnswer: "Good answer",
  badAnswer: "Bad answer",
  correctAnswer: "Correct",
  betterAnswer: "The answer as it should be",
  saveExample: "Save",
  lessons: "What to learn from",
  lessonKind: (kind: "example" | "preference", count: number) =>
    kind === "example" ? `Corrections: ${count}` : `Preferences: ${count}`,
  noLessons: "None yet. They are kept in this browser only.",
  searchLessons: "Search",
  editLesson: (question: string) => `Edit the answer to “${question}”`,
  deleteLesson: (question: string) => `Delete “${question}”`,
  moreLessons: (count: number) => `${count} more. Search to find them.`,
  importLessons: "Import JSONL",
  exportLessons: "Export JSONL",
  importedLessons: (count: number, problems: number) =>
    problems === 0 ? `${count} imported.` : `${count} imported. Lines left out: ${problems}.`,
  lessonProblem: (line: number, problem: "json" | "format" | "role" | "answer") => {
    const why = {
      json: "not JSON",
      format: "an unknown format",
      role: "an unknown or misplaced role",
      answer: "no answer of the model",
    };
    return `Line ${line}: ${why[problem]}.`;
  },
  lessonsFailed: "This could not be stored or read. Check the browser’s storage.",
  lessonsTooLarge: (most: string) => `The file is too large: at most ${most} can be imported at once.`,
  teachSettings: "Settings of training",
  teachSetting: {
    rank: "Rank",
    learningRate: "Learning rate",
    epochs: "Epochs",
    batch: "Examples per step",
    validation: "Share kept for validation",
    maxTokens: "Longest example in tokens",
    warmup: "Steps in which the rate rises",
    weightDecay: "Weight decay",
    patience: "Early stopping after so many validations without a gain (0: never)",
  },
  teachAlpha: "Alpha",
  teachTargets: "Projections that learn",
  allTargets: "all",
  teachTargetsHelp: "Names such as attn_q, with commas between them.",
  teachSchedule: "Schedule of the learning rate",
  schedules: { cosine: "falls to 0 (cosine)", constant: "stays" },
  preset: "Preset",
  presets: { quick: "Quick", thorough: "Thorough" },
  adapterName: "my adapter",
  nameNotFree: "Choose a name that nothing else here has, without a colon.",
  nameOfAdapter: "Name of what is learnt",
  teach: "Teach",
  estimate: "Estimate",
  measuring: "Measuring…",
  teachPlan: (steps: number, memory: string) =>
    `${steps} steps, at most ${memory} of memory beside the model.`,
  teachEstimate: (steps: number, seconds: number, memory: string) =>
    `${steps} steps, about ${duration(seconds)}, at most ${memory} of memory.`,
  teaching: (name: string) => `Learning: ${name}`,
  teachStep: (step: number, steps: number, speed: number, left: number | null) =>
    `Step ${step} of ${steps}, ${Math.round(speed)} tokens/s` +
    (left === null ? "" : `, ${duration(left)} left`),
  lossNow: (training: string, validation: string | null) =>
    `Training loss ${training}` + (validation === null ? "" : `, validation loss ${validation}`),
  stopTeaching: "Stop",
  taught: (name: string) => `Learnt: ${name}`,
  continueTeaching: (epochs: number) => `Continue for ${epochs} epochs`,
  beforeTeaching: "Before",
  afterTeaching: "After",
  soFar: "So far",
  sampling: "Answering…",
  keep: "Keep",
  discard: "Discard",
  interruptedTraining: (name: string) => `The training of “${name}” was interrupted.`,
  resume: "Resume",
  adapters: "Adapters",
  noAdapters:
    "Nothing learnt yet. Drop an adapter here to use it: GGUF, or what PEFT saved, as its two files or " +
    "as a zip of the folder.",
  strength: (scale: number) => `Strength ${scale.toFixed(1)}`,
  strengthOf: (name: string) => `Strength of ${name}`,
  renameAdapter: (name: string) => `Rename “${name}”`,
  exportPeft: "Export for PEFT",
  exportGguf: "Export GGUF",
  importAdapter: "Import adapter",
  noAdapterIn: (name: string) =>
    `${name} has no adapter: neither adapter_config.json beside adapter_model.safetensors, nor a GGUF file.`,
};

function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}
