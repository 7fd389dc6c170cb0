//! One op, forwards and backwards.

use super::attention::{Attend, Back};
use super::kernel::LANES;
use super::product::{self, Pair};
use super::rows::{self, Gated, NormOf};
use super::threads::Threads;
use super::{Training, TrainingGraph};
use crate::cpu::{CpuError, Weights, executor, numbers};
use crate::graph::{Norm, Op, Rope, ValueId};
use std::ops::Range;

/// What has been computed, and is read.
fn read(values: &[Option<Vec<f32>>], id: ValueId) -> Result<&[f32], CpuError> {
    values[id.0].as_deref().ok_or_else(|| CpuError::Internal("a value that does not exist".into()))
}

fn norm_of(weights: &Weights, norm: Norm) -> Result<NormOf<'_>, CpuError> {
    let vector = |id| weights.vector(id);
    Ok(NormOf {
        norm,
        weight: norm.weight.map(vector).transpose()?,
        bias: norm.bias.map(vector).transpose()?,
    })
}

/// LoRA's matrices of an op.
fn pair<'p>(
    graph: &TrainingGraph,
    op: usize,
    parameters: &'p [f32],
    strength: f32,
    n_out: usize,
) -> Option<Pair<'p>> {
    let part = graph.parts[op].filter(|_| strength != 0.0)?;
    let lora = &graph.loras[part.lora];
    let b = &parameters[lora.b()][part.first_row * lora.rank..][..n_out * lora.rank];
    let (a, scale) = (&parameters[lora.a()], strength * lora.scale);
    Some(Pair { a, b, rank: lora.rank, n_in: lora.n_in, n_out, scale })
}

