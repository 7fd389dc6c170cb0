//! The scalar interpreter. It defines every op as plainly as possible and is the reference for the kernels of
//! all devices.

use super::*;
use half::f16;

/// Executes a graph one number at a time, in f32 with f16 keys and values.
#[derive(Debug)]
pub struct Interpreter<'g> {
    graph: &'g Graph,
    weights: Vec<Vec<f32>>,
    /// Keys and values of each layer, `[cells, width]`.
    pool: Vec<[Vec<f16>; 2]>,
    /// `[rows, width]` of each value after the last step; inputs are set here.
    pub values: Vec<Vec<f32>>,
    /// The token that was last chosen in each slot.
    slots: Vec<u32>,
}

impl<'g> Interpreter<'g> {
    /// `weights[i]` holds the dequantised numbers of `graph.weights[i]`, row-major.
    pub fn new(graph: &'g Graph, weights: Vec<Vec<f32>>, capacity: Capacity) -> Self {
        let cells = capacity.cells() as usize;
        let pool = |cache: &Cache| [(); 2].map(|()| vec![f16::ZERO; cells * cache.width]);
        Self {
            graph,
            weights,
            pool: graph.caches.iter().map(pool).collect(),
            values: vec![Vec::new(); graph.values.len()],
            slots: vec![0; capacity.sequences as usize],
        }
    }

    /// Runs all ops; [`Self::values`] then holds every value. Returns the likeliest token of each output and
    /// ignores choices.
    pub fn step(&mut self, step: &Step) -> Vec<Chosen> {
        for op in &self.graph.ops {
            let result = self.run(op, step);
            if let Some(out) = op.out() {
                self.values[out.0] = result;
            }
        }
        let Some(logits) = self.graph.logits else { return Vec::new() };
        let rows = self.values[logits.0].chunks_exact(self.graph.n_vocab());
        let chosen: Vec<Chosen> =
            rows.zip(step.outputs).map(|(row, output)| likeliest(row, output.target)).collect();
        for (output, chosen) in step.outputs.iter().zip(&chosen) {
            if let Some(slot) = self.slots.get_mut(output.slot as usize) {
                *slot = chosen.id;
            }
        }
        chosen
    }

    fn run(&mut self, op: &Op, step: &Step) -> Vec<f32> {
        let weights = &self.weights;
        let value = |id: ValueId| self.values[id.0].as_slice();
        let width = |id: ValueId| self.graph.value(id).width;
        match *op {
            Op::Embed { weight, .. } => {
                let n = self.graph.weight(weight).n_cols;
                let id = |token: &Token| match token.id & Token::FROM_SLOT {
                    0 => token.id as usize,
                    bit => self.slots[(token.id - bit) as usize] as usize,
                };
                step.tokens.iter().flat_map(|t| &weights[weight.0][id(t) * n..][..n]).copied().collect()
            }
            Op::Norm { x, norm, .. } => value(x)
                .chunks_exact(self.graph.weight(norm.weight).n_cols)
                .flat_map(|row| {
                    let mean = row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32;
                    let scale = 1.0 / (mean + norm.eps).sqrt();
                    row.iter().zip(&weights[norm.weight.0]).map(move |(v, w)| v * scale * w)
                })
                .collect(),
            Op::MatMul { x, weight, .. } => value(x)
                .chunks_exact(width(x))
                .flat_map(|row| weights[weight.0].chunks_exact(row.len()).map(|w| dot(row, w)))
                .collect(),
            Op::Bias { x, bias, .. } => {
                value(x).iter().zip(weights[bias.0].iter().cycle()).map(|(x, b)| x + b).collect()
            }
            Op::Rope { x, rope, .. } => self.rope(value(x), rope, step),
            Op::KvWrite { x, cache, half } => {
                let (n, rows) = (width(x), value(x).to_vec());
                let pool = &mut self.pool[cache.0][half as usize];
                for (token, row) in step.tokens.iter().zip(rows.chunks_exact(n)) {
                    let cell = &mut pool[token.cell as usize * n..][..n];
                    cell.iter_mut().zip(row).for_each(|(cell, x)| *cell = to_f16(*x));
                }
                Vec::new()
            }
            Op::Attention { q, k, v, cache, shape, .. } => match cache {
                Some(cache) => {
                    let [keys, values] = &self.pool[cache.0];
                    let cell = |sequence, position: u32| {
                        let page = step.pages[(sequence * step.max_pages + position / PAGE) as usize];
                        Some((page * PAGE + position % PAGE) as usize)
                    };
                    attention(value(q), (keys, values), cell, f16::to_f32, shape, step)
                }
                None => {
                    let row = |sequence, position| {
                        step.tokens.iter().position(|t| (t.sequence, t.position) == (sequence, position))
                    };
                    attention(value(q), (value(k), value(v)), row, |x| x, shape, step)
                }
            },
            Op::Activate { x, f, .. } => value(x).iter().map(|x| activate(f, *x)).collect(),
            Op::Gated { gate, up, f, .. } => {
                value(gate).iter().zip(value(up)).map(|(g, u)| activate(f, *g) * u).collect()
            }
            Op::Add { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a + b).collect(),
            Op::SelectRows { x, .. } => {
                let n = width(x);
                step.outputs.iter().flat_map(|o| &value(x)[o.row as usize * n..][..n]).copied().collect()
            }
        }
    }

