//! Tests devices: graphs with random data from a fixed seed run on a device and in the scalar interpreter,
//! and the results are compared. A GPU's self-test runs a few of these cases, so every GPU build includes
//! them.

use super::interpreter::Interpreter;
use super::{
    Activation, Attention, Builder, Capacity, Chosen, Domain, Graph, Norm, NormKind, Output, PAGE, Rope,
    Source, Step, Token, Value, ValueId, WeightId,
};
use crate::quant::{BLOCK, Format};
use std::future::Future;

#[cfg(test)]
pub mod cases;

/// A graph on a device, with access to its values.
pub trait Subject {
    /// The device's error.
    type Error;
    /// Fills a value before a step: an input with data, any other with NaN. Values that the device does not
    /// store are ignored.
    fn write(&mut self, id: ValueId, data: &[f32]);
    /// Runs a step.
    fn run(&mut self, step: &Step<'_>) -> impl Future<Output = Result<Vec<Chosen>, Self::Error>>;
    /// The first `n` floats of a value after a step of `n_tokens` rows; none if such steps do not write it.
    fn read(
        &mut self,
        id: ValueId,
        n: usize,
        n_tokens: usize,
    ) -> impl Future<Output = Result<Option<Vec<f32>>, Self::Error>>;
}

/// A graph with its data.
#[derive(Clone, Debug)]
pub struct Case {
    /// For messages.
    pub name: String,
    /// What is computed.
    pub graph: Graph,
    /// The format of each weight, and its bytes as in a GGUF file.
    pub weights: Vec<(Format, Vec<u8>)>,
    /// Values that no op writes.
    pub inputs: Vec<(ValueId, Vec<f32>)>,
    /// The rows of all steps.
    pub tokens: Vec<Token>,
    /// The outputs; rows are counted over all steps.
    pub outputs: Vec<Output>,
    /// The page table.
    pub pages: Vec<u32>,
    /// Entries per sequence in the page table.
    pub max_pages: u32,
    /// The number of tokens of each step.
    pub steps: Vec<usize>,
    /// The largest deviation allowed, relative to the result's root mean square.
    pub tolerance: f32,
    /// Whether the chosen tokens must also be the same.
    pub same_choice: bool,
}

impl Case {
    /// A case of one step and one sequence, from position 0. A weight's name starts with its format.
    pub fn new(name: impl Into<String>, graph: Graph, n_tokens: u32, tolerance: f32) -> Self {
        let tokens = (0..n_tokens)
            .map(|i| Token { id: i * 7 % 131, position: i, sequence: 0, cell: i, ..Token::default() })
            .collect();
        let outputs = (0..n_tokens).rev().step_by(2).map(|row| Output::likeliest(row, row * 11)).collect();
        let max_pages = n_tokens.div_ceil(PAGE);
        let mut case = Self {
            name: name.into(),
            graph,
            weights: vec![],
            inputs: vec![],
            tokens,
            outputs,
            pages: (0..max_pages).collect(),
            max_pages,
            steps: vec![n_tokens as usize],
            tolerance,
            same_choice: true,
        };
        let mut random = Random(0x9e37_79b9);
        for weight in &case.graph.weights {
            case.weights.push(match &weight.source {
                Source::Constant(numbers) => (Format::F32, bytemuck::cast_slice(numbers).to_vec()),
                source => {
                    let format = format_of(source.name());
                    let bytes = format.made_up(weight.n_rows * weight.n_cols, 0.125, || random.bits());
                    (format, bytes)
                }
            });
        }
        let is_made = |id| case.graph.ops.iter().any(|op| op.out() == Some(id));
        for (i, value) in case.graph.values.iter().enumerate().filter(|(i, _)| !is_made(ValueId(*i))) {
            let rows = if value.domain == Domain::Tokens { case.tokens.len() } else { case.outputs.len() };
            case.inputs.push((ValueId(i), (0..rows * value.width).map(|_| random.normal()).collect()));
        }
        case
    }

