//! The computation of a model as plain data: what a step does to its rows, on any device.
//!
//! A graph is a list of [`Op`]s on weights and on values `[rows, width]` of f32. It knows neither the model
//! that it came from nor the device that runs it. [`interpreter`] executes it one scalar at a time and is the
//! reference for every device. [`fuse`] finds ops that devices can run together; [`step`] has their steps.

mod builder;
mod choice;
pub mod fuse;
pub mod interpreter;
mod kv;
pub mod step;
#[cfg(any(test, feature = "gpu"))]
pub mod testing;
pub mod uses;

pub use builder::Builder;
pub use choice::{BIN, BINS, Choice, IN_PROMPT, allows};
pub use kv::{KV_BLOCK, KvFormat};
pub use step::{Capacity, Chosen, Output, PAGE, Step, Token};

use std::ops::Range;

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueId(pub usize);

/// Index into [`Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// What a row of a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// A token of the step.
    Tokens,
    /// A row for which logits are wanted.
    Outputs,
}

/// An intermediate result, `[rows, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// What its rows belong to.
    pub domain: Domain,
    /// Floats per row.
    pub width: usize,
}

/// Where a weight's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Rows of a tensor in the model file, starting at `first_row`. A tensor `[n_experts, n_rows, n_cols]`
    /// has `n_experts * n_rows` rows; each expert is `n_rows` of them. A vector's rows are its numbers.
    Tensor {
        /// The tensor's name.
        name: String,
        /// The first row that belongs to the weight.
        first_row: usize,
    },
    /// Whole tensors of as many rows each, below each other: old files have one for each expert.
    Tensors(Vec<String>),
    /// Computed when the graph was built.
    Constant(Vec<f32>),
}

impl Source {
    /// A name for labels and messages: the tensor's, or the first one's, or "constant".
    pub fn name(&self) -> &str {
        self.tensors().next().map_or("constant", |(name, _)| name)
    }

    /// The tensors that hold the numbers, and the first row in each; none for constants.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize)> {
        let (one, several) = match self {
            Source::Tensor { name, first_row } => (Some((name.as_str(), *first_row)), &[][..]),
            Source::Tensors(names) => (None, names.as_slice()),
            Source::Constant(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|name| (name.as_str(), 0)))
    }
}

/// A matrix `[n_rows, n_cols]` in any format, or a vector (`n_rows == 1`, always f32 on the device).
#[derive(Clone, Debug)]
pub struct Weight {
    /// Where its numbers come from.
    pub source: Source,
    /// Whether it is a vector.
    pub is_vector: bool,
    /// Outputs of a projection, or tokens of a vocabulary.
    pub n_rows: usize,
    /// Inputs of a projection.
    pub n_cols: usize,
    /// Of the matrices of low-rank paths: the columns that are not zero.
    pub low_rank: Option<Range<usize>>,
}

/// How a norm measures a run of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps)` (arXiv 1910.07467).
    Rms,
    /// `(x - mean(x)) / sqrt(variance(x) + eps)` (arXiv 1607.06450).
    Layer,
}

/// A norm of each run of `run` floats: of whole rows, or of each head. The result is multiplied by the weight
/// and then the bias is added. Both are vectors as long as a run, which all runs share, or as long as a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// How a run is measured.
    pub kind: NormKind,
    /// Floats per run; divides the row's width.
    pub run: usize,
    /// Multiplies the result.
    pub weight: Option<WeightId>,
    /// Added to the result.
    pub bias: Option<WeightId>,
    /// Added to the mean square or the variance.
    pub eps: f32,
}

impl Norm {
    /// The vectors that it reads.
    pub fn vectors(&self) -> impl Iterator<Item = WeightId> {
        self.weight.into_iter().chain(self.bias)
    }
}

