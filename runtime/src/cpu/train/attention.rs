//! Causal attention over the step's own rows, forwards and backwards, in squares of 32 keys by 32 rows.
//!
//! Nothing of the size rows x rows is kept: the way back computes scores again from the logarithms of their
//! sums (arXiv 2205.14135).

use super::kernel::{LANES, Left, ROWS, Vectors, multiply};
use super::threads::Threads;
use crate::cpu::CpuError;
use crate::cpu::numbers::exp;
use crate::cpu::run::Shared;
use crate::cpu::simd::{floats, mul_f32, put, sub_f32};
use crate::graph::{Attention, Token};

const SQUARE: usize = LANES * LANES;

/// What a thread needs.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Scores of all keys that 32 rows see, `[keys][32]`.
    scores: Vec<f32>,
    squares: [Vec<f32>; 3],
}

/// An attention and what it reads.
#[derive(Clone, Copy)]
pub struct Attend<'a> {
    pub shape: Attention,
    pub tokens: &'a [Token],
    pub sinks: Option<&'a [f32]>,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

/// What an attention on the way back reads: the gradient of the result, the result, and its scores' sums.
#[derive(Clone, Copy)]
pub struct Back<'a> {
    pub dy: &'a [f32],
    pub y: &'a [f32],
    /// ln Σ exp(score) of each row of each head, `[rows / 32][heads][32]`.
    pub sums: &'a [f32],
}

impl<'a> Attend<'a> {
    fn n_blocks(&self) -> usize {
        self.tokens.len() / LANES
    }

    fn head(&self, values: &'a [f32], n_heads: usize, block: usize, head: usize, dim: usize) -> &'a [f32] {
        &values[(block * n_heads + head) * dim * LANES..][..dim * LANES]
    }

    fn query(&self, block: usize, head: usize) -> &'a [f32] {
        self.head(self.q, self.shape.n_heads, block, head, self.shape.head_dim)
    }