    /// The capacity that the case needs.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            tokens: self.tokens.len() as u32,
            outputs: self.outputs.len() as u32,
            sequences: self.pages.len() as u32 / self.max_pages,
            max_pages: self.max_pages,
            pages: self.pages.len() as u32,
        }
    }

    /// All tokens in one step.
    pub fn step(&self) -> Step<'_> {
        let Self { tokens, outputs, pages, max_pages, .. } = self;
        Step { tokens, outputs, choices: &[], pages, max_pages: *max_pages }
    }

    /// The format of each weight.
    pub fn formats(&self) -> Vec<Format> {
        self.weights.iter().map(|(format, _)| *format).collect()
    }

    /// Passes every weight to the sink as the loader does: vectors as floats, matrices in pieces of an even
    /// number of blocks.
    pub fn load(&self, sink: &mut impl crate::load::Sink) {
        for (i, (format, bytes)) in self.weights.iter().enumerate() {
            let id = WeightId(i);
            if self.graph.weights[i].is_vector {
                sink.write_vector(id, &floats(*format, bytes));
                continue;
            }
            let bytes = format.whole_blocks(bytes, self.graph.weights[i].n_cols);
            for (piece, blocks) in bytes.chunks(36 * format.block_bytes()).enumerate() {
                let (mut quants, mut scales) = (Vec::new(), Vec::new());
                format.repack(blocks, &mut quants, &mut scales);
                sink.write_blocks(id, piece * 36, &quants, &scales);
            }
        }
    }

    /// The largest difference between the results of the device and of the interpreter, relative to the
    /// results' root mean square. Infinite if a token differs and [`Self::same_choice`] is set.
    pub async fn deviation<S: Subject>(&self, subject: &mut S) -> Result<f32, S::Error> {
        self.deviation_with(subject, |_, _, _| ()).await
    }

    /// The same. `before` is called before each step, with its number.
    async fn deviation_with<S: Subject>(
        &self,
        subject: &mut S,
        mut before: impl FnMut(usize, &mut S, &mut Interpreter<'_>),
    ) -> Result<f32, S::Error> {
        let weights = self.weights.iter().map(|(format, bytes)| floats(*format, bytes)).collect();
        let mut interpreter = Interpreter::new(&self.graph, weights, self.capacity());
        let mut worst = 0.0_f32;
        let mut first = 0;
        for (i, &n) in self.steps.iter().enumerate() {
            before(i, subject, &mut interpreter);
            let rows = first as u32..(first + n) as u32;
            let outputs = self.outputs.iter().filter(|output| rows.contains(&output.row));
            let outputs: Vec<Output> =
                outputs.map(|output| Output { row: output.row - rows.start, ..*output }).collect();
            let step = Step { tokens: &self.tokens[first..first + n], outputs: &outputs, ..self.step() };
            let inputs = self.inputs.iter().map(|(id, data)| {
                let Value { domain, width } = self.graph.value(*id);
                let all = domain == Domain::Outputs;
                (*id, if all { data.as_slice() } else { &data[first * width..(first + n) * width] })
            });
            inputs.clone().for_each(|(id, data)| interpreter.values[id.0] = data.to_vec());
            let expected = interpreter.step(&step);
            for (i, expected) in interpreter.values.iter().enumerate() {
                subject.write(ValueId(i), &vec![f32::NAN; expected.len()]);
            }
            inputs.for_each(|(id, data)| subject.write(id, data));
            let found = subject.run(&step).await?;
            for (i, expected) in interpreter.values.iter().enumerate() {
                let id = ValueId(i);
                if expected.is_empty() || self.inputs.iter().any(|(input, _)| *input == id) {
                    continue;
                }
                if let Some(found) = subject.read(id, expected.len(), n).await? {
                    worst = worst.max(distance(&found, expected));
                }
            }
            worst = worst.max(self.chosen_distance(&found, &expected));
            first += n;
        }
        Ok(worst)
    }

    fn chosen_distance(&self, found: &[Chosen], expected: &[Chosen]) -> f32 {
        let is_same = |(f, e): (&Chosen, &Chosen)| f.id == e.id;
        if found.len() != expected.len() || (self.same_choice && !found.iter().zip(expected).all(is_same)) {
            return f32::INFINITY;
        }
        let numbers = |all: &[Chosen]| -> Vec<f32> {
            all.iter().flat_map(|c| [c.logit, c.log_sum, c.target_logit]).collect()
        };
        distance(&numbers(found), &numbers(expected))
    }
}