    fn rope(&self, x: &[f32], rope: Rope, step: &Step) -> Vec<f32> {
        let (turns, factors) = (&self.weights[rope.turns.0], &self.weights[rope.factors.0]);
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
}

/// `f(x)`.
pub fn activate(f: Activation, x: f32) -> f32 {
    match f {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
    }
}

/// Attention of `q` over keys and values `[places, width]`. `place(sequence, position)` is the row of a
/// position.
fn attention<T: Copy>(
    q: &[f32],
    (keys, values): (&[T], &[T]),
    place: impl Fn(u32, u32) -> Option<usize>,
    number: impl Fn(T) -> f32,
    shape: Attention,
    step: &Step,
) -> Vec<f32> {
    let Attention { n_heads, n_kv_heads, head_dim, scale, window } = shape;
    let mut y = vec![0.0; q.len()];
    for (i, out) in y.chunks_exact_mut(head_dim).enumerate() {
        let Token { position, sequence, .. } = step.tokens[i / n_heads];
        let kv_head = i % n_heads / (n_heads / n_kv_heads);
        let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
        // Where the head's key and value start, for each position that the row attends to.
        let places = (first..=position).filter_map(|position| place(sequence, position));
        let places: Vec<usize> = places.map(|place| (place * n_kv_heads + kv_head) * head_dim).collect();
        let query = &q[i * head_dim..][..head_dim];
        let score =
            |at: &usize| scale * query.iter().zip(&keys[*at..]).map(|(q, k)| q * number(*k)).sum::<f32>();
        let scores: Vec<f32> = places.iter().map(score).collect();
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f32 = weights.iter().sum();
        for (weight, &at) in weights.iter().zip(&places) {
            for (o, v) in out.iter_mut().zip(&values[at..]) {
                *o += weight / total * number(*v);
            }
        }
    }
    y
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Summed in f64, so that the reference is more precise than what is compared with it.
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(-65504.0, 65504.0))
}

/// The likeliest token; the lowest id wins a tie.
fn likeliest(row: &[f32], target: u32) -> Chosen {
    let mut index = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[index] {
            index = i;
        }
    }
    let logit = row[index];
    let sum: f32 = row.iter().map(|v| (v - logit).exp()).sum();
    let target_logit = row[(target as usize).min(row.len() - 1)];
    Chosen { id: index as u32, logit, log_sum: sum.ln(), target_logit }
}
