//! Attention over the KV pool: page by page with a running softmax, so that a row's scores are never all in
//! memory.
//!
//! Keys lie transposed, so that the lanes in which scores add up are positions; values do not, so that the
//! lanes in which outputs add up are outputs (`kv.rs`). A page's part of one head is converted to f32 once
//! for all rows of a task.

use super::kv::{CELLS, widen};
use super::numbers::{exp_all, max, unary};
use super::simd::{V, load, madd_f32, splat_f32, store};
use crate::graph::{Attention, KvFormat, Step, Token, Unary};
use std::ops::Range;

/// Keys and values of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool<'a> {
    pub format: KvFormat,
    pub keys: &'a [u16],
    pub values: &'a [u16],
    /// A score for each head.
    pub sinks: Option<&'a [f32]>,
}

/// Memory for one task.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// For each row and head: the greatest score so far, and the sum of weights relative to it.
    state: Vec<[f32; 2]>,
    /// For [`attend_rows`].
    pub scores: Vec<f32>,
}

/// The first position that a token sees, and the one after the last.
fn visible(shape: Attention, token: &Token) -> (usize, usize) {
    let end = token.position as usize + 1;
    let first = if shape.window == 0 { 0 } else { end.saturating_sub(shape.window as usize) };
    (first, end)
}

/// From products of queries and keys to scores, for a head of a row.
#[derive(Clone, Copy, Debug)]
struct Scores {
    scale: f32,
    soft_cap: Option<f32>,
    slope: f32,
    position: usize,
}

impl Scores {
    fn of(shape: Attention, head: usize, token: &Token) -> Self {
        let Token { position, .. } = *token;
        Self {
            scale: shape.scale_at(position),
            soft_cap: shape.soft_cap,
            slope: shape.slope(head),
            position: position as usize,
        }
    }

    /// Puts the scores in the products' places; `place` gives the position of each.
    #[inline(always)]
    fn apply(&self, products: &mut [f32], place: impl Fn(usize) -> usize) {
        for s in products.iter_mut() {
            *s *= self.scale;
        }
        if let Some(cap) = self.soft_cap {
            unary(Unary::SoftCap(cap), products);
        }
        if self.slope != 0.0 {
            for (i, s) in products.iter_mut().enumerate() {
                *s -= self.slope * (self.position as f32 - place(i) as f32);
            }
        }
    }
}

/// A row's attention over the step's own rows of its sequence; `keys` and `values` give those of a row.
#[allow(clippy::too_many_arguments)]
pub(super) fn attend_rows<'a>(
    shape: Attention,
    sinks: Option<&[f32]>,
    tokens: &[Token],
    row: usize,
    query: &[f32],
    (keys, values): (&impl Fn(usize) -> &'a [f32], &impl Fn(usize) -> &'a [f32]),
    out: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let Attention { n_heads, n_kv_heads, head_dim, value_dim, .. } = shape;
    let (first, end) = visible(shape, &tokens[row]);
    let is_seen = |other: &usize| {
        let Token { sequence, position, .. } = tokens[*other];
        sequence == tokens[row].sequence && (first..end).contains(&(position as usize))
    };
    out.fill(0.0);
    let heads = query.chunks_exact(head_dim).zip(out.chunks_exact_mut(value_dim));
    let rows: Vec<usize> = (0..tokens.len()).filter(is_seen).collect();
    for (head, (query, out)) in heads.enumerate() {
        let kv_head = head / (n_heads / n_kv_heads);
        scores.clear();
        scores.extend(rows.iter().map(|row| {
            let key = &keys(*row)[kv_head * head_dim..][..head_dim];
            query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>()
        }));
        let place = |i: usize| tokens[rows[i]].position as usize;
        Scores::of(shape, head, &tokens[row]).apply(scores, place);
        // Whole vectors; what is added has no weight.
        scores.resize(scores.len().next_multiple_of(4), f32::NEG_INFINITY);
        let sink = sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
        let top = max(scores).max(sink);
        let sum = exp_all(scores, top) + (sink - top).exp();
        for (row, weight) in rows.iter().zip(scores.iter()) {
            let value = &values(*row)[kv_head * value_dim..][..value_dim];
            out.iter_mut().zip(value).for_each(|(o, v)| *o += weight / sum * v);
        }
    }
}

