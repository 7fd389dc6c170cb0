//! The scalar reference: values and gradients in f64, each op by its formula. Slow and simple.

use super::{Batch, TrainError, TrainingGraph};
use crate::graph::{Attention, Norm, NormKind, Op, Rope, Unary, ValueId, WeightId};

mod functions;
use functions::{gated, gated_slopes, slope, unary};

/// A graph with its numbers.
#[derive(Debug)]
pub struct Reference<'g> {
    graph: &'g TrainingGraph,
    /// The numbers of each weight, row-major.
    weights: Vec<Vec<f64>>,
    /// LoRA's matrices, see [`super::Lora::start`].
    pub parameters: Vec<f64>,
    /// A factor on what LoRA adds.
    pub strength: f64,
    /// `[rows, width]` of each value.
    pub values: Vec<Vec<f64>>,
    /// The gradient of each value.
    pub gradients: Vec<Vec<f64>>,
    /// The gradient of each parameter.
    pub gradient: Vec<f64>,
}

impl<'g> Reference<'g> {
    /// `weights[i]` holds the numbers of the graph's weight i.
    pub fn new(graph: &'g TrainingGraph, weights: &[Vec<f32>]) -> Self {
        let wide = |numbers: &Vec<f32>| numbers.iter().map(|x| f64::from(*x)).collect();
        Self {
            graph,
            weights: weights.iter().map(wide).collect(),
            parameters: vec![0.0; graph.n_parameters],
            strength: 1.0,
            values: vec![Vec::new(); graph.graph.values.len()],
            gradients: vec![Vec::new(); graph.graph.values.len()],
            gradient: vec![0.0; graph.n_parameters],
        }
    }

    /// Computes every value. Inputs are set before.
    pub fn forward(&mut self, batch: &Batch) {
        for i in 0..self.graph.graph.ops.len() {
            let result = self.compute(i, batch);
            if let Some(out) = self.graph.graph.ops[i].out() {
                self.values[out.0] = result;
            }
        }
    }

    /// The natural logarithm of each target's probability, from the logits.
    pub fn logprobs(&self, batch: &Batch) -> Vec<f64> {
        let Some(logits) = self.graph.graph.logits else { return Vec::new() };
        let rows = self.values[logits.0].chunks_exact(self.graph.graph.n_vocab());
        rows.zip(&batch.targets).map(|(row, target)| row[target.id as usize] - log_sum(row)).collect()
    }

    /// The gradients of `-Σ weights[i] * logprob[i]`.
    pub fn backward(&mut self, batch: &Batch, weights: &[f64]) -> Result<(), TrainError> {
        let logits = self.graph.graph.logits.ok_or_else(|| TrainError::Graph("it has no logits".into()))?;
        let mut seed = self.values[logits.0].clone();
        let rows = seed.chunks_exact_mut(self.graph.graph.n_vocab());
        for ((row, target), weight) in rows.zip(&batch.targets).zip(weights) {
            let sum = log_sum(row);
            row.iter_mut().for_each(|l| *l = (*l - sum).exp() * weight);
            row[target.id as usize] -= weight;
        }
        self.backward_from(batch, &[(logits, seed)]);
        Ok(())
    }

    /// Gradients from those of some values.
    pub fn backward_from(&mut self, batch: &Batch, seeds: &[(ValueId, Vec<f64>)]) {
        self.gradient.fill(0.0);
        self.gradients = self.values.iter().map(|value| vec![0.0; value.len()]).collect();
        for (id, seed) in seeds {
            add(&mut self.gradients[id.0], seed);
        }
        for i in (0..self.graph.graph.ops.len()).rev() {
            let Some(out) = self.graph.graph.ops[i].out() else { continue };
            let dy = std::mem::take(&mut self.gradients[out.0]);
            for (id, dx) in self.differentiate(i, &dy, batch) {
                add(&mut self.gradients[id.0], &dx);
            }
            self.gradients[out.0] = dy;
        }
    }

    fn width(&self, id: ValueId) -> usize {
        self.graph.graph.value(id).width
    }

    fn weight(&self, id: WeightId) -> &[f64] {
        &self.weights[id.0]
    }

