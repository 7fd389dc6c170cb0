//! The scalar interpreter. It defines every op as plainly as possible and is the reference for the kernels of
//! all devices.

use super::*;

/// Executes a graph one number at a time, in f32, with keys and values in the format of their cache.
#[derive(Debug)]
pub struct Interpreter<'g> {
    graph: &'g Graph,
    weights: Vec<Vec<f32>>,
    /// Keys and values of each layer, each `[cells, words]`.
    pool: Vec<[Vec<u16>; 2]>,
    /// `[rows, width]` of each value after the last step; inputs are set here.
    pub values: Vec<Vec<f32>>,
    /// The token that was last chosen in each slot.
    slots: Vec<u32>,
    #[cfg(test)]
    n_pages: usize,
}

impl<'g> Interpreter<'g> {
    /// `weights[i]` holds the dequantised numbers of `graph.weights[i]`, row-major.
    pub fn new(graph: &'g Graph, weights: Vec<Vec<f32>>, capacity: Capacity) -> Self {
        let cells = capacity.cells() as usize;
        let pool = |cache: &Cache| [cache.keys, cache.values].map(|n| vec![0; cells * cache.format.words(n)]);
        Self {
            graph,
            weights,
            pool: graph.caches.iter().map(pool).collect(),
            values: vec![Vec::new(); graph.values.len()],
            slots: vec![0; capacity.sequences as usize],
            #[cfg(test)]
            n_pages: capacity.pages as usize,
        }
    }

    /// Goes on with another graph over the same KV pool.
    #[cfg(test)]
    pub fn change(&mut self, graph: &'g Graph, weights: Vec<Vec<f32>>) {
        self.values.resize(graph.values.len(), Vec::new());
        (self.graph, self.weights) = (graph, weights);
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

    /// Copies a page of the pool to another.
    #[cfg(test)]
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let bytes = self.read_page(from);
        self.write_page(to, &bytes);
    }

    /// The keys and values of a page.
    #[cfg(test)]
    pub fn read_page(&self, page: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for half in self.pool.iter().flatten() {
            let n = half.len() / self.n_pages;
            bytes.extend_from_slice(bytemuck::cast_slice(&half[page as usize * n..][..n]));
        }
        bytes
    }

    /// Sets the keys and values of a page.
    #[cfg(test)]
    pub fn write_page(&mut self, page: u32, mut bytes: &[u8]) {
        for half in self.pool.iter_mut().flatten() {
            let n = half.len() / self.n_pages;
            let words = bytemuck::cast_slice_mut(&mut half[page as usize * n..][..n]);
            let (its, rest) = bytes.split_at(words.len());
            words.copy_from_slice(its);
            bytes = rest;
        }
    }