/// The largest difference, relative to the root mean square of `expected`; infinite if anything is not
/// finite.
pub fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let squares: f32 = expected.iter().map(|e| e * e).sum();
    let rms = (squares / expected.len().max(1) as f32).sqrt().max(1e-20);
    found.iter().zip(expected).fold(0.0_f32, |worst, (f, e)| {
        let off = (f - e).abs() / rms;
        if off.is_finite() { worst.max(off) } else { f32::INFINITY }
    })
}

/// Numbers from the bytes of a file.
pub fn floats(format: Format, bytes: &[u8]) -> Vec<f32> {
    format.dequantise(bytes)
}

/// The format that a test's tensor name starts with.
fn format_of(tensor: &str) -> Format {
    tensor.split(':').next().and_then(Format::from_name).unwrap_or(Format::F32)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An approximately normal number of variance 1: the sum of four uniform numbers.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.bits() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 3.0_f32.sqrt()
    }
}

/// A product with activations that 8 bits represent exactly: in each block the largest is 127/64, and all are
/// multiples of 1/64.
pub fn matmul(format: Format, n_rows: usize, n_cols: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, n_cols);
    let w = g.matrix(format.name(), n_rows, n_cols);
    g.matmul(x, w);
    let name = format!("matmul {} {n_rows}x{n_cols}, {n_tokens} rows", format.name());
    // f16 staging rounds weights and activations to 11 bits; the error of f32 sums is far smaller.
    let mut case = Case::new(name, g.finish(), n_tokens, 4e-3);
    for block in case.inputs.iter_mut().flat_map(|(_, data)| data.chunks_mut(BLOCK)) {
        block.iter_mut().for_each(|v| *v = (*v * 40.0).round().clamp(-127.0, 127.0) / 64.0);
        block[5] = 127.0 / 64.0;
    }
    case
}

/// The norm of whole rows.
pub fn rms_norm(width: usize, n_tokens: u32) -> Case {
    head_norm(width, 1, n_tokens)
}

/// The norm of each head.
pub fn head_norm(head_dim: usize, n_heads: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, head_dim * n_heads);
    let w = g.vector("F32", head_dim);
    g.rms_norm(x, w, 1e-5);
    Case::new(format!("norm of {n_heads} x {head_dim}"), g.finish(), n_tokens, 1e-4)
}

/// The shape of rotary embeddings.
#[derive(Clone, Copy, Debug)]
pub struct RopeShape {
    /// Heads per row.
    pub n_heads: usize,
    /// Floats per head.
    pub head_dim: usize,
    /// Leading floats of a head that are rotated.
    pub n_rot: usize,
    /// Whether pairs are (i, i + n_rot/2) instead of (2i, 2i+1).
    pub neox: bool,
}

impl RopeShape {
    /// The rotary embedding with this base; `divisor(i)` divides the frequency of pair i.
    fn build(self, g: &mut Builder, base: f32, divisor: impl Fn(usize) -> f32) -> Rope {
        let Self { n_heads, head_dim, n_rot, neox } = self;
        let half = n_rot / 2;
        let turn = |i: usize| base.powf(-(i as f32) / half as f32) / std::f32::consts::TAU;
        let turns = g.constant((0..half).map(turn).collect());
        let factors = g.constant((0..half).map(divisor).collect());
        Rope { n_heads, head_dim, n_rot, neox, turns, factors, magnitude: 1.0 }
    }
}