/// Some query heads, all of the same key head, of some rows: `out` holds their outputs, row after row, heads
/// in order.
#[allow(clippy::too_many_arguments)]
pub(super) fn attend(
    shape: Attention,
    pool: Pool,
    step: &Step,
    rows: Range<usize>,
    heads: Range<usize>,
    query: impl Fn(usize, usize) -> *const f32,
    out: impl Fn(usize, usize) -> *mut f32,
    scratch: &mut Scratch,
) {
    let Attention { n_heads, n_kv_heads, head_dim, value_dim, .. } = shape;
    let words = |numbers| pool.format.words(numbers);
    let (keys_width, values_width) = (words(n_kv_heads * head_dim), words(n_kv_heads * value_dim));
    let kv_head = heads.start / (n_heads / n_kv_heads);
    let visible = |token: &Token| visible(shape, token);
    // SAFETY, here and below: `query` gives a head's `head_dim` floats and `out` its `value_dim`, which no
    // other task touches.
    let output = |row, head| unsafe { std::slice::from_raw_parts_mut(out(row, head), value_dim) };
    scratch.state.clear();
    for _ in rows.clone() {
        // A sink is a score that is there from the start.
        let start = |head: usize| pool.sinks.map_or([f32::NEG_INFINITY, 0.0], |sinks| [sinks[head], 1.0]);
        scratch.state.extend(heads.clone().map(start));
    }
    scratch.keys.resize(head_dim * CELLS, 0.0);
    scratch.values.resize(value_dim * CELLS, 0.0);
    for row in rows.clone() {
        heads.clone().for_each(|head| output(row, head).fill(0.0));
    }

    // Neighbouring rows of one sequence share its pages.
    let mut from = rows.start;
    while from < rows.end {
        let sequence = step.tokens[from].sequence;
        let run = step.tokens[from..rows.end].iter().take_while(|t| t.sequence == sequence).count();
        let run = from..from + run;
        let first = step.tokens[run.clone()].iter().map(|t| visible(t).0).min().unwrap_or(0);
        let end = step.tokens[run.clone()].iter().map(|t| visible(t).1).max().unwrap_or(0);
        for page in first / CELLS..end.div_ceil(CELLS) {
            let place = step.pages[sequence as usize * step.max_pages as usize + page] as usize;
            let keys = &pool.keys[(place * keys_width + words(kv_head * head_dim)) * CELLS..];
            widen::<CELLS>(pool.format, &keys[..words(head_dim) * CELLS], &mut scratch.keys);
            let values = &pool.values[place * CELLS * values_width..][..CELLS * values_width];
            let values = values.chunks_exact(values_width);
            for (wide, cell) in scratch.values.chunks_exact_mut(value_dim).zip(values) {
                widen::<1>(pool.format, &cell[words(kv_head * value_dim)..][..words(value_dim)], wide);
            }
            for row in run.clone() {
                let (first, end) = visible(&step.tokens[row]);
                let cells = first.max(page * CELLS)..end.min((page + 1) * CELLS);
                if cells.is_empty() {
                    continue;
                }
                let cells = cells.start - page * CELLS..cells.end - page * CELLS;
                for head in heads.clone() {
                    // SAFETY: as above.
                    let q = unsafe { std::slice::from_raw_parts(query(row, head), head_dim) };
                    let state = &mut scratch.state[(row - rows.start) * heads.len() + head - heads.start];
                    let scores = Scores::of(shape, head, &step.tokens[row]);
                    let (keys, values) = (&scratch.keys, &scratch.values);
                    page_of(q, scores, page, (keys, values), cells.clone(), state, output(row, head));
                }
            }
        }
        from = run.end;
    }
    for row in rows.clone() {
        for head in heads.clone() {
            let [_, sum] = scratch.state[(row - rows.start) * heads.len() + head - heads.start];
            output(row, head).iter_mut().for_each(|o| *o /= sum);
        }
    }
}

/// One head of one row over one page.
fn page_of(
    q: &[f32],
    scores: Scores,
    page: usize,
    (keys, values): (&[f32], &[f32]),
    cells: Range<usize>,
    [top, sum]: &mut [f32; 2],
    out: &mut [f32],
) {
    let mut weights = [0.0; CELLS];
    accumulate(q, keys, CELLS, &mut weights);
    scores.apply(&mut weights, |cell| page * CELLS + cell);
    // The cells before a window and after the row's own are not seen.
    weights[..cells.start].fill(f32::NEG_INFINITY);
    weights[cells.end..].fill(f32::NEG_INFINITY);
    let highest = top.max(max(&weights));
    let old = if *top == f32::NEG_INFINITY { 0.0 } else { (*top - highest).exp() };
    *sum = *sum * old + exp_all(&mut weights, highest);
    *top = highest;
    if old != 1.0 {
        out.iter_mut().for_each(|o| *o *= old);
    }
    let values = &values[cells.start * out.len()..];
    accumulate(&weights[cells], values, out.len(), out);
}

/// Floats that [`accumulate`] keeps in registers: 8 vectors.
const STRIP: usize = 32;

/// `out[i] += Σ factors[j] rows[j][i]`; rows are `width` long, as is `out`.
#[inline(always)]
fn accumulate(factors: &[f32], rows: &[f32], width: usize, out: &mut [f32]) {
    assert!(rows.len() >= factors.len() * width && out.len() == width);
    let whole = width / STRIP * STRIP;
    for first in (0..whole).step_by(STRIP) {
        // SAFETY: a strip of `out` and of each row is within them, as was just checked.
        unsafe {
            let place = out.as_mut_ptr().add(first);
            let mut sums: [V; STRIP / 4] = std::array::from_fn(|i| load(place.add(4 * i).cast()));
            for (j, factor) in factors.iter().enumerate() {
                let (row, factor) = (rows.as_ptr().add(j * width + first), splat_f32(*factor));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = madd_f32(load(row.add(4 * i).cast()), factor, *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                store(place.add(4 * i), sum);
            }
        }
    }
    for (row, factor) in rows.chunks_exact(width).zip(factors) {
        for (o, x) in out[whole..].iter_mut().zip(&row[whole..]) {
            *o += factor * x;
        }
    }
}