    fn run(&mut self, op: &Op, step: &Step) -> Vec<f32> {
        let weights = &self.weights;
        let value = |id: ValueId| self.values[id.0].as_slice();
        let width = |id: ValueId| self.graph.value(id).width;
        match *op {
            Op::Embed { weight, by, .. } => {
                let n = self.graph.weight(weight).n_cols;
                let rows = step.tokens.iter().map(|token| match (by, token.id & Token::FROM_SLOT) {
                    (Index::Id, bit @ 1..) => self.slots[(token.id - bit) as usize],
                    _ => token.index(by),
                });
                rows.flat_map(|row| &weights[weight.0][row as usize * n..][..n]).copied().collect()
            }
            Op::Norm { x, norm, .. } => {
                let mut y = value(x).to_vec();
                y.chunks_exact_mut(norm.run).for_each(|run| normalise(norm, run));
                let numbers = |id: WeightId| weights[id.0].iter().cycle();
                if let Some(weight) = norm.weight {
                    y.iter_mut().zip(numbers(weight)).for_each(|(y, w)| *y *= w);
                }
                if let Some(bias) = norm.bias {
                    y.iter_mut().zip(numbers(bias)).for_each(|(y, b)| *y += b);
                }
                y
            }
            Op::MatMul { x, weight, .. } => value(x)
                .chunks_exact(width(x))
                .flat_map(|row| weights[weight.0].chunks_exact(row.len()).map(|w| dot(row, w)))
                .collect(),
            Op::Bias { x, bias, .. } => {
                value(x).iter().zip(weights[bias.0].iter().cycle()).map(|(x, b)| x + b).collect()
            }
            Op::Rope { x, rope, .. } => self.rope(value(x), rope, step),
            Op::KvWrite { x, cache, half } => {
                let format = self.graph.caches[cache.0].format;
                let (n, rows) = (format.words(width(x)), value(x).chunks_exact(width(x)));
                let pool = &mut self.pool[cache.0][half as usize];
                for (token, row) in step.tokens.iter().zip(rows) {
                    let mut cell = pool[token.cell as usize * n..][..n].iter_mut();
                    format.encode(row, |word| cell.next().into_iter().for_each(|cell| *cell = word));
                }
                Vec::new()
            }
            Op::Attention { q, k, v, cache, shape, .. } => match cache {
                Some(cache) => {
                    let format = self.graph.caches[cache.0].format;
                    let [keys, values] = self.pool[cache.0].each_ref().map(|half| format.decode(half));
                    let cell = |sequence, position: u32| {
                        let page = step.pages[(sequence * step.max_pages + position / PAGE) as usize];
                        Some((page * PAGE + position % PAGE) as usize)
                    };
                    self.attention(value(q), (&keys, &values), cell, shape, step)
                }
                None => {
                    let row = |sequence, position| {
                        step.tokens.iter().position(|t| (t.sequence, t.position) == (sequence, position))
                    };
                    self.attention(value(q), (value(k), value(v)), row, shape, step)
                }
            },
            Op::Unary { x, f, .. } => value(x).iter().map(|x| unary(f, *x)).collect(),
            Op::Gated { gate, up, f, .. } => {
                value(gate).iter().zip(value(up)).map(|(g, u)| gated(f, *g, *u)).collect()
            }
            Op::Add { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a + b).collect(),
            Op::Mul { a, b, .. } => value(a).iter().zip(value(b)).map(|(a, b)| a * b).collect(),
            Op::Route { logits, routing, .. } => {
                value(logits).chunks_exact(width(logits)).flat_map(|row| route(routing, row)).collect()
            }
            Op::Experts { experts, .. } => self.experts(experts),
            Op::ExpertSum { x, route, .. } => {
                let n = width(x) / self.graph.n_used(route);
                let rows = value(x).chunks_exact(width(x)).zip(value(route).chunks_exact(width(route)));
                let sum = |(x, route): (&[f32], &[f32])| {
                    let mut sum = vec![0.0; n];
                    for (x, weight) in x.chunks_exact(n).zip(&route[route.len() / 2..]) {
                        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
                    }
                    sum
                };
                rows.flat_map(sum).collect()
            }
            Op::SelectRows { x, .. } => {
                let n = width(x);
                step.outputs.iter().flat_map(|o| &value(x)[o.row as usize * n..][..n]).copied().collect()
            }
        }
    }

    fn experts(&self, experts: Experts) -> Vec<f32> {
        let Experts { x, route, n_experts, weight, bias } = experts;
        let (n_used, n_cols) = (self.graph.n_used(route), self.graph.weight(weight).n_cols);
        let n_rows = self.graph.weight(weight).n_rows / n_experts;
        // Each expert has a row of its own, or all have the same.
        let (rows, n_same) = (&self.values[x.0], n_used * n_cols / self.graph.value(x).width);
        let chosen = self.values[route.0].chunks_exact(2 * n_used).flat_map(|route| &route[..n_used]);
        let mut y = Vec::new();
        for (i, expert) in chosen.enumerate() {
            let first = *expert as usize * n_rows;
            let x = &rows[i / n_same * n_cols..][..n_cols];
            for row in first..first + n_rows {
                let bias = bias.map_or(0.0, |bias| self.weights[bias.0][row]);
                y.push(dot(x, &self.weights[weight.0][row * n_cols..][..n_cols]) + bias);
            }
        }
        y
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
                let (sin, cos) = (rope.magnitude * sin, rope.magnitude * cos);
                (out[a], out[b]) = (out[a] * cos - out[b] * sin, out[a] * sin + out[b] * cos);
            }
        }
        y
    }

    /// Attention of `q` over keys and values `[places, width]`. `place(sequence, position)` is the row of a
    /// position.
    fn attention(
        &self,
        q: &[f32],
        (keys, values): (&[f32], &[f32]),
        place: impl Fn(u32, u32) -> Option<usize>,
        shape: Attention,
        step: &Step,
    ) -> Vec<f32> {
        let Attention { n_heads, n_kv_heads, head_dim, value_dim, window, .. } = shape;
        let mut y = vec![0.0; q.len() / head_dim * value_dim];
        for (i, out) in y.chunks_exact_mut(value_dim).enumerate() {
            let Token { position, sequence, .. } = step.tokens[i / n_heads];
            let (head, kv_head) = (i % n_heads, i % n_heads / (n_heads / n_kv_heads));
            let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
            let seen: Vec<(u32, usize)> = (first..=position)
                .filter_map(|p| Some((p, place(sequence, p)? * n_kv_heads + kv_head)))
                .collect();
            let query = &q[i * head_dim..][..head_dim];
            let score = |(p, at): &(u32, usize)| {
                let key = &keys[at * head_dim..];
                let dot = query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>();
                let score = shape.scale_at(position) * dot;
                let score = shape.soft_cap.map_or(score, |cap| unary(Unary::SoftCap(cap), score));
                score - shape.slope(head) * (position - p) as f32
            };
            let scores: Vec<f32> = seen.iter().map(score).collect();
            let sink = shape.sinks.map(|sinks| self.weights[sinks.0][head]);
            let top = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
            let total = weights.iter().sum::<f32>() + sink.map_or(0.0, |sink| (sink - top).exp());
            for (weight, (_, at)) in weights.iter().zip(&seen) {
                for (o, v) in out.iter_mut().zip(&values[at * value_dim..]) {
                    *o += weight / total * v;
                }
            }
        }
        y
    }
}

