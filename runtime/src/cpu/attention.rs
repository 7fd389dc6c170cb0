//! Attention over the KV pool: page by page with a running softmax, so that a row's scores are never all in
//! memory; long contexts in spans, so that threads can share a row.
//!
//! Keys lie transposed, so that the lanes in which scores add up are positions; values do not, so that the
//! lanes in which outputs add up are outputs (`kv.rs`). A page's part of one head is converted to f32 once
//! for all rows of a task.

use super::kv::{CELLS, widen};
use super::numbers::{exp_all, max, unary};
use super::simd::{V, load, madd_f32, splat_f32, store};
use crate::graph::{Attention, KvFormat, Step, Token, Unary};
use std::ops::Range;

/// What attention of a layer reads, beside queries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool<'a> {
    pub shape: Attention,
    pub step: &'a Step<'a>,
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
    /// A part for each row and head, see [`attend_span`].
    parts: Vec<f32>,
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

/// Positions whose scores have a softmax of their own. Those of spans are merged in order, by one task or by
/// several: the result is the same.
pub(super) const SPAN: usize = 8 * CELLS;

/// The spans that any of these tokens sees.
pub(super) fn spans(shape: Attention, tokens: &[Token]) -> Range<usize> {
    let (first, end) = seen(shape, tokens);
    first / SPAN..end.div_ceil(SPAN)
}

/// The first position that any of these tokens sees, and the one after the last.
fn seen(shape: Attention, tokens: &[Token]) -> (usize, usize) {
    let each = || tokens.iter().map(|token| visible(shape, token));
    (each().map(|(first, _)| first).min().unwrap_or(0), each().map(|(_, end)| end).max().unwrap_or(0))
}

/// Floats of a head of a row over some positions: the greatest score, the sum of weights relative to it, and
/// the sum of values by weight.
pub(super) fn part_len(shape: Attention) -> usize {
    2 + shape.value_dim
}

/// Merges the parts of a head of a row, in order, into its output; a sink is a score beside them.
pub(super) struct Merge<'a> {
    top: f32,
    sum: f32,
    out: &'a mut [f32],
}

impl<'a> Merge<'a> {
    pub fn begin(pool: &Pool, head: usize, out: &'a mut [f32]) -> Self {
        out.fill(0.0);
        let (top, sum) = pool.sinks.map_or((f32::NEG_INFINITY, 0.0), |sinks| (sinks[head], 1.0));
        Self { top, sum, out }
    }

    pub fn add(&mut self, part: &[f32]) {
        let [top, sum, values @ ..] = part else { return };
        if *top == f32::NEG_INFINITY {
            return;
        }
        let highest = self.top.max(*top);
        let old = if self.top == f32::NEG_INFINITY { 0.0 } else { (self.top - highest).exp() };
        let new = (top - highest).exp();
        (self.top, self.sum) = (highest, self.sum * old + sum * new);
        self.out.iter_mut().zip(values).for_each(|(o, v)| *o = *o * old + v * new);
    }

    pub fn end(self) {
        self.out.iter_mut().for_each(|o| *o /= self.sum);
    }
}

/// Rows of one sequence next to each other, which share its pages.
pub(super) fn runs(tokens: &[Token], rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut from = rows.start;
    tokens[rows].chunk_by(|a, b| a.sequence == b.sequence).map(move |run| {
        from += run.len();
        from - run.len()..from
    })
}

/// Some query heads, all of the same key head, of some rows: `out` gives where a head's output belongs.
pub(super) fn attend<'a>(
    pool: Pool,
    rows: Range<usize>,
    heads: Range<usize>,
    query: impl Fn(usize, usize) -> &'a [f32],
    out: impl Fn(usize, usize) -> &'a mut [f32],
    scratch: &mut Scratch,
) {
    let len = part_len(pool.shape);
    let mut parts = std::mem::take(&mut scratch.parts);
    for run in runs(pool.step.tokens, rows) {
        let places = run.clone().flat_map(|row| heads.clone().map(move |head| (row, head)));
        let mut merges: Vec<Merge> =
            places.map(|(row, head)| Merge::begin(&pool, head, out(row, head))).collect();
        parts.resize(len * merges.len(), 0.0);
        for span in spans(pool.shape, &pool.step.tokens[run.clone()]) {
            attend_span(pool, run.clone(), heads.clone(), span, &query, &mut parts, scratch);
            merges.iter_mut().zip(parts.chunks_exact(len)).for_each(|(merge, part)| merge.add(part));
        }
        merges.into_iter().for_each(Merge::end);
    }
    scratch.parts = parts;
}

/// Some query heads, all of the same key head, of rows of one sequence, over one span: `parts` gets
/// [`part_len`] floats for each head of each row.
pub(super) fn attend_span<'a>(
    pool: Pool,
    run: Range<usize>,
    heads: Range<usize>,
    span: usize,
    query: impl Fn(usize, usize) -> &'a [f32],
    parts: &mut [f32],
    scratch: &mut Scratch,
) {
    let Pool { shape, step, .. } = pool;
    let Attention { n_heads, n_kv_heads, head_dim, value_dim, .. } = shape;
    let words = |numbers| pool.format.words(numbers);
    let (keys_width, values_width) = (words(n_kv_heads * head_dim), words(n_kv_heads * value_dim));
    let kv_head = heads.start / (n_heads / n_kv_heads);
    let len = part_len(shape);
    parts.fill(0.0);
    parts.iter_mut().step_by(len).for_each(|top| *top = f32::NEG_INFINITY);
    scratch.keys.resize(head_dim * CELLS, 0.0);
    scratch.values.resize(value_dim * CELLS, 0.0);
    let sequence = step.tokens[run.start].sequence as usize;
    let (first, end) = seen(shape, &step.tokens[run.clone()]);
    let (first, end) = (first.max(span * SPAN), end.min((span + 1) * SPAN));
    for page in first / CELLS..end.div_ceil(CELLS) {
        let place = step.pages[sequence * step.max_pages as usize + page] as usize;
        let keys = &pool.keys[(place * keys_width + words(kv_head * head_dim)) * CELLS..];
        widen::<CELLS>(pool.format, &keys[..words(head_dim) * CELLS], &mut scratch.keys);
        let values = &pool.values[place * CELLS * values_width..][..CELLS * values_width];
        let values = values.chunks_exact(values_width);
        for (wide, cell) in scratch.values.chunks_exact_mut(value_dim).zip(values) {
            widen::<1>(pool.format, &cell[words(kv_head * value_dim)..][..words(value_dim)], wide);
        }
        for (row, parts) in run.clone().zip(parts.chunks_exact_mut(len * heads.len())) {
            let (first, end) = visible(shape, &step.tokens[row]);
            let cells = first.max(page * CELLS)..end.min((page + 1) * CELLS);
            if cells.is_empty() {
                continue;
            }
            let cells = cells.start - page * CELLS..cells.end - page * CELLS;
            for (head, part) in heads.clone().zip(parts.chunks_exact_mut(len)) {
                let scores = Scores::of(shape, head, &step.tokens[row]);
                let (keys, values) = (&scratch.keys, &scratch.values);
                page_of(query(row, head), scores, page, (keys, values), cells.clone(), part);
            }
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
    part: &mut [f32],
) {
    let [top, sum, out @ ..] = part else { return };
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
