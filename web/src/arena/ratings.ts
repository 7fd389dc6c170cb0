/**
 * Ratings from votes by the Bradley-Terry model (Bradley and Terry 1952): A is preferred to B with the
 * probability p(A) / (p(A) + p(B)). The likeliest strengths p are shown as 1000 + 400 log10 p, as Elo ratings
 * are, with their geometric mean at 1000. A tie is half a win for both. Intervals are bootstrap percentiles.
 */

/** One vote between two contenders. `score`: 1 if the first is better, 0 if the second is, 0.5 for a tie. */
export interface Duel {
  names: readonly [string, string];
  score: number;
}

export interface Rating {
  name: string;
  rating: number;
  /** 95 %; null where votes are too few or too much of one mind: see `ratings`. */
  interval: readonly [number, number] | null;
  /** Votes that it took part in, and its share of points. */
  votes: number;
  share: number;
}

const MEAN = 1000;
const ELO = 400 / Math.LN10;
/** Where not all have finite ratings, for one who only wins has none: the largest gap between neighbours. */
const LARGEST_GAP = 400 / ELO;
const RESAMPLES = 1000;
/** So little draws strengths to the mean that it matters only where there is no finite maximum. */
const RIDGE = 1e-7;
/** Newton's method: largest step, largest number of steps, and when it has arrived. */
const LONGEST_STEP = 2;
const MOST_STEPS = 100;
const PRECISION = 1e-9;

/** Points of each contender against each: `points[i][j]` are i's against j. */
type Points = number[][];

function pointsOf(duels: readonly Duel[], names: readonly string[]): Points {
  const index = new Map(names.map((name, i) => [name, i]));
  const points: Points = names.map(() => names.map(() => 0));
  for (const { names: pair, score } of duels) {
    const [i, j] = pair.map((name) => index.get(name));
    const [first, second] = [points[i ?? -1], points[j ?? -1]];
    if (i === undefined || j === undefined || i === j || !first || !second) continue;
    first[j] = (first[j] ?? 0) + score;
    second[i] = (second[i] ?? 0) + (1 - score);
  }
  return points;
}

/** Solves `matrix · x = right` by elimination; the matrix is symmetric and positive definite. */
function solve(matrix: number[][], right: number[]): number[] {
  const n = right.length;
  const rows = matrix.map((row, i) => [...row, right[i] ?? 0]);
  const at = (i: number, j: number) => rows[i]?.[j] ?? 0;
  for (let i = 0; i < n; i += 1)
    for (let below = i + 1; below < n; below += 1) {
      const factor = at(below, i) / at(i, i);
      rows[below] = (rows[below] ?? []).map((value, j) => value - factor * at(i, j));
    }
  const x: number[] = right.map(() => 0);
  for (let i = n - 1; i >= 0; i -= 1) {
    let rest = at(i, n);
    for (let j = i + 1; j < n; j += 1) rest -= at(i, j) * (x[j] ?? 0);
    x[i] = rest / at(i, i);
  }
  return x;
}

/** The logarithms of the likeliest strengths. */
function likeliest(points: Points): number[] {
  const n = points.length;
  let x: number[] = points.map(() => 0);
  for (let step = 0; step < MOST_STEPS; step += 1) {
    const gradient: number[] = x.map((value) => -RIDGE * value);
    const curvature: number[][] = x.map((_, i) => x.map((_, j) => (i === j ? RIDGE : 0)));
    for (let i = 0; i < n; i += 1)
      for (let j = 0; j < n; j += 1) {
        const won = points[i]?.[j] ?? 0;
        const together = won + (points[j]?.[i] ?? 0);
        const row = curvature[i];
        if (i === j || together === 0 || !row) continue;
        const expected = 1 / (1 + Math.exp((x[j] ?? 0) - (x[i] ?? 0)));
        gradient[i] = (gradient[i] ?? 0) + won - together * expected;
        const weight = together * expected * (1 - expected);
        row[i] = (row[i] ?? 0) + weight;
        row[j] = (row[j] ?? 0) - weight;
      }
    const change = solve(curvature, gradient);
    const longest = Math.max(...change.map(Math.abs));
    const factor = longest > LONGEST_STEP ? LONGEST_STEP / longest : 1;
    x = x.map((value, i) => value + factor * (change[i] ?? 0));
    if (longest < PRECISION) break;
  }
  return x;
}

/** Whether all have finite ratings: from each to each leads a chain of points (Ford 1957). */
function isConnected(points: Points): boolean {
  const reaches = (has: (i: number, j: number) => boolean) => {
    const seen = new Set([0]);
    for (const i of seen) for (const j of points.keys()) if (has(i, j)) seen.add(j);
    return seen.size === points.length;
  };
  const hasPoints = (i: number, j: number) => (points[i]?.[j] ?? 0) > 0;
  return reaches(hasPoints) && reaches((i, j) => hasPoints(j, i));
}

/** The ratings by number of the contender. */
function rate(points: Points): number[] {
  const x = likeliest(points);
  if (!isConnected(points)) {
    const order = [...x.keys()].sort((i, j) => (x[i] ?? 0) - (x[j] ?? 0));
    const before = [...x];
    for (const [at, i] of order.entries()) {
      const lower = order[at - 1];
      if (lower === undefined) continue;
      x[i] = (x[lower] ?? 0) + Math.min(LARGEST_GAP, (before[i] ?? 0) - (before[lower] ?? 0));
    }
  }
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  return x.map((value) => MEAN + ELO * (value - mean));
}

/** Numbers from 0 to 1 (mulberry32): the same votes give the same intervals. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The value below which a share of the sorted values lies. */
function percentile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)] ?? NaN, sorted[Math.ceil(at)] ?? NaN];
  return low + (high - low) * (at - Math.floor(at));
}

/**
 * The ratings of all contenders, the best first. Intervals are null until every contender has got a point
 * from the others and given one, directly or by way of others: until then some have no finite rating.
 */
export function ratings(duels: readonly Duel[]): Rating[] {
  const names = [...new Set(duels.flatMap(({ names: pair }) => pair))].sort();
  if (names.length < 2) return [];
  const points = pointsOf(duels, names);
  const best = rate(points);
  const next = random(1);
  const resampled: number[][] = names.map(() => []);
  if (isConnected(points))
    for (let sample = 0; sample < RESAMPLES; sample += 1) {
      const drawn = duels.map(() => duels[Math.floor(next() * duels.length)] as Duel);
      for (const [i, rating] of rate(pointsOf(drawn, names)).entries()) resampled[i]?.push(rating);
    }
  return names
    .map((name, i): Rating => {
      const sorted = (resampled[i] ?? []).sort((a, b) => a - b);
      const own = points[i]?.reduce((sum, value) => sum + value, 0) ?? 0;
      const votes = own + points.reduce((sum, row) => sum + (row[i] ?? 0), 0);
      return {
        name,
        rating: best[i] ?? MEAN,
        interval: sorted.length === 0 ? null : [percentile(sorted, 0.025), percentile(sorted, 0.975)],
        votes,
        share: votes === 0 ? 0 : own / votes,
      };
    })
    .sort((a, b) => b.rating - a.rating);
}
