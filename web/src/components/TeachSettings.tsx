import { t } from "../i18n";
import type { TeachSettings } from "../state/teach";
import { Field } from "./Field";
import { Select } from "./Select";

/** Smallest and largest value, and the step. */
const LIMITS = {
  rank: [1, 128, 1],
  learningRate: [0.00001, 0.1, 0.00001],
  warmup: [0, 1000, 1],
  epochs: [1, 100, 1],
  batch: [1, 64, 1],
  maxTokens: [16, 4096, 1],
  weightDecay: [0, 1, 0.001],
  validation: [0, 0.5, 0.05],
  patience: [0, 100, 1],
} as const;

/** Those after the schedule, in order. */
const LATER = ["warmup", "epochs", "batch", "maxTokens", "weightDecay", "validation", "patience"] as const;
const LARGEST_ALPHA = 1024;

interface Props {
  settings: TeachSettings;
  change: (settings: TeachSettings) => void;
}

/** What a preset stands for, all of it to be changed. */
export function TeachSettingsFields({ settings, change }: Props) {
  const text = t.value;
  const number = (name: keyof typeof LIMITS) => {
    const [min, max, step] = LIMITS[name];
    return (
      <Field key={name} id={`teach-${name}`} label={text.teachSetting[name]}>
        <input
          id={`teach-${name}`}
          type="number"
          min={min}
          max={max}
          step={step}
          value={settings[name]}
          onChange={(event) => {
            const value = event.currentTarget.valueAsNumber;
            if (value >= min && value <= max) change({ ...settings, [name]: value });
          }}
        />
      </Field>
    );
  };
  return (
    <details>
      <summary>{text.teachSettings}</summary>
      <div class="fields">
        {number("rank")}
        <Field id="teach-alpha" label={text.teachAlpha}>
          <input
            id="teach-alpha"
            type="number"
            min={0}
            max={LARGEST_ALPHA}
            step="any"
            placeholder={String(2 * settings.rank)}
            value={settings.alpha ?? ""}
            onChange={(event) => {
              const value = event.currentTarget.valueAsNumber;
              if (Number.isNaN(value)) change({ ...settings, alpha: null });
              else if (value > 0 && value <= LARGEST_ALPHA) change({ ...settings, alpha: value });
            }}
          />
        </Field>
        <Field id="teach-targets" label={text.teachTargets} help={text.teachTargetsHelp}>
          <input
            id="teach-targets"
            type="text"
            class="text-field"
            autocapitalize="off"
            spellcheck={false}
            placeholder={text.allTargets}
            aria-describedby="teach-targets-help"
            value={settings.targets.join(", ")}
            onChange={(event) => {
              const targets = event.currentTarget.value.split(/[\s,，]+/).filter((name) => name !== "");
              change({ ...settings, targets });
            }}
          />
        </Field>
        {number("learningRate")}
        <Field id="teach-schedule" label={text.teachSchedule}>
          <Select
            id="teach-schedule"
            value={settings.schedule}
            onChange={(event) =>
              change({
                ...settings,
                schedule: event.currentTarget.value === "constant" ? "constant" : "cosine",
              })
            }
          >
            <option value="cosine">{text.schedules.cosine}</option>
            <option value="constant">{text.schedules.constant}</option>
          </Select>
        </Field>
        {LATER.map(number)}
      </div>
    </details>
  );
}
