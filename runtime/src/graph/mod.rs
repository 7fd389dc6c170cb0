//! The computation of a model as plain data: what a step does to its rows, on any device.
//!
//! A graph is a list of [`Op`]s over values `[rows, width]` of f32 and over weights. It knows neither the
//! model it came from nor the device that runs it. [`interpreter`] executes it one scalar at a time and is
//! the reference for every device. [`fuse`] finds ops that a device can run as one; [`step`] is what a device
//! is told of a step.

mod builder;
mod choice;
pub mod fuse;
pub mod interpreter;
pub mod step;
#[cfg(any(test, feature = "gpu"))]
pub mod testing;
pub mod uses;

pub use builder::Builder;
pub use choice::{BIN, BINS, Choice, IN_PROMPT};
pub use step::{Capacity, Chosen, KvFormat, Output, PAGE, Step, Token};

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueId(pub usize);

/// Index into [`Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// What a row of a value stands for.
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
    /// What its rows stand for.
    pub domain: Domain,
    /// Floats in a row.
    pub width: usize,
}

/// Where a weight's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Rows of a tensor of the model file, from `first_row` on. The experts of a three-dimensional tensor
    /// `[n_experts, n_rows, n_cols]` are runs of its `n_experts * n_rows` rows.
    Tensor {
        /// The tensor's name.
        name: String,
        /// The first row that belongs to the weight.
        first_row: usize,
    },
    /// Computed when the graph was built.
    Constant(Vec<f32>),
}

impl Source {
    /// The tensor's name, or a word for a constant: for labels and messages.
    pub fn name(&self) -> &str {
        match self {
            Source::Tensor { name, .. } => name,
            Source::Constant(_) => "constant",
        }
    }
}

/// A matrix `[n_rows, n_cols]` in any weight format, or a vector (`n_rows == 1`, always f32 on the device).
#[derive(Clone, Debug)]
pub struct Weight {
    /// Where its numbers come from.
    pub source: Source,
    /// Whether it is read as a vector.
    pub is_vector: bool,
    /// Outputs of a projection, or words of a vocabulary.
    pub n_rows: usize,
    /// Inputs of a projection.
    pub n_cols: usize,
}

/// Root mean square norm (arXiv 1910.07467): `x / sqrt(mean(x²) + eps) * weight`, over runs of as many floats
/// as the weight has: a whole row, or each head of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// A vector as long as a run.
    pub weight: WeightId,
    /// Added to the mean square.
    pub eps: f32,
}

/// The shape of a rotary embedding (arXiv 2104.09864).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Heads in a row.
    pub n_heads: usize,
    /// Floats of a head.
    pub head_dim: usize,
    /// Leading floats of a head that turn.
    pub n_rot: usize,
    /// Pairs are (i, i + n_rot/2) instead of (2i, 2i+1).
    pub neox: bool,
    /// `n_rot / 2` numbers: turns of a pair for each position.
    pub turns: WeightId,
    /// `n_rot / 2` divisors of the turns.
    pub factors: WeightId,
}

/// The shape of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Floats of a head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// A row sees this many positions, its own included; 0: all.
    pub window: u32,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)` (arXiv 1702.03118).
    Silu,
    /// `x * Φ(x)` by its tanh approximation (arXiv 1606.08415).
    Gelu,
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
    /// Floats of a position's keys, and of its values.
    pub width: usize,
}

/// One operation; its fields are those of the formula. `out` is always a value that no other op writes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    /// `out[t] = weight[token id of t]`.
    Embed { weight: WeightId, out: ValueId },
    /// See [`Norm`].
    Norm { x: ValueId, norm: Norm, out: ValueId },
    /// `out = x · weightᵀ`.
    MatMul { x: ValueId, weight: WeightId, out: ValueId },
    /// `out = x + bias`, for each row.
    Bias { x: ValueId, bias: WeightId, out: ValueId },
    /// Rotary embedding; pair i turns by `position * turns[i] / factors[i]` of a full turn.
    Rope { x: ValueId, rope: Rope, out: ValueId },
    /// Puts the step's keys or values into a cache, as f16.
    KvWrite { x: ValueId, cache: CacheId, half: Half },
    /// Causal attention. With a cache, over what the sequence has there, to which `k` and `v` have been
    /// written; without one, over the step's own rows of the same sequence.
    Attention { q: ValueId, k: ValueId, v: ValueId, cache: Option<CacheId>, shape: Attention, out: ValueId },
    /// `out = f(x)`.
    Activate { x: ValueId, f: Activation, out: ValueId },
    /// `out = f(gate) * up` (arXiv 2002.05202).
    Gated { gate: ValueId, up: ValueId, f: Activation, out: ValueId },
    /// `out = a + b`.
    Add { a: ValueId, b: ValueId, out: ValueId },
    /// `out[o] = x[row of output o]`: from token rows to output rows.
    SelectRows { x: ValueId, out: ValueId },
}

impl Op {
    /// The value that the op writes; none where it writes a cache.
    pub fn out(&self) -> Option<ValueId> {
        match *self {
            Op::Embed { out, .. }
            | Op::Norm { out, .. }
            | Op::MatMul { out, .. }
            | Op::Bias { out, .. }
            | Op::Rope { out, .. }
            | Op::Attention { out, .. }
            | Op::Activate { out, .. }
            | Op::Gated { out, .. }
            | Op::Add { out, .. }
            | Op::SelectRows { out, .. } => Some(out),
            Op::KvWrite { .. } => None,
        }
    }

    /// The values that the op reads. Keys and values that attention finds in a cache are not among them.
    pub fn inputs(&self) -> Vec<ValueId> {
        match *self {
            Op::Embed { .. } => vec![],
            Op::Norm { x, .. }
            | Op::MatMul { x, .. }
            | Op::Bias { x, .. }
            | Op::Rope { x, .. }
            | Op::KvWrite { x, .. }
            | Op::Activate { x, .. }
            | Op::SelectRows { x, .. } => vec![x],
            Op::Attention { q, cache: Some(_), .. } => vec![q],
            Op::Attention { q, k, v, cache: None, .. } => vec![q, k, v],
            Op::Gated { gate, up, .. } => vec![gate, up],
            Op::Add { a, b, .. } => vec![a, b],
        }
    }
}

/// A whole computation. Values that no op writes are inputs, set by whoever runs it (tests do).
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
    /// `[outputs, n_vocab]`; absent in graphs that are no language model.
    pub logits: Option<ValueId>,
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

    /// Tokens of the vocabulary; 0 in graphs that are no language model.
    pub fn n_vocab(&self) -> usize {
        self.logits.map_or(0, |id| self.value(id).width)
    }
}