/// `f(x)`.
pub fn activate(f: Activation, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match f {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
        Activation::GeluErf => 0.5 * x * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2) as f32),
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0) * x.max(0.0),
    }
}

/// `f(x)`.
pub fn unary(f: Unary, x: f32) -> f32 {
    match f {
        Unary::Activation(f) => activate(f, x),
        Unary::Scale(factor) => factor * x,
        Unary::SoftCap(cap) => cap * (x / cap).tanh(),
        Unary::Clamp(limit) => x.clamp(-limit, limit),
    }
}

/// See [`Gate`].
pub fn gated(Gate { f, limit }: Gate, gate: f32, up: f32) -> f32 {
    match limit {
        None => activate(f, gate) * up,
        Some(limit) => activate(f, gate.min(limit)) * (up.clamp(-limit, limit) + 1.0),
    }
}

/// The experts of a row, given a logit for each expert: their numbers, then their weights.
pub fn route(routing: Routing, logits: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order.truncate(routing.n_used);
    let top = order.first().map_or(0.0, |first| logits[*first]);
    let exp = |logit: f32| (logit - top).exp();
    let total = match routing.score {
        // The sum of all scores is a factor on each, which norming takes away.
        Score::Softmax if !routing.is_normed => logits.iter().map(|logit| exp(*logit)).sum(),
        _ => 1.0,
    };
    let score = |expert: &usize| match routing.score {
        Score::Softmax => exp(logits[*expert]) / total,
        Score::Sigmoid => 1.0 / (1.0 + (-logits[*expert]).exp()),
    };
    let scores: Vec<f32> = order.iter().map(score).collect();
    let sum = if routing.is_normed { scores.iter().sum::<f32>().max(Routing::LEAST_SUM) } else { 1.0 };
    let weights = scores.iter().map(|score| score / sum * routing.scale);
    order.iter().map(|expert| *expert as f32).chain(weights).collect()
}

/// The norm of a run, before weight and bias. Sums are f64, as in [`dot`].
fn normalise(norm: Norm, run: &mut [f32]) {
    let mean = |f: &dyn Fn(f64) -> f64| run.iter().map(|x| f(f64::from(*x))).sum::<f64>() / run.len() as f64;
    let middle = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => mean(&|x| x),
    };
    let scale = 1.0 / (mean(&|x| (x - middle) * (x - middle)) + f64::from(norm.eps)).sqrt();
    run.iter_mut().for_each(|x| *x = ((f64::from(*x) - middle) * scale) as f32);
}