impl Training<'_> {
    fn table(&self, rope: &Rope) -> Result<&[f32], CpuError> {
        let found = self.angles.iter().find(|(known, _)| executor::has_same_angles(known, rope));
        found
            .map(|(_, table)| table.as_slice())
            .ok_or_else(|| CpuError::Internal("a rotary embedding without angles".into()))
    }

    /// Computes an op's result.
    pub(super) fn compute_op(&mut self, op: usize, parameters: &[f32]) -> Result<(), CpuError> {
        let (graph, weights) = (self.graph, self.weights);
        let what = &graph.graph.ops[op];
        let Some(out) = what.out() else { return Ok(()) };
        let mut y = self.zeroes(out);
        let width = |id: ValueId| graph.graph.value(id).width;
        let block = width(out) * LANES;
        match *what {
            Op::Embed { weight, by, .. } => {
                let (matrix, tokens) = (weights.matrix(weight)?, &self.tokens);
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    for (t, token) in tokens[i * LANES..][..LANES].iter().enumerate() {
                        let row = token.index(by);
                        let numbers = matrix.dequantise(row as usize);
                        y[t..].iter_mut().step_by(LANES).zip(numbers).for_each(|(y, x)| *y = x);
                    }
                })?;
            }
            Op::Norm { x, norm, .. } => {
                let (norm, x) = (norm_of(weights, norm)?, read(&self.values, x)?);
                self.threads
                    .each_chunk(&mut y, block, |i, y, _, _| norm.forward(&x[i * block..][..block], y))?;
            }
            Op::MatMul { x, weight, .. } => {
                let x = read(&self.values, x)?;
                product::forward(&mut self.threads, weights.matrix(weight)?, x, &mut y)?;
                if let Some(pair) = pair(graph, op, parameters, self.strength, width(out)) {
                    pair.forward(&mut self.threads, x, &mut y)?;
                }
            }
            Op::Bias { x, bias, .. } => {
                let (bias, x) = (weights.vector(bias)?, read(&self.values, x)?);
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    let rows = y.chunks_exact_mut(LANES).zip(x[i * block..].chunks_exact(LANES));
                    for ((y, x), b) in rows.zip(bias) {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y = x + b);
                    }
                })?;
            }
            Op::Rope { x, rope, .. } => {
                let (table, x) = (self.table(&rope)?.to_vec(), read(&self.values, x)?);
                let angles = rope.n_rot * LANES;
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    rows::rotate(&rope, &table[i * angles..][..angles], 1.0, &x[i * block..][..block], y);
                })?;
            }
            Op::Attention { q, k, v, shape, .. } => {
                let sinks = shape.sinks.map(|sinks| weights.vector(sinks)).transpose()?;
                let mut sums = self.sums.remove(&op).unwrap_or_default();
                sums.resize(self.tokens.len() * shape.n_heads, 0.0);
                let values = &self.values;
                let (q, k, v) = (read(values, q)?, read(values, k)?, read(values, v)?);
                let attend = Attend { shape, tokens: &self.tokens, sinks, q, k, v };
                attend.forward(&mut self.threads, &mut y, &mut sums)?;
                self.sums.insert(op, sums);
            }
            Op::Unary { x, f, .. } => {
                let x = read(&self.values, x)?;
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    y.copy_from_slice(&x[i * block..][..block]);
                    numbers::unary(f, y);
                })?;
            }
            Op::Gated { gate, up, f, .. } => {
                let (gate, up) = (read(&self.values, gate)?, read(&self.values, up)?);
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    y.copy_from_slice(&up[i * block..][..block]);
                    numbers::gate(f, &gate[i * block..][..block], y);
                })?;
            }
            Op::Add { a, b, .. } | Op::Mul { a, b, .. } => {
                let is_sum = matches!(what, Op::Add { .. });
                let (a, b) = (read(&self.values, a)?, read(&self.values, b)?);
                self.threads.each_chunk(&mut y, block, |i, y, _, _| {
                    y.copy_from_slice(&a[i * block..][..block]);
                    let b = &b[i * block..][..block];
                    if is_sum { rows::add(y, b) } else { numbers::mul(y, b) }
                })?;
            }
            Op::SelectRows { x, .. } => {
                let (x, n) = (read(&self.values, x)?, width(out));
                for (to, target) in self.batch.targets.iter().enumerate() {
                    let from = target.row as usize;
                    copy_row(x, from, &mut y, to, n, |y, x| *y = x);
                }
            }
            _ => return Err(CpuError::Internal("an op that the pass lets through".into())),
        }
        self.values[out.0] = Some(y);
        Ok(())
    }

    /// The gradient of a value, to be added to; none if nothing before it is learnt.
    fn gradient(&mut self, id: ValueId) -> Option<Vec<f32>> {
        if !self.graph.needs[id.0] {
            return None;
        }
        let known = self.gradients[id.0].take();
        Some(known.unwrap_or_else(|| self.zeroes(id)))
    }

    /// Adds to the gradients of an op's inputs, and of its parameters.
    pub(super) fn differentiate_op(
        &mut self,
        op: usize,
        parameters: &[f32],
        gradient: &mut [f32],
    ) -> Result<(), CpuError> {
        let (graph, weights) = (self.graph, self.weights);
        let what = &graph.graph.ops[op];
        let Some(out) = what.out().filter(|out| graph.needs[out.0]) else { return Ok(()) };
        let Some(dy) = self.gradients[out.0].take() else { return Ok(()) };
        let width = |id: ValueId| graph.graph.value(id).width;
        match *what {
            Op::Norm { x, norm, .. } => {
                let (norm, dx) = (norm_of(weights, norm)?, self.gradient(x));
                let of_x = read(&self.values, x)?;
                self.gradients[x.0] = add_to(&mut self.threads, dx, width(x), |part, dx| {
                    norm.backward(&of_x[part.clone()], &dy[part], dx);
                })?;
            }
            Op::MatMul { x, weight, .. } => {
                self.product_back(op, x, weights.matrix(weight)?, &dy, parameters, gradient)?
            }
            Op::Bias { x, .. } => self.pass_on(x, &dy)?,
            Op::Rope { x, rope, .. } => {
                let (dx, angles) = (self.gradient(x), rope.n_rot * LANES);
                let (table, block) = (self.table(&rope)?.to_vec(), width(x) * LANES);
                self.gradients[x.0] = add_to(&mut self.threads, dx, width(x), |part, dx| {
                    let table = &table[part.start / block * angles..][..angles];
                    rows::rotate(&rope, table, -1.0, &dy[part], dx);
                })?;
            }
            Op::Attention { q, k, v, shape, .. } => {
                let sinks = shape.sinks.map(|sinks| weights.vector(sinks)).transpose()?;
                let gradients = [q, k, v].map(|id| {
                    let known = self.gradients[id.0].take();
                    known.unwrap_or_else(|| self.zeroes(id))
                });
                let [mut dq, mut dk, mut dv] = gradients;
                let values = &self.values;
                let back =
                    Back { dy: &dy, y: read(values, out)?, sums: self.sums.get(&op).map_or(&[], |s| s) };
                let (of_q, of_k, of_v) = (read(values, q)?, read(values, k)?, read(values, v)?);
                let attend = Attend { shape, tokens: &self.tokens, sinks, q: of_q, k: of_k, v: of_v };
                attend.backward(&mut self.threads, back, &mut dq, [&mut dk, &mut dv])?;
                for (id, dx) in [(q, dq), (k, dk), (v, dv)] {
                    self.gradients[id.0] = Some(dx);
                }
            }
            Op::Unary { x, f, .. } => {
                let dx = self.gradient(x);
                let of_x = read(&self.values, x)?;
                self.gradients[x.0] = add_to(&mut self.threads, dx, width(x), |part, dx| {
                    rows::unary_backward(f, &of_x[part.clone()], &dy[part], dx);
                })?;
            }
            Op::Gated { gate, up, f, .. } => {
                for (id, is_gate) in [(gate, true), (up, false)] {
                    let dx = self.gradient(id);
                    let (gate, up) = (read(&self.values, gate)?, read(&self.values, up)?);
                    self.gradients[id.0] = add_to(&mut self.threads, dx, width(id), |part, dx| {
                        let (gate, up) = (&gate[part.clone()], &up[part.clone()]);
                        let gated = Gated { how: f, gate, up, dy: &dy[part] };
                        if is_gate { gated.gate_backward(dx) } else { gated.up_backward(dx) }
                    })?;
                }
            }
            Op::Add { a, b, .. } => {
                self.pass_on(a, &dy)?;
                self.pass_on(b, &dy)?;
            }
            Op::Mul { a, b, .. } => {
                for (id, other) in [(a, b), (b, a)] {
                    let dx = self.gradient(id);
                    let other = read(&self.values, other)?;
                    self.gradients[id.0] = add_to(&mut self.threads, dx, width(id), |part, dx| {
                        let parts = dx.iter_mut().zip(&other[part.clone()]).zip(&dy[part]);
                        parts.for_each(|((dx, other), dy)| *dx += other * dy);
                    })?;
                }
            }
            Op::SelectRows { x, .. } => {
                let n = graph.graph.value(x).width;
                if let Some(mut dx) = self.gradient(x) {
                    for (from, target) in self.batch.targets.iter().enumerate() {
                        copy_row(&dy, from, &mut dx, target.row as usize, n, |dx, dy| *dx += dy);
                    }
                    self.gradients[x.0] = Some(dx);
                }
            }
            // Embeddings are not learnt, and the pass lets no other op through.
            _ => {}
        }
        self.give_back(Some(dy));
        Ok(())
    }

    /// Adds a gradient as it is.
    fn pass_on(&mut self, id: ValueId, dy: &[f32]) -> Result<(), CpuError> {
        let (dx, width) = (self.gradient(id), self.graph.graph.value(id).width);
        self.gradients[id.0] = add_to(&mut self.threads, dx, width, |part, dx| rows::add(dx, &dy[part]))?;
        Ok(())
    }

    fn product_back(
        &mut self,
        op: usize,
        x: ValueId,
        matrix: &crate::cpu::weights::Matrix,
        dy: &[f32],
        parameters: &[f32],
        gradient: &mut [f32],
    ) -> Result<(), CpuError> {
        let graph = self.graph;
        let mut dx = self.gradient(x);
        if let Some(dx) = &mut dx {
            product::backward(&mut self.threads, matrix, dy, dx)?;
        }
        let n_out = matrix.n_rows;
        if let (Some(pair), Some(part)) = (pair(graph, op, parameters, self.strength, n_out), graph.parts[op])
        {
            let lora = &graph.loras[part.lora];
            let (before, of_b) = gradient.split_at_mut(lora.b().start);
            let gradients = product::Gradients {
                a: &mut before[lora.a()],
                b: &mut of_b[part.first_row * lora.rank..][..n_out * lora.rank],
            };
            pair.backward(&mut self.threads, read(&self.values, x)?, dy, dx.as_deref_mut(), gradients)?;
        }
        self.gradients[x.0] = dx;
        Ok(())
    }
}

/// Adds to a gradient, if it is wanted: `f` gets the place of 32 rows and their gradient.
fn add_to(
    threads: &mut Threads,
    mut dx: Option<Vec<f32>>,
    width: usize,
    f: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Result<Option<Vec<f32>>, CpuError> {
    let block = width * LANES;
    if let Some(dx) = &mut dx {
        threads.each_chunk(dx, block, |i, dx, _, _| f(i * block..(i + 1) * block, dx))?;
    }
    Ok(dx)
}

/// Combines row `from` of x with row `to` of y, both of n floats.
fn copy_row(x: &[f32], from: usize, y: &mut [f32], to: usize, n: usize, f: impl Fn(&mut f32, f32)) {
    let place = |row: usize| row / LANES * n * LANES + row % LANES;
    let x = x[place(from)..].iter().step_by(LANES).take(n);
    y[place(to)..].iter_mut().step_by(LANES).zip(x).for_each(|(y, x)| f(y, *x));
}