/// The shape of a rotary embedding (arXiv 2104.09864). Scalings for long contexts (linear, llama3, YaRN, long
/// rope) are in its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Heads per row.
    pub n_heads: usize,
    /// Floats per head.
    pub head_dim: usize,
    /// Leading floats of a head that are rotated.
    pub n_rot: usize,
    /// Whether pairs are (i, i + n_rot/2) instead of (2i, 2i+1).
    pub neox: bool,
    /// `n_rot / 2` numbers: full turns of each pair per position.
    pub turns: WeightId,
    /// `n_rot / 2` numbers by which `turns` are divided.
    pub factors: WeightId,
    /// Factor on the rotated floats: the attention factor of YaRN and long rope, otherwise 1.
    pub magnitude: f32,
}

/// The shape of attention. A query's score of a key is `q·k * scale`, then soft-capped, then biased; its
/// weights are the softmax of all scores and the sink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Floats per head of queries and keys.
    pub head_dim: usize,
    /// Floats per head of values and of the result.
    pub value_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// How the scale grows with the row's position; none: it does not.
    pub growth: Option<Growth>,
    /// Positions that a row attends to, its own included; 0: all.
    pub window: u32,
    /// Scores become `cap * tanh(score / cap)` (arXiv 2408.00118).
    pub soft_cap: Option<f32>,
    /// ALiBi (arXiv 2108.12409): scores lose [`Self::slope`] for each position between key and row. This is
    /// the exponent of the last head's slope: 8 in the paper.
    pub alibi: Option<f32>,
    /// A vector with a score for each head that takes part in its softmax, but has no value.
    pub sinks: Option<WeightId>,
}

/// A scale that grows with the position p: `1 + factor * ln(1 + floor(p / every))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Positions between steps; 0 counts as 1.
    pub every: u32,
    /// Factor on the logarithm.
    pub factor: f32,
}

impl Attention {
    /// Plain attention: heads of one length, scaled by `1 / sqrt(head_dim)`.
    pub fn new(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        Self {
            n_heads,
            n_kv_heads,
            head_dim,
            value_dim: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            growth: None,
            window: 0,
            soft_cap: None,
            alibi: None,
            sinks: None,
        }
    }

    /// The factor on q·k at this position.
    pub fn scale_at(&self, position: u32) -> f32 {
        let grown = |g: Growth| 1.0 + g.factor * (1.0 + (position / g.every.max(1)) as f32).ln();
        self.scale * self.growth.map_or(1.0, grown)
    }

    /// What a head's scores lose for each position between key and row. Numbers of heads that are not powers
    /// of two take every other slope of twice as many heads, as the paper's authors do.
    pub fn slope(&self, head: usize) -> f32 {
        let Some(exponent) = self.alibi else { return 0.0 };
        let n = 1 << self.n_heads.max(1).ilog2();
        let power = if head < n { (head + 1) as f32 } else { (head - n) as f32 + 0.5 };
        (-exponent * power / n as f32).exp2()
    }
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)` (arXiv 1702.03118).
    Silu,
    /// `x * Φ(x)` by its tanh approximation (arXiv 1606.08415).
    Gelu,
    /// `x * Φ(x)`.
    GeluErf,
    /// `x * Φ(x)` by its approximation `x * sigmoid(1.702 x)`.
    GeluQuick,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (arXiv 2109.08668).
    ReluSquared,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 6] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluErf,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
    ];
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// An activation.
    Activation(Activation),
    /// `factor * x`.
    Scale(f32),
    /// `cap * tanh(x / cap)` (arXiv 2408.00118).
    SoftCap(f32),
    /// x, but at least `-limit` and at most `limit`.
    Clamp(f32),
}

/// How a gate and its partner become one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Applied to the gate.
    pub f: Activation,
    /// Without a limit, the result is `f(gate) * up` (arXiv 2002.05202). With one, it is
    /// `f(min(gate, limit)) * (clamp(up, -limit, limit) + 1)`, as in gpt-oss (arXiv 2508.10925).
    pub limit: Option<f32>,
}

impl From<Activation> for Gate {
    fn from(f: Activation) -> Self {
        Self { f, limit: None }
    }
}

/// How a router's logits become a choice of experts, and their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts that each row uses: those of its greatest logits, of equal ones the first.
    pub n_used: usize,
    /// What a logit becomes.
    pub score: Score,
    /// Whether the scores of the experts in use are divided by their sum (of at least [`Self::LEAST_SUM`]).
    pub is_normed: bool,
    /// Factor on the weights.
    pub scale: f32,
}

impl Routing {
    /// The smallest normal number of half precision.
    pub const LEAST_SUM: f32 = 6.103_515_6e-5;
}

/// The score of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Score {
    /// The softmax of all logits (arXiv 1701.06538).
    Softmax,
    /// The sigmoid of its own (arXiv 2412.19437).
    Sigmoid,
}

/// A projection by the experts that a row uses. See [`Op::Experts`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// The rows: one for all experts that it uses, or one for each.
    pub x: ValueId,
    /// What [`Op::Route`] gave.
    pub route: ValueId,
    /// How many experts the weight has.
    pub n_experts: usize,
    /// The matrices of all experts, one below the other.
    pub weight: WeightId,
    /// The biases of all experts, as long as all their rows.
    pub bias: Option<WeightId>,
}

/// What chooses the row of an embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    /// The token's id.
    Id,
    /// Its position.
    Position,
    /// What it uses of several adapters, see [`Token::set`].
    Set,
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// Keys.
    Keys,
    /// Values.
    Values,
}

/// Index into [`Graph::caches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheId(pub usize);