    fn compute(&self, i: usize, batch: &Batch) -> Vec<f64> {
        let value = |id: ValueId| self.values[id.0].as_slice();
        match self.graph.graph.ops[i] {
            Op::Embed { weight, by, .. } => {
                let n = self.graph.graph.weight(weight).n_cols;
                let rows = batch.tokens.iter().map(|token| token.index(by) as usize);
                rows.flat_map(|row| &self.weight(weight)[row * n..][..n]).copied().collect()
            }
            Op::Norm { x, norm, .. } => self.norm(value(x), norm),
            Op::MatMul { x, weight, .. } => {
                let n = self.width(x);
                let rows = value(x).chunks_exact(n);
                let product = |row: &[f64]| -> Vec<f64> {
                    let mut y: Vec<f64> = self.weight(weight).chunks_exact(n).map(|w| dot(row, w)).collect();
                    if let Some((a, b, scale, rank)) = self.lora(i, y.len()) {
                        let u: Vec<f64> = a.chunks_exact(n).map(|a| scale * dot(row, a)).collect();
                        y.iter_mut().zip(b.chunks_exact(rank)).for_each(|(y, b)| *y += dot(b, &u));
                    }
                    y
                };
                rows.flat_map(product).collect()
            }
            Op::Bias { x, bias, .. } => {
                value(x).iter().zip(self.weight(bias).iter().cycle()).map(|(x, b)| x + b).collect()
            }
            Op::Rope { x, rope, .. } => self.rope(value(x), rope, batch, 1.0),
            Op::Attention { q, k, v, shape, .. } => {
                self.attend(shape, batch, value(q), value(k), value(v), None).0
            }
            Op::Unary { x, f, .. } => value(x).iter().map(|x| unary(f, *x)).collect(),
            Op::Gated { gate, up, f, .. } => {
                value(gate).iter().zip(value(up)).map(|(g, u)| gated(f, *g, *u)).collect()
            }
            Op::Add { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a + b).collect(),
            Op::Mul { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a * b).collect(),
            Op::SelectRows { x, .. } => {
                let n = self.width(x);
                batch.targets.iter().flat_map(|t| &value(x)[t.row as usize * n..][..n]).copied().collect()
            }
            // The pass lets no other op through.
            _ => Vec::new(),
        }
    }

    /// A, the rows of B, the factor and the rank of an op's LoRA.
    fn lora(&self, op: usize, n_rows: usize) -> Option<(&[f64], &[f64], f64, usize)> {
        let part = self.graph.parts[op]?;
        let lora = &self.graph.loras[part.lora];
        let b = &self.parameters[lora.b()][part.first_row * lora.rank..][..n_rows * lora.rank];
        Some((&self.parameters[lora.a()], b, self.strength * f64::from(lora.scale), lora.rank))
    }

    /// What an op adds to the gradients of its inputs, from that of its result. Adds to those of parameters.
    fn differentiate(&mut self, i: usize, dy: &[f64], batch: &Batch) -> Vec<(ValueId, Vec<f64>)> {
        let op = self.graph.graph.ops[i].clone();
        if let Op::MatMul { x, weight, .. } = op {
            return vec![(x, self.product_gradient(i, x, weight, dy))];
        }
        let value = |id: ValueId| self.values[id.0].as_slice();
        match op {
            Op::Norm { x, norm, .. } => vec![(x, self.norm_gradient(value(x), norm, dy))],
            Op::Bias { x, .. } => vec![(x, dy.to_vec())],
            // Turned back.
            Op::Rope { x, rope, .. } => vec![(x, self.rope(dy, rope, batch, -1.0))],
            Op::Attention { q, k, v, shape, .. } => {
                let (_, [dq, dk, dv]) = self.attend(shape, batch, value(q), value(k), value(v), Some(dy));
                vec![(q, dq), (k, dk), (v, dv)]
            }
            Op::Unary { x, f, .. } => {
                vec![(x, value(x).iter().zip(dy).map(|(x, dy)| slope(f, *x) * dy).collect())]
            }
            Op::Gated { gate, up, f, .. } => {
                let slopes: Vec<[f64; 2]> =
                    value(gate).iter().zip(value(up)).map(|(g, u)| gated_slopes(f, *g, *u)).collect();
                let part =
                    |which: usize| slopes.iter().zip(dy).map(|(s, dy)| s[which] * dy).collect::<Vec<_>>();
                vec![(gate, part(0)), (up, part(1))]
            }
            Op::Add { a, b, .. } => vec![(a, dy.to_vec()), (b, dy.to_vec())],
            Op::Mul { a, b, .. } => {
                let times = |id| value(id).iter().zip(dy).map(|(x, dy)| x * dy).collect::<Vec<_>>();
                vec![(a, times(b)), (b, times(a))]
            }
            Op::SelectRows { x, .. } => {
                let n = self.width(x);
                let mut dx = vec![0.0; value(x).len()];
                for (target, dy) in batch.targets.iter().zip(dy.chunks_exact(n)) {
                    add(&mut dx[target.row as usize * n..][..n], dy);
                }
                vec![(x, dx)]
            }
            _ => Vec::new(),
        }
    }

