//! The loss: logits of some rows at a time, their softmax, and its gradient in their place. Logits of all
//! rows never exist together.

use super::kernel::LANES;
use super::product;
use super::threads::Threads;
use crate::cpu::CpuError;
use crate::cpu::numbers::{self, exp};
use crate::cpu::simd::{floats, put, sub_f32};
use crate::cpu::weights::Matrix;
use crate::graph::Unary;
use crate::train::Target;

/// Floats of the logits that exist together, about: each slice of rows unpacks the whole matrix twice.
const LOGITS: usize = 8 << 20;
/// Blocks of 32 rows whose logits exist together, at least.
const SLICE: usize = 2;
/// Tokens of the vocabulary that a task takes.
const TOKENS: usize = 1024;

/// A function of each logit.
#[derive(Clone, Debug)]
pub enum Then {
    Bias(Vec<f32>),
    Unary(Unary),
}

/// The product that gives the logits, and what is done to them.
pub struct Head<'a> {
    pub matrix: &'a Matrix,
    pub then: &'a [Then],
}

impl Head<'_> {
    /// The natural logarithm of each target's probability, from `hidden`, `[targets / 32][n_embd][32]`. With
    /// `gradient`, the weights and where the gradient of `-Σ weight * logprob` is added. `look` sees each
    /// slice's logits `[blocks][n_vocab][32]`, how many blocks and how many rows they are.
    pub fn run(
        &self,
        threads: &mut Threads,
        hidden: &[f32],
        targets: &[Target],
        logits: &mut Vec<f32>,
        mut gradient: Option<(&[f32], &mut [f32])>,
        mut look: impl FnMut(&[f32], usize, usize),
    ) -> Result<Vec<f64>, CpuError> {
        let (n_vocab, n_in) =
            (self.matrix.n_rows, hidden.len() / (targets.len().div_ceil(LANES) * LANES).max(1));
        let per_slice = SLICE.max(LOGITS / (n_vocab * LANES).max(1));
        let mut logprobs = Vec::new();
        for (slice, targets) in targets.chunks(per_slice * LANES).enumerate() {
            let n_blocks = targets.len().div_ceil(LANES);
            let part = slice * per_slice * n_in * LANES..(slice * per_slice + n_blocks) * n_in * LANES;
            logits.clear();
            logits.resize(n_blocks * n_vocab * LANES, 0.0);
            product::forward(threads, self.matrix, &hidden[part.clone()], logits)?;
            let sums = self.sums(threads, logits, n_blocks)?;
            look(logits, n_blocks, targets.len());
            for (i, target) in targets.iter().enumerate() {
                let logit = logits[(i / LANES * n_vocab + target.id as usize) * LANES + i % LANES];
                logprobs.push(f64::from(logit) - sums[i]);
            }
            if let Some((weights, dx)) = &mut gradient {
                let weights = &weights[slice * per_slice * LANES..][..targets.len()];
                self.differentiate(threads, logits, &sums, targets, weights)?;
                product::backward(threads, self.matrix, logits, &mut dx[part])?;
            }
        }
        Ok(logprobs)
    }

    /// Finishes the logits; ln Σ exp(logit) of each row.
    fn sums(&self, threads: &mut Threads, logits: &mut [f32], n_blocks: usize) -> Result<Vec<f64>, CpuError> {
        let n_vocab = self.matrix.n_rows;
        let per_block = n_vocab.div_ceil(TOKENS);
        // Of each task and row: the greatest logit, and Σ exp(logit - greatest).
        let mut parts = vec![[0.0_f32; 2 * LANES]; n_blocks * per_block];
        let shared = crate::cpu::run::Shared::of(logits);
        let runs = |task: usize| {
            let first = task % per_block * TOKENS;
            let n = TOKENS.min(n_vocab - first);
            ((task / per_block * n_vocab + first) * LANES, first, n)
        };
        let flat: &mut [f32] = parts.as_flattened_mut();
        threads.each_chunk(flat, 2 * LANES, |task, part, _, _| {
            let (at, first, n) = runs(task);
            // SAFETY: these logits are this task's alone.
            let logits = unsafe { shared.part(at, n * LANES) };
            for then in self.then {
                match then {
                    Then::Bias(bias) => {
                        for (row, b) in logits.chunks_exact_mut(LANES).zip(&bias[first..]) {
                            row.iter_mut().for_each(|l| *l += b);
                        }
                    }
                    Then::Unary(f) => numbers::unary(*f, logits),
                }
            }
            let (tops, sums) = part.split_at_mut(LANES);
            tops.fill(f32::NEG_INFINITY);
            for row in logits.chunks_exact(LANES) {
                tops.iter_mut().zip(row).for_each(|(top, l)| *top = if *l > *top { *l } else { *top });
            }
            for row in logits.chunks_exact(LANES) {
                let mut row: [f32; LANES] = std::array::from_fn(|t| row[t]);
                exp_of_difference(&mut row, tops);
                sums.iter_mut().zip(row).for_each(|(sum, e)| *sum += e);
            }
        })?;
        let mut all = Vec::new();
        for block in parts.chunks_exact(per_block) {
            for t in 0..LANES {
                let top = block.iter().map(|part| f64::from(part[t])).fold(f64::NEG_INFINITY, f64::max);
                let sum =
                    |part: &[f32; 2 * LANES]| f64::from(part[LANES + t]) * (f64::from(part[t]) - top).exp();
                all.push(top + block.iter().map(sum).sum::<f64>().ln());
            }
        }
        Ok(all)
    }

    /// Puts the gradient of the product's results in the logits' place.
    fn differentiate(
        &self,
        threads: &mut Threads,
        logits: &mut [f32],
        sums: &[f64],
        targets: &[Target],
        weights: &[f32],
    ) -> Result<(), CpuError> {
        let n_vocab = self.matrix.n_rows;
        threads.each_chunk(logits, TOKENS * LANES, |task, logits, _, _| {
            for (i, row) in logits.chunks_exact_mut(LANES).enumerate() {
                let (block, token) = ((task * TOKENS + i) / n_vocab, (task * TOKENS + i) % n_vocab);
                let sums: [f32; LANES] = std::array::from_fn(|t| sums[block * LANES + t] as f32);
                let y: [f32; LANES] = std::array::from_fn(|t| row[t]);
                exp_of_difference(row, &sums);
                let weight = |t: usize| weights.get(block * LANES + t).copied().unwrap_or(0.0);
                row.iter_mut().enumerate().for_each(|(t, d)| *d *= weight(t));
                for (t, target) in targets.iter().skip(block * LANES).take(LANES).enumerate() {
                    if target.id as usize == token {
                        row[t] -= weight(t);
                    }
                }
                for then in self.then.iter().rev() {
                    match then {
                        Then::Unary(Unary::Scale(factor)) => row.iter_mut().for_each(|d| *d *= factor),
                        Then::Unary(Unary::SoftCap(cap)) => {
                            let slope = |y: f32| 1.0 - (y / cap) * (y / cap);
                            row.iter_mut().zip(y).for_each(|(d, y)| *d *= slope(y));
                        }
                        // A bias changes nothing; the pass lets no other function through.
                        Then::Bias(_) | Then::Unary(_) => {}
                    }
                }
            }
        })
    }
}

/// `x = exp(x - y)`.
fn exp_of_difference(x: &mut [f32], y: &[f32]) {
    let ((x, _), (y, _)) = (x.as_chunks_mut::<4>(), y.as_chunks::<4>());
    for (x, y) in x.iter_mut().zip(y) {
        let value = exp(sub_f32(floats(x), floats(y)));
        put(x, value);
    }
}
