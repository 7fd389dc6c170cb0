//! The scalar interpreter: what every op means, written as plainly as possible. The reference for kernels on all devices.

use super::*;
use half::f16;

/// Executes a graph on the host, one number at a time, in f32 with f16 keys and values.
#[derive(Debug)]
pub struct Interpreter<'g> {
    graph: &'g Graph,
    weights: Vec<Vec<f32>>,
    /// Keys and values of each layer, `[cells, width]`.
    pool: Vec<(Vec<f16>, Vec<f16>)>,
    /// `[rows, width]` of each value after the last step; inputs are set here.
    pub values: Vec<Vec<f32>>,
}

impl<'g> Interpreter<'g> {
    /// `weights[i]` holds the dequantised numbers of `graph.weights[i]`, row-major.
    pub fn new(graph: &'g Graph, weights: Vec<Vec<f32>>, capacity: Capacity) -> Self {
        let cells = capacity.cells() as usize;
        let pool = graph
            .kv_widths
            .iter()
            .map(|w| (vec![f16::ZERO; cells * w], vec![f16::ZERO; cells * w]))
            .collect();
        Self { graph, weights, pool, values: vec![Vec::new(); graph.values.len()] }
    }

    /// Runs all ops. Afterwards [`Self::values`] holds every value.
    pub fn step(&mut self, step: &Step) {
        for op in &self.graph.ops {
            let result = self.run(op, step);
            if let Some(out) = op.out() {
                self.values[out.0] = result;
            }
        }
    }

    /// The likeliest token of each output row, after a step.
    pub fn best(&self) -> Vec<Best> {
        let rows = self.graph.argmax.map(|id| self.values[id.0].as_slice()).unwrap_or_default();
        rows.chunks_exact(4)
            .map(|r| Best { id: r[0].to_bits(), logit: r[1], log_sum: r[2], target_logit: r[3] })
            .collect()
    }

    fn run(&mut self, op: &Op, step: &Step) -> Vec<f32> {
        let weights = &self.weights;
        let value = |id: ValueId| self.values[id.0].as_slice();
        let width = |id: ValueId| self.graph.values[id.0].width;
        match *op {
            Op::Embed { weight, .. } => {
                let n = self.graph.weights[weight.0].n_cols;
                step.tokens
                    .iter()
                    .flat_map(|t| &weights[weight.0][t.id as usize * n..][..n])
                    .copied()
                    .collect()
            }
            Op::RmsNorm { x, weight, eps, .. } => value(x)
                .chunks_exact(width(x))
                .flat_map(|row| {
                    let mean = row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32;
                    let scale = 1.0 / (mean + eps).sqrt();
                    row.iter().zip(&weights[weight.0]).map(move |(v, w)| v * scale * w)
                })
                .collect(),
            Op::MatMul { x, weight, .. } => value(x)
                .chunks_exact(width(x))
                .flat_map(|row| weights[weight.0].chunks_exact(row.len()).map(|w| dot(row, w)))
                .collect(),
            Op::Rope { x, turns, factors, rope, .. } => {
                self.rope(value(x), &weights[turns.0], &weights[factors.0], rope, step)
            }
            Op::KvWrite { k, v, layer } => {
                let n = width(k);
                let (keys, values) = (value(k).to_vec(), value(v).to_vec());
                let (k_pool, v_pool) = &mut self.pool[layer];
                for (t, token) in step.tokens.iter().enumerate() {
                    let cell = token.cell as usize * n;
                    for i in 0..n {
                        k_pool[cell + i] = to_f16(keys[t * n + i]);
                        v_pool[cell + i] = to_f16(values[t * n + i]);
                    }
                }
                Vec::new()
            }
            Op::Attention { q, layer, attention, .. } => self.attention(value(q), layer, attention, step),
            Op::SwiGlu { gate, up, .. } => {
                value(gate).iter().zip(value(up)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
            }
            Op::Add { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a + b).collect(),
            Op::SelectRows { x, .. } => {
                let n = width(x);
                step.outputs.iter().flat_map(|o| &value(x)[o.row as usize * n..][..n]).copied().collect()
            }
            Op::Argmax { logits, .. } => {
                let rows = value(logits).chunks_exact(width(logits));
                rows.zip(step.outputs).flat_map(|(row, output)| best(row, output.target)).collect()
            }
        }
    }

    fn rope(&self, x: &[f32], turns: &[f32], factors: &[f32], rope: Rope, step: &Step) -> Vec<f32> {
        let mut y = x.to_vec();
        let half = rope.n_rot / 2;
        for (head, out) in y.chunks_exact_mut(rope.head_dim).enumerate() {
            let position = step.tokens[head / rope.n_heads].position as f32;
            for i in 0..half {
                let (a, b) = if rope.neox { (i, i + half) } else { (2 * i, 2 * i + 1) };
                let turn = position * (turns[i] / factors[i]);
                let (sin, cos) = ((turn - turn.round()) * std::f32::consts::TAU).sin_cos();
                (out[a], out[b]) = (out[a] * cos - out[b] * sin, out[a] * sin + out[b] * cos);
            }
        }
        y
    }

    fn attention(&self, q: &[f32], layer: usize, shape: Attention, step: &Step) -> Vec<f32> {
        let (k_pool, v_pool) = &self.pool[layer];
        let Attention { n_heads, n_kv_heads, head_dim, scale, window } = shape;
        let mut y = vec![0.0; q.len()];
        for (i, out) in y.chunks_exact_mut(head_dim).enumerate() {
            let (t, head) = (i / n_heads, i % n_heads);
            let Token { position, sequence, .. } = step.tokens[t];
            let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
            // Where the head's keys and values of each visible position start in the pool.
            let cells: Vec<usize> = (first..=position)
                .map(|p| {
                    let page = step.pages[(sequence * step.max_pages + p / PAGE) as usize];
                    let cell = (page * PAGE + p % PAGE) as usize;
                    (cell * n_kv_heads + head / (n_heads / n_kv_heads)) * head_dim
                })
                .collect();
            let query = &q[i * head_dim..][..head_dim];
            let scores: Vec<f32> = cells
                .iter()
                .map(|&at| scale * query.iter().zip(&k_pool[at..]).map(|(q, k)| q * k.to_f32()).sum::<f32>())
                .collect();
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f32 = weights.iter().sum();
            for (weight, &at) in weights.iter().zip(&cells) {
                for (o, v) in out.iter_mut().zip(&v_pool[at..]) {
                    *o += weight / total * v.to_f32();
                }
            }
        }
        y
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // In f64: the reference should be nearer to the truth than what is compared with it.
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(-65504.0, 65504.0))
}

fn best(row: &[f32], target: u32) -> [f32; 4] {
    let mut index = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[index] {
            index = i;
        }
    }
    let top = row[index];
    let sum: f32 = row.iter().map(|v| (v - top).exp()).sum();
    [f32::from_bits(index as u32), top, sum.ln(), row[(target as usize).min(row.len() - 1)]]
}