/// A rotary embedding at large positions, where errors of sines and cosines are largest.
pub fn rope(shape: RopeShape, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, shape.n_heads * shape.head_dim);
    let rope = shape.build(&mut g, 10_000.0, |i| 1.0 + i as f32 / 8.0);
    g.rope(x, rope);
    let mut case = Case::new(format!("{shape:?}"), g.finish(), n_tokens, 1e-3);
    case.tokens.iter_mut().for_each(|token| token.position *= 1000);
    case
}

/// Attention with the pool's pages in reverse order, so that an ignored page table is noticed.
pub fn attention(shape: Attention, n_tokens: u32) -> Case {
    attention_in(Builder::default(), shape, n_tokens)
}

fn attention_in(mut g: Builder, shape: Attention, n_tokens: u32) -> Case {
    let [n_q, n_k, n_v] = [
        shape.n_heads * shape.head_dim,
        shape.n_kv_heads * shape.head_dim,
        shape.n_kv_heads * shape.value_dim,
    ];
    let [q, k, v] = [n_q, n_k, n_v].map(|n| g.value(Domain::Tokens, n));
    let cache = g.cache(n_k, n_v);
    g.attention(q, k, v, cache, shape);
    let mut case = Case::new(format!("attention {shape:?}, {n_tokens} rows"), g.finish(), n_tokens, 1e-3);
    case.pages.reverse();
    for token in &mut case.tokens {
        token.cell = case.pages[(token.position / PAGE) as usize] * PAGE + token.position % PAGE;
    }
    case
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNorms {
    /// None.
    No,
    /// Of each head, all with the same weight.
    Heads,
    /// Of each head, after the rotary embedding.
    Turned,
    /// Of whole rows.
    Rows,
    /// Layer norms of each head, each with its own weight.
    Layer,
}

/// The layers of a small language model.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// The format of the matrices. As in files, it is Q8_0 where rows are not whole blocks of it.
    pub format: Format,
    /// The format of the value and down projections, which files of mixed types store with more bits.
    pub finer: Format,
    /// The rotary embedding of queries; none if `n_rot` is 0. Keys have two heads.
    pub rope: RopeShape,
    /// The number of layers.
    pub n_layers: usize,
    /// Whether the layers' projections have biases.
    pub biases: bool,
    /// How queries and keys are normalised.
    pub head_norms: HeadNorms,
    /// Whether what attention gives is normalised before it is added, and what the feed-forward layer gives
    /// is scaled.
    pub post_norms: bool,
    /// Queries, keys and values are at most this.
    pub clamp: Option<f32>,
    /// Positions that a row attends to; 0: all.
    pub window: u32,
}

impl Layers {
    /// One plain layer of four heads of 16.
    pub fn of(format: Format) -> Self {
        let rope = RopeShape { n_heads: 4, head_dim: 16, n_rot: 16, neox: false };
        Self {
            format,
            finer: format,
            rope,
            n_layers: 1,
            biases: false,
            head_norms: HeadNorms::No,
            post_norms: false,
            clamp: None,
            window: 0,
        }
    }
}

/// Widths of the residual stream, the feed-forward layer and the vocabulary; the first two are more where a
/// block is longer.
const N_EMBD: usize = 64;
const N_FF: usize = 96;
const N_VOCAB: usize = 70;