    fn key(&self, block: usize, head: usize) -> &'a [f32] {
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        self.head(self.k, self.shape.n_kv_heads, block, head / group, self.shape.head_dim)
    }

    fn value(&self, block: usize, head: usize) -> &'a [f32] {
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        self.head(self.v, self.shape.n_kv_heads, block, head / group, self.shape.value_dim)
    }

    /// Whether row `row` sees row `key`.
    fn sees(&self, row: usize, key: usize) -> bool {
        let (t, k) = (self.tokens[row], self.tokens[key]);
        let window = self.shape.window;
        t.sequence == k.sequence
            && k.position <= t.position
            && (window == 0 || t.position - k.position < window)
    }

    /// Whether any row of a block may see a key of another. Sequences follow each other.
    fn meets(&self, rows: usize, keys: usize) -> bool {
        let (first, last) = (self.tokens[rows * LANES], self.tokens[keys * LANES + LANES - 1]);
        let window = self.shape.window;
        keys <= rows
            && last.sequence >= first.sequence
            && (keys == rows
                || window == 0
                || last.sequence != first.sequence
                || first.position.saturating_sub(last.position) < window)
    }

    /// Scores of a square `[32 keys][32 rows]`: minus infinity where a row does not see a key. With `slopes`,
    /// also by how much a score grows with q·k.
    fn scores(
        &self,
        vectors: Vectors,
        (rows, keys, head): (usize, usize, usize),
        out: &mut [f32],
        slopes: Option<&mut [f32]>,
    ) {
        let shape = self.shape;
        out.fill(0.0);
        let (q, k) = (self.query(rows, head), self.key(keys, head));
        for (i, out) in out.chunks_exact_mut(ROWS * LANES).enumerate() {
            let left = Left { floats: &k[i * ROWS..], by_columns: true, run: SQUARE, n: shape.head_dim };
            multiply(vectors, left, q, out);
        }
        let scales: [f32; LANES] =
            std::array::from_fn(|t| shape.scale_at(self.tokens[rows * LANES + t].position));
        let slope_of_head = shape.slope(head);
        let mut slopes = slopes;
        for (j, out) in out.chunks_exact_mut(LANES).enumerate() {
            for (t, out) in out.iter_mut().enumerate() {
                let mut score = *out * scales[t];
                let mut slope = scales[t];
                if let Some(cap) = shape.soft_cap {
                    let tanh = (score / cap).tanh();
                    score = cap * tanh;
                    slope *= 1.0 - tanh * tanh;
                }
                let (row, key) = (rows * LANES + t, keys * LANES + j);
                *out = match self.sees(row, key) {
                    true => {
                        let distance = self.tokens[row].position - self.tokens[key].position;
                        score - slope_of_head * distance as f32
                    }
                    false => f32::NEG_INFINITY,
                };
                if let Some(slopes) = slopes.as_deref_mut() {
                    slopes[j * LANES + t] = slope;
                }
            }
        }
    }

    /// Computes the result and the logarithms of the sums.
    pub fn forward(&self, threads: &mut Threads, y: &mut [f32], sums: &mut [f32]) -> Result<(), CpuError> {
        let Attention { n_heads, value_dim, .. } = self.shape;
        let sums = Shared::of(sums);
        threads.each_chunk(y, value_dim * LANES, |task, y, vectors, scratch| {
            let (rows, head) = (task / n_heads, task % n_heads);
            let met: Vec<usize> = (0..=rows).filter(|keys| self.meets(rows, *keys)).collect();
            let scores = &mut scratch.attention.scores;
            scores.resize(met.len() * SQUARE, 0.0);
            for (keys, scores) in met.iter().zip(scores.chunks_exact_mut(SQUARE)) {
                self.scores(vectors, (rows, *keys, head), scores, None);
            }
            let sink = self.sinks.and_then(|sinks| sinks.get(head)).copied();
            let mut top = [sink.unwrap_or(f32::NEG_INFINITY); LANES];
            for row in scores.chunks_exact(LANES) {
                top.iter_mut().zip(row).for_each(|(top, s)| *top = if *s > *top { *s } else { *top });
            }
            let mut total = top.map(|top| sink.map_or(0.0, |sink| (sink - top).exp()));
            for row in scores.chunks_exact_mut(LANES) {
                weigh(row, &top);
                total.iter_mut().zip(row).for_each(|(total, p)| *total += *p);
            }
            let factors = total.map(|total| 1.0 / total);
            for row in scores.chunks_exact_mut(LANES) {
                row.iter_mut().zip(factors).for_each(|(p, factor)| *p *= factor);
            }
            y.fill(0.0);
            for (keys, scores) in met.iter().zip(scores.chunks_exact(SQUARE)) {
                let v = self.value(*keys, head);
                accumulate(vectors, v, scores, y);
            }
            // SAFETY: the sums of these rows and this head are this task's alone.
            let sums = unsafe { sums.part((rows * n_heads + head) * LANES, LANES) };
            sums.iter_mut().zip(top.iter().zip(total)).for_each(|(s, (top, total))| *s = top + total.ln());
        })
    }

    /// Adds to the gradients of queries, keys and values.
    pub fn backward(
        &self,
        threads: &mut Threads,
        back: Back,
        dq: &mut [f32],
        [dk, dv]: [&mut [f32]; 2],
    ) -> Result<(), CpuError> {
        let Attention { n_heads, n_kv_heads, head_dim, value_dim, .. } = self.shape;
        // Σ dy·y of each row of each head.
        let mut along = vec![0.0; back.sums.len()];
        threads.each_chunk(&mut along, LANES, |task, along, _, _| {
            let at = task * value_dim * LANES;
            let (dy, y) = (&back.dy[at..][..value_dim * LANES], &back.y[at..][..value_dim * LANES]);
            for (dy, y) in dy.chunks_exact(LANES).zip(y.chunks_exact(LANES)) {
                along.iter_mut().zip(dy).zip(y).for_each(|((a, dy), y)| *a += dy * y);
            }
        })?;
        let gradient = |vectors, at: (usize, usize, usize), [p, ds, slopes]: &mut [Vec<f32>; 3]| {
            let (rows, keys, head) = at;
            for square in [&mut *p, ds, slopes] {
                square.resize(SQUARE, 0.0);
            }
            self.scores(vectors, at, p, Some(slopes));
            let of_rows = (rows * n_heads + head) * LANES;
            let sums: &[f32] = &back.sums[of_rows..][..LANES];
            let dy = &back.dy[of_rows * value_dim..][..value_dim * LANES];
            ds.fill(0.0);
            let v = self.value(keys, head);
            for (i, ds) in ds.chunks_exact_mut(ROWS * LANES).enumerate() {
                let left = Left { floats: &v[i * ROWS..], by_columns: true, run: SQUARE, n: value_dim };
                multiply(vectors, left, dy, ds);
            }
            let along = &along[of_rows..][..LANES];
            let squares = p.chunks_exact_mut(LANES).zip(ds.chunks_exact_mut(LANES));
            for ((p, ds), slopes) in squares.zip(slopes.chunks_exact(LANES)) {
                weigh(p, sums);
                for t in 0..LANES {
                    ds[t] = p[t] * (ds[t] - along[t]) * slopes[t];
                }
            }
        };
        threads.each_chunk(dq, head_dim * LANES, |task, dq, vectors, scratch| {
            let (rows, head) = (task / n_heads, task % n_heads);
            for keys in (0..=rows).filter(|keys| self.meets(rows, *keys)) {
                let squares = &mut scratch.attention.squares;
                gradient(vectors, (rows, keys, head), squares);
                accumulate(vectors, self.key(keys, head), &squares[1], dq);
            }
        })?;
        let dv = Shared::of(dv);
        threads.each_chunk(dk, head_dim * LANES, |task, dk, vectors, scratch| {
            let (keys, kv_head, group) = (task / n_kv_heads, task % n_kv_heads, n_heads / n_kv_heads);
            // SAFETY: the values of these keys and this head are this task's alone.
            let dv = unsafe { dv.part(task * value_dim * LANES, value_dim * LANES) };
            for rows in (keys..self.n_blocks()).filter(|rows| self.meets(*rows, keys)) {
                for head in kv_head * group..(kv_head + 1) * group {
                    let squares = &mut scratch.attention.squares;
                    gradient(vectors, (rows, keys, head), squares);
                    transpose(&mut squares[0]);
                    transpose(&mut squares[1]);
                    let of_rows = (rows * n_heads + head) * LANES;
                    let dy = &back.dy[of_rows * value_dim..][..value_dim * LANES];
                    accumulate(vectors, dy, &squares[0], dv);
                    accumulate(vectors, self.query(rows, head), &squares[1], dk);
                }
            }
        })
    }
}