/// A layer's part of the KV pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Floats of the keys of one position.
    pub keys: usize,
    /// Floats of the values of one position.
    pub values: usize,
    /// How they are stored.
    pub format: KvFormat,
}

impl Cache {
    /// Floats of one position.
    pub fn width(&self) -> usize {
        self.keys + self.values
    }
}

/// One operation. The fields are those of its formula. No two ops write the same value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    /// `out[t] = weight[id, position or set of t]`.
    Embed { weight: WeightId, by: Index, out: ValueId },
    /// See [`Norm`].
    Norm { x: ValueId, norm: Norm, out: ValueId },
    /// `out = x · weightᵀ`.
    MatMul { x: ValueId, weight: WeightId, out: ValueId },
    /// `out = x + bias`, for each row.
    Bias { x: ValueId, bias: WeightId, out: ValueId },
    /// Rotary embedding: pair i is rotated by `position * turns[i] / factors[i]` full turns, and multiplied
    /// by the magnitude. The rest of a head is copied.
    Rope { x: ValueId, rope: Rope, out: ValueId },
    /// Writes the step's keys or values to a cache, as f16.
    KvWrite { x: ValueId, cache: CacheId, half: Half },
    /// Causal attention, see [`Attention`]. With a cache, over the sequence's keys and values there; `k` and
    /// `v` are written to it before. Without a cache, over the step's rows of the same sequence.
    Attention { q: ValueId, k: ValueId, v: ValueId, cache: Option<CacheId>, shape: Attention, out: ValueId },
    /// `out = f(x)`.
    Unary { x: ValueId, f: Unary, out: ValueId },
    /// See [`Gate`].
    Gated { gate: ValueId, up: ValueId, f: Gate, out: ValueId },
    /// `out = a + b`.
    Add { a: ValueId, b: ValueId, out: ValueId },
    /// `out = a * b`.
    Mul { a: ValueId, b: ValueId, out: ValueId },
    /// Chooses the experts of each row from a logit for each expert. A row of the result has their numbers
    /// and then their weights, the greatest first. See [`Routing`].
    Route { logits: ValueId, routing: Routing, out: ValueId },
    /// The projections of a row by each of the experts that it uses, side by side in the order of the route.
    Experts { experts: Experts, out: ValueId },
    /// The sum of what a row's experts gave, each times its weight.
    ExpertSum { x: ValueId, route: ValueId, out: ValueId },
    /// `out[o] = x[row of output o]`: from token rows to output rows.
    SelectRows { x: ValueId, out: ValueId },
}

