import type { Rating } from "../arena/ratings";
import { t } from "../i18n";
import { battles, exportBattles, forgetBattles, table } from "../state/arena";

const WIDTH = 320;
const ROW = 36;
const GRID = 100;

/** Ratings as points on a line each, with their intervals. The table says the same in words. */
function Plot({ all }: { all: readonly Rating[] }) {
  const ends = all.flatMap(({ rating, interval }) => [rating, ...(interval ?? [])]);
  const low = Math.floor(Math.min(...ends) / GRID - 0.25) * GRID;
  const high = Math.ceil(Math.max(...ends) / GRID + 0.25) * GRID;
  const x = (rating: number) => ((rating - low) / (high - low)) * WIDTH;
  const height = all.length * ROW;
  // Few enough lines that their numbers do not meet.
  const step = GRID * Math.ceil((high - low) / GRID / 6);
  const lines = Array.from(
    { length: Math.floor((high - low) / step) + 1 },
    (_, index) => Math.ceil(low / step) * step + index * step,
  ).filter((line) => line <= high);
  return (
    <svg
      class="ratings-plot"
      viewBox={`-24 0 ${WIDTH + 48} ${height + 20}`}
      role="img"
      aria-label={t.value.ratingsPlot}
    >
      {lines.map((line) => (
        <g key={line}>
          <path class="axis" d={`M${x(line)} 0V${height}`} />
          <text x={x(line)} y={height + 14} text-anchor="middle">
            {line}
          </text>
        </g>
      ))}
      {all.map(({ name, rating, interval }, index) => {
        const y = (index + 0.6) * ROW;
        return (
          <g key={name}>
            {interval && (
              <path class="interval" d={`M${x(interval[0])} ${y - 4}v8m0 -4H${x(interval[1])}m0 -4v8`} />
            )}
            <circle cx={x(rating)} cy={y} r={4} />
            <text x={0} y={y - 10}>
              {name}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

/** What the votes say: ratings with intervals, as a table and as a plot. */
export function ArenaTable() {
  const text = t.value;
  const all = table.value;
  const { length } = battles.value;
  if (length === 0) return null;
  return (
    <section aria-label={text.ratings}>
      <h3>{text.ratings}</h3>
      <div class="ratings">
        <table>
          <thead>
            <tr>
              <th scope="col">{text.contender}</th>
              <th scope="col">{text.rating}</th>
              <th scope="col">{text.interval}</th>
              <th scope="col">{text.votesOf}</th>
              <th scope="col">{text.shareOf}</th>
            </tr>
          </thead>
          <tbody>
            {all.map(({ name, rating, interval, votes, share }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{Math.round(rating)}</td>
                <td>{interval ? `${Math.round(interval[0])} – ${Math.round(interval[1])}` : "–"}</td>
                <td>{votes}</td>
                <td>{`${Math.round(100 * share)} %`}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {all.length > 0 && <Plot all={all} />}
      </div>
      <p class="help">
        {text.ratingsHelp}
        {all.some(({ interval }) => interval === null) && ` ${text.noIntervals}`}
      </p>
      <div class="row">
        <button type="button" class="button" onClick={exportBattles}>
          {text.exportVotes(length)}
        </button>
        <button
          type="button"
          class="button danger"
          onClick={() => confirm(text.deleteVotesQuestion) && void forgetBattles()}
        >
          {text.deleteVotes}
        </button>
      </div>
    </section>
  );
}