    fn product_gradient(&mut self, op: usize, x: ValueId, weight: WeightId, dy: &[f64]) -> Vec<f64> {
        let n = self.width(x);
        let n_rows = self.graph.graph.weight(weight).n_rows;
        let mut dx = vec![0.0; self.values[x.0].len()];
        for (dx, dy) in dx.chunks_exact_mut(n).zip(dy.chunks_exact(n_rows)) {
            for (dy, w) in dy.iter().zip(self.weight(weight).chunks_exact(n)) {
                dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += dy * w);
            }
        }
        let Some(part) = self.graph.parts[op] else { return dx };
        let lora = &self.graph.loras[part.lora];
        let (rank, scale) = (lora.rank, self.strength * f64::from(lora.scale));
        let first_b = lora.b().start + part.first_row * rank;
        let rows = self.values[x.0].chunks_exact(n).zip(dx.chunks_exact_mut(n)).zip(dy.chunks_exact(n_rows));
        for ((x, dx), dy) in rows {
            for r in 0..rank {
                let (a, first_a) = (&self.parameters[lora.a()][r * n..][..n], lora.start + r * n);
                let u = dot(a, x);
                let b = |row: usize| first_b + row * rank + r;
                let du: f64 =
                    dy.iter().enumerate().map(|(row, dy)| scale * dy * self.parameters[b(row)]).sum();
                dx.iter_mut().zip(a).for_each(|(dx, a)| *dx += du * a);
                dy.iter().enumerate().for_each(|(row, dy)| self.gradient[b(row)] += scale * dy * u);
                add_times(&mut self.gradient[first_a..][..n], du, x);
            }
        }
        dx
    }

    fn norm(&self, x: &[f64], norm: Norm) -> Vec<f64> {
        let mut y = x.to_vec();
        y.chunks_exact_mut(norm.run).for_each(|run| {
            let (middle, scale) = measure(norm, run);
            run.iter_mut().for_each(|x| *x = (*x - middle) * scale);
        });
        for (vector, is_weight) in [(norm.weight, true), (norm.bias, false)] {
            let Some(vector) = vector else { continue };
            for (y, w) in y.iter_mut().zip(self.weight(vector).iter().cycle()) {
                *y = if is_weight { *y * w } else { *y + w };
            }
        }
        y
    }

    /// With y = (x - m) s w and g = dy w: dx = s (g - mean(g) - ŷ mean(g ŷ)), ŷ = (x - m) s. An RMS norm has
    /// m = 0 and no mean(g).
    fn norm_gradient(&self, x: &[f64], norm: Norm, dy: &[f64]) -> Vec<f64> {
        let mut g = dy.to_vec();
        if let Some(weight) = norm.weight {
            g.iter_mut().zip(self.weight(weight).iter().cycle()).for_each(|(g, w)| *g *= w);
        }
        for (x, g) in x.chunks_exact(norm.run).zip(g.chunks_exact_mut(norm.run)) {
            let (middle, scale) = measure(norm, x);
            let n = x.len() as f64;
            let unit = |x: f64| (x - middle) * scale;
            let along = x.iter().zip(g.iter()).map(|(x, g)| unit(*x) * g).sum::<f64>() / n;
            let mean = if norm.kind == NormKind::Layer { g.iter().sum::<f64>() / n } else { 0.0 };
            g.iter_mut().zip(x).for_each(|(g, x)| *g = scale * (*g - mean - unit(*x) * along));
        }
        g
    }

    /// Rotated by the angles times `way`.
    fn rope(&self, x: &[f64], rope: Rope, batch: &Batch, way: f64) -> Vec<f64> {
        let (turns, factors) = (self.weight(rope.turns), self.weight(rope.factors));
        let mut y = x.to_vec();
        let half = rope.n_rot / 2;
        for (head, out) in y.chunks_exact_mut(rope.head_dim).enumerate() {
            let position = f64::from(batch.tokens[head / rope.n_heads].position);
            for i in 0..half {
                let (a, b) = if rope.neox { (i, i + half) } else { (2 * i, 2 * i + 1) };
                let angle = way * position * turns[i] / factors[i] * std::f64::consts::TAU;
                let (sin, cos) = angle.sin_cos();
                let magnitude = f64::from(rope.magnitude);
                let (sin, cos) = (magnitude * sin, magnitude * cos);
                (out[a], out[b]) = (out[a] * cos - out[b] * sin, out[a] * sin + out[b] * cos);
            }
        }
        y
    }

    /// Attention; with `dy`, also the gradients of queries, keys and values. With scores s, weights p and
    /// D = Σ dy·y: ds = p (dy·v - D), from which the cap's slope and the scale lead to q and k.
    fn attend(
        &self,
        shape: Attention,
        batch: &Batch,
        q: &[f64],
        k: &[f64],
        v: &[f64],
        dy: Option<&[f64]>,
    ) -> (Vec<f64>, [Vec<f64>; 3]) {
        let Attention { n_heads, n_kv_heads, head_dim, value_dim, window, .. } = shape;
        let mut y = vec![0.0; q.len() / head_dim * value_dim];
        let mut gradients = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        for i in 0..q.len() / head_dim {
            let (row, head) = (i / n_heads, i % n_heads);
            let token = batch.tokens[row];
            let scale = f64::from(shape.scale_at(token.position));
            let query = &q[i * head_dim..][..head_dim];
            // For each key that is seen: its row of heads, its score and the cap's slope.
            let mut seen: Vec<(usize, f64, f64)> = Vec::new();
            for (other, t) in batch.tokens.iter().enumerate() {
                let is_seen = t.sequence == token.sequence
                    && t.position <= token.position
                    && (window == 0 || token.position - t.position < window);
                if !is_seen {
                    continue;
                }
                let at = other * n_kv_heads + head / (n_heads / n_kv_heads);
                let raw = scale * dot(query, &k[at * head_dim..][..head_dim]);
                let (score, slope_of_cap) = match shape.soft_cap {
                    Some(cap) => (unary(Unary::SoftCap(cap), raw), slope(Unary::SoftCap(cap), raw)),
                    None => (raw, 1.0),
                };
                let distance = f64::from(token.position - t.position);
                seen.push((at, score - f64::from(shape.slope(head)) * distance, slope_of_cap));
            }
            let sink = shape.sinks.map(|sinks| self.weight(sinks)[head]);
            let top = seen.iter().map(|(_, s, _)| *s).chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let total = seen.iter().map(|(_, s, _)| *s).chain(sink).map(|s| (s - top).exp()).sum::<f64>();
            let out = &mut y[i * value_dim..][..value_dim];
            for (at, score, _) in &seen {
                add_times(out, (score - top).exp() / total, &v[at * value_dim..][..value_dim]);
            }
            let Some(dy) = dy else { continue };
            let dy = &dy[i * value_dim..][..value_dim];
            let all = dot(dy, out);
            let [dq, dk, dv] = &mut gradients;
            for (at, score, slope_of_cap) in &seen {
                let p = (score - top).exp() / total;
                let ds = p * (dot(dy, &v[at * value_dim..][..value_dim]) - all) * slope_of_cap * scale;
                add_times(&mut dv[at * value_dim..][..value_dim], p, dy);
                add_times(&mut dq[i * head_dim..][..head_dim], ds, &k[at * head_dim..][..head_dim]);
                add_times(&mut dk[at * head_dim..][..head_dim], ds, query);
            }
        }
        (y, gradients)
    }
}

/// What is subtracted from a run, and the factor after that.
fn measure(norm: Norm, run: &[f64]) -> (f64, f64) {
    let n = run.len() as f64;
    let middle = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => run.iter().sum::<f64>() / n,
    };
    let square = run.iter().map(|x| (x - middle) * (x - middle)).sum::<f64>() / n;
    (middle, 1.0 / (square + f64::from(norm.eps)).sqrt())
}

/// ln Σ exp(l).
fn log_sum(row: &[f64]) -> f64 {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + row.iter().map(|l| (l - top).exp()).sum::<f64>().ln()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

fn add_times(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}