impl Op {
    /// The value that the op writes; none if it writes to a cache.
    pub fn out(&self) -> Option<ValueId> {
        match *self {
            Op::Embed { out, .. }
            | Op::Norm { out, .. }
            | Op::MatMul { out, .. }
            | Op::Bias { out, .. }
            | Op::Rope { out, .. }
            | Op::Attention { out, .. }
            | Op::Unary { out, .. }
            | Op::Gated { out, .. }
            | Op::Add { out, .. }
            | Op::Mul { out, .. }
            | Op::Route { out, .. }
            | Op::Experts { out, .. }
            | Op::ExpertSum { out, .. }
            | Op::SelectRows { out, .. } => Some(out),
            Op::KvWrite { .. } => None,
        }
    }

    /// The values that the op reads. Attention with a cache reads its keys and values there, not from `k` and
    /// `v`.
    pub fn inputs(&self) -> Vec<ValueId> {
        match *self {
            Op::Embed { .. } => vec![],
            Op::Norm { x, .. }
            | Op::MatMul { x, .. }
            | Op::Bias { x, .. }
            | Op::Rope { x, .. }
            | Op::KvWrite { x, .. }
            | Op::Unary { x, .. }
            | Op::SelectRows { x, .. } => vec![x],
            Op::Attention { q, cache: Some(_), .. } => vec![q],
            Op::Attention { q, k, v, cache: None, .. } => vec![q, k, v],
            Op::Gated { gate, up, .. } => vec![gate, up],
            Op::Add { a, b, .. } | Op::Mul { a, b, .. } => vec![a, b],
            Op::Route { logits, .. } => vec![logits],
            Op::Experts { experts: Experts { x, route, .. }, .. } => vec![x, route],
            Op::ExpertSum { x, route, .. } => vec![x, route],
        }
    }
}

/// A whole computation. Values that no op writes are inputs, which the caller sets (only tests have them).
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Intermediate results.
    pub values: Vec<Value>,
    /// Matrices and vectors.
    pub weights: Vec<Weight>,
    /// In order of execution.
    pub ops: Vec<Op>,
    /// Layers of the KV pool.
    pub caches: Vec<Cache>,
    /// `[outputs, n_vocab]`; none if the graph is not a language model.
    pub logits: Option<ValueId>,
    /// `[outputs, n_embd]`: what the logits are computed from, after the last norm.
    pub hidden: Option<ValueId>,
}

impl Graph {
    /// A value's shape.
    pub fn value(&self, id: ValueId) -> Value {
        self.values[id.0]
    }

    /// A weight.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// Experts that each row uses, by the value that [`Op::Route`] gave.
    pub fn n_used(&self, route: ValueId) -> usize {
        self.value(route).width / 2
    }

    /// The same graph without its head: it gives the hidden rows in place of logits. None if it has no head.
    pub fn embedder(&self) -> Option<Self> {
        let hidden = self.hidden?;
        let last = self.ops.iter().position(|op| op.out() == Some(hidden))?;
        Some(Self { ops: self.ops.get(..=last)?.to_vec(), logits: Some(hidden), ..self.clone() })
    }

    /// Positions of the KV pool that a row sees at most, its own included; none if a layer sees all.
    pub fn window(&self) -> Option<u32> {
        let windows = self.ops.iter().filter_map(|op| match op {
            Op::Attention { cache: Some(_), shape, .. } => Some(shape.window),
            _ => None,
        });
        let windows: Vec<u32> = windows.collect();
        windows.iter().max().copied().filter(|_| !windows.contains(&0))
    }

    /// Tokens of the vocabulary; 0 if the graph is not a language model.
    pub fn n_vocab(&self) -> usize {
        self.logits.map_or(0, |id| self.value(id).width)
    }
}
