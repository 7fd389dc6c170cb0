import type { TrainingPoint } from "nomoat";
import { t } from "../i18n";

const WIDTH = 320;
const HEIGHT = 120;

/** Losses by step: those of training and of validation. */
export function LossCurve({ curve, steps }: { curve: readonly TrainingPoint[]; steps: number }) {
  const text = t.value;
  const losses = curve.flatMap(({ loss, validation }) => [loss ?? [], validation ?? []].flat());
  if (losses.length === 0) return null;
  const most = Math.max(...losses, 1e-6);
  const line = (value: (point: TrainingPoint) => number | undefined) =>
    curve
      .flatMap((point) => {
        const y = value(point);
        if (y === undefined) return [];
        const x = (point.step / Math.max(steps, 1)) * WIDTH;
        return [`${x.toFixed(1)},${(HEIGHT - (y / most) * HEIGHT).toFixed(1)}`];
      })
      .join(" ");
  const last = (value: (point: TrainingPoint) => number | undefined) =>
    curve.flatMap((point) => value(point) ?? []).at(-1);
  const [training, validation] = [last(({ loss }) => loss), last((point) => point.validation)];
  const label = text.lossNow(training?.toFixed(3) ?? "–", validation?.toFixed(3) ?? null);
  return (
    <figure class="loss">
      <svg viewBox={`-2 -4 ${WIDTH + 4} ${HEIGHT + 8}`} role="img" aria-label={label}>
        <path class="axis" d={`M0 0V${HEIGHT}H${WIDTH}`} />
        <polyline class="training" points={line(({ loss }) => loss)} />
        <polyline class="validation" points={line((point) => point.validation)} />
      </svg>
      <figcaption>{label}</figcaption>
    </figure>
  );
}