/// A small language model, run in steps of these numbers of tokens. It tests fusion.
pub fn layers(shape: Layers, steps: &[usize]) -> Case {
    let Layers { format, finer, rope: rope_shape, n_layers, biases, head_norms, post_norms, clamp, window } =
        shape;
    let block = format.block_len().max(finer.block_len());
    let (n_embd, n_ff) = (N_EMBD.next_multiple_of(block), N_FF.next_multiple_of(block));
    let name = |part: &str, n_cols: usize| {
        let format = if part.starts_with(['v', 'd']) { finer } else { format };
        let is_whole = format.is_float() || n_cols.is_multiple_of(format.block_len());
        let format = if is_whole { format } else { Format::Q8_0 };
        format!("{}:{part}", format.name())
    };
    let RopeShape { n_heads, head_dim, .. } = rope_shape;
    let n_kv_heads = 2;
    let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let attention = Attention { window, ..Attention::new(n_heads, n_kv_heads, head_dim) };
    let mut g = Builder::default();
    let mut x = g.value(Domain::Tokens, n_embd);
    let rope = rope_shape.build(&mut g, 100.0, |_| 1.0);
    for i in 0..n_layers {
        // Names must be unique; the part before the colon is the format.
        let project = |g: &mut Builder, x, part: &str, n_rows, n_cols| {
            let weight = g.matrix(name(&format!("{part}{i}"), n_cols), n_rows, n_cols);
            let y = g.matmul(x, weight);
            if !biases {
                return y;
            }
            let bias = g.vector(format!("F32:{part}{i} bias"), n_rows);
            g.bias(y, bias)
        };
        let norm = |g: &mut Builder, x, part: &str, n| {
            let weight = g.vector(format!("F32:{part}{i}"), n);
            g.rms_norm(x, weight, 1e-5)
        };
        let h = norm(&mut g, x, "n", n_embd);
        let q = project(&mut g, h, "q", n_q, n_embd);
        let k = project(&mut g, h, "k", n_kv, n_embd);
        let v = project(&mut g, h, "v", n_kv, n_embd);
        let [q, k, v] = [q, k, v].map(|x| clamp.map_or(x, |limit| g.clamp(x, limit)));
        let [q, k] = [(q, "qn", n_heads), (k, "kn", n_kv_heads)].map(|(x, part, n_heads)| {
            let of_heads = |g: &mut Builder, x| norm(g, x, part, head_dim);
            let turned = |g: &mut Builder, x| match rope.n_rot {
                0 => x,
                _ => g.rope(x, Rope { n_heads, ..rope }),
            };
            match head_norms {
                HeadNorms::No => turned(&mut g, x),
                HeadNorms::Heads => {
                    let x = of_heads(&mut g, x);
                    turned(&mut g, x)
                }
                HeadNorms::Turned => {
                    let x = turned(&mut g, x);
                    of_heads(&mut g, x)
                }
                HeadNorms::Rows => {
                    let x = norm(&mut g, x, part, n_heads * head_dim);
                    turned(&mut g, x)
                }
                HeadNorms::Layer => {
                    let weight = Some(g.vector(format!("F32:{part}{i}"), n_heads * head_dim));
                    let norm = Norm { kind: NormKind::Layer, run: head_dim, weight, bias: None, eps: 1e-5 };
                    let x = g.norm(x, norm);
                    turned(&mut g, x)
                }
            }
        });
        let cache = g.cache(n_kv, n_kv);
        let a = g.attention(q, k, v, cache, attention);
        let mut a = project(&mut g, a, "o", n_embd, n_q);
        if post_norms {
            a = norm(&mut g, a, "pn", n_embd);
        }
        x = g.add(x, a);
        let h = norm(&mut g, x, "m", n_embd);
        let gate = project(&mut g, h, "g", n_ff, n_embd);
        let up = project(&mut g, h, "u", n_ff, n_embd);
        let f = g.gated(gate, up, Activation::Silu);
        let mut f = project(&mut g, f, "d", n_embd, n_ff);
        if post_norms {
            f = g.scale(f, 0.7);
        }
        x = g.add(x, f);
    }
    let x = g.select_rows(x);
    let weight = g.vector("F32:last", n_embd);
    let x = g.rms_norm(x, weight, 1e-5);
    let output = g.matrix(name("output", n_embd), N_VOCAB, n_embd);
    let logits = g.matmul(x, output);
    g.logits(logits);
    let n_tokens: usize = steps.iter().sum();
    let mut case = Case::new(format!("{shape:?} {steps:?}"), g.finish(), n_tokens as u32, 4e-3);
    case.steps = steps.to_vec();
    case
}

/// The likeliest token, with logits as the input.
pub fn likeliest(n_vocab: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, n_vocab);
    let logits = g.select_rows(x);
    g.logits(logits);
    Case::new(format!("likeliest of {n_vocab}"), g.finish(), n_tokens, 1e-4)
}