/// `y[d][t] += Σ_j x[d][j] p[j][t]`.
fn accumulate(vectors: Vectors, x: &[f32], p: &[f32], y: &mut [f32]) {
    for (i, y) in y.chunks_mut(ROWS * LANES).enumerate() {
        let from = i * ROWS * LANES;
        if y.len() == ROWS * LANES {
            let left = Left { floats: &x[from..], by_columns: false, run: SQUARE, n: LANES };
            multiply(vectors, left, p, y);
            continue;
        }
        let mut rows = [0.0; ROWS * LANES];
        rows[..y.len()].copy_from_slice(&x[from..from + y.len()]);
        multiply(vectors, Left { floats: &rows, by_columns: false, run: SQUARE, n: LANES }, p, y);
    }
}

/// exp(score - sum), 0 where a key is not seen.
fn weigh(scores: &mut [f32], sums: &[f32]) {
    let (scores, _) = scores.as_chunks_mut::<4>();
    let (sums, _) = sums.as_chunks::<4>();
    for (s, sum) in scores.iter_mut().zip(sums) {
        let seen = s.map(|s| if s == f32::NEG_INFINITY { 0.0 } else { 1.0 });
        let value = mul_f32(exp(sub_f32(floats(s), floats(sum))), floats(&seen));
        put(s, value);
    }
}

fn transpose(square: &mut [f32]) {
    for i in 0..LANES {
        for j in 0..i {
            square.swap(i * LANES + j, j * LANES + i);
        }
    }
}