/// The error function, by a series of positive terms (DLMF 7.6.2); beyond 6 it is ±1.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Summed in f64, so that the reference is more precise than what is compared with it.
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(0.01), "{found} {expected}");
    }

    /// At 1 and -2, as tables of the normal distribution and of e^x give them.
    #[test]
    fn activations_are_those_of_tables() {
        for (f, at_1, at_minus_2) in [
            (Activation::Silu, 0.731_058_6, -0.238_405_84),
            (Activation::GeluErf, 0.841_344_8, -0.045_500_264),
            (Activation::GeluQuick, 0.845_795_8, -0.064_341_38),
            (Activation::Relu, 1.0, 0.0),
            (Activation::ReluSquared, 1.0, 0.0),
        ] {
            close(activate(f, 1.0), at_1);
            close(activate(f, -2.0), at_minus_2);
        }
        // The approximation differs by less than 4e-4.
        assert!((activate(Activation::Gelu, 1.0) - 0.841_344_8).abs() < 4e-4);
        close(activate(Activation::ReluSquared, 3.0), 9.0);
        close(unary(Unary::SoftCap(2.0), 2.0), 2.0 * 0.761_594_2);
        close(unary(Unary::Clamp(2.0), -5.0), -2.0);
        close(gated(Activation::Relu.into(), 2.0, 3.0), 6.0);
        close(gated(Gate { f: Activation::Relu, limit: Some(1.5) }, 2.0, -3.0), 1.5 * -0.5);
    }

    #[test]
    fn norms_are_those_of_their_papers() {
        let norm = |kind, eps| Norm { kind, run: 4, weight: None, bias: None, eps };
        let mut rms = [1.0, -1.0, 7.0, 7.0];
        normalise(norm(NormKind::Rms, 0.0), &mut rms);
        rms.iter().zip([0.2, -0.2, 1.4, 1.4]).for_each(|(x, y)| close(*x, y));
        let mut layer = [1.0, 3.0, 5.0, 3.0];
        // The variance is 2.
        normalise(norm(NormKind::Layer, 2.0), &mut layer);
        layer.iter().zip([-1.0, 0.0, 1.0, 0.0]).for_each(|(x, y)| close(*x, y));
    }

    /// Logits whose exponentials are 1, 2, 4 and 8, in another order.
    #[test]
    fn routes_are_those_of_a_calculation_by_hand() {
        let logits = [2.0_f32.ln(), 0.0, 8.0_f32.ln(), 4.0_f32.ln()];
        let plain = Routing { n_used: 2, score: Score::Softmax, is_normed: false, scale: 1.0 };
        let weights = |routing, expected: [f32; 4]| {
            let found = route(routing, &logits);
            assert_eq!(found.len(), 4);
            found.iter().zip(expected).for_each(|(found, expected)| close(*found, expected));
        };
        weights(plain, [2.0, 3.0, 8.0 / 15.0, 4.0 / 15.0]);
        weights(Routing { is_normed: true, ..plain }, [2.0, 3.0, 2.0 / 3.0, 1.0 / 3.0]);
        let sigmoid = Routing { score: Score::Sigmoid, scale: 2.0, ..plain };
        weights(sigmoid, [2.0, 3.0, 16.0 / 9.0, 8.0 / 5.0]);
        weights(Routing { is_normed: true, ..sigmoid }, [2.0, 3.0, 20.0 / 19.0, 18.0 / 19.0]);
        assert_eq!(route(plain, &[0.5; 4])[..2], [0.0, 1.0]);
    }

    /// The slopes that the paper gives for 8 heads, and those of its authors' code for 6.
    #[test]
    fn slopes_are_those_of_the_paper() {
        let slopes = |n_heads: usize| {
            let shape = Attention { alibi: Some(8.0), ..Attention::new(n_heads, 1, 2) };
            (0..n_heads).map(|head| (1.0 / shape.slope(head)).round() as u32).collect::<Vec<_>>()
        };
        assert_eq!(slopes(8), [2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(slopes(6), [4, 16, 64, 256, 2, 8]);
    }

    /// A row's own key has a score of 0.5; a sink of the same score takes half of the weight.
    #[test]
    fn a_sink_takes_weight_away() {
        let mut g = Builder::default();
        let [q, k, v] = [(); 3].map(|()| g.value(Domain::Tokens, 2));
        let sinks = g.constant(vec![0.5]);
        let shape = Attention { scale: 0.25, sinks: Some(sinks), ..Attention::new(1, 1, 2) };
        let out = g.attention_without_cache(q, k, v, shape);
        let graph = g.finish();
        let capacity = Capacity { tokens: 1, outputs: 1, sequences: 1, max_pages: 1, pages: 1 };
        let mut interpreter = Interpreter::new(&graph, vec![vec![0.5]], capacity);
        for (id, row) in [(q, [1.0, 2.0]), (k, [2.0, 0.0]), (v, [6.0, -4.0])] {
            interpreter.values[id.0] = row.to_vec();
        }
        let tokens = [Token::default()];
        interpreter.step(&Step { tokens: &tokens, outputs: &[], choices: &[], pages: &[0], max_pages: 1 });
        assert_eq!(interpreter.values[out.0], [3.0, -2.0]);
    }

    #[test]
    fn scales_grow_in_steps() {
        let growth = Some(Growth { every: 8, factor: 0.5 });
        let shape = Attention { scale: 2.0, growth, ..Attention::new(1, 1, 2) };
        close(shape.scale_at(7), 2.0);
        close(shape.scale_at(8), 2.0 * (1.0 + 0.5 * 2.0_f32.ln()));
        close(shape.scale_at(31), 2.0 * (1.0 + 0.5 * 4.0_f32.ln()));
    }
}
