//! The computation of a model as plain data: what a step does to its rows, on any device.
//!
//! A graph is a list of [`Op`]s on weights and on values `[rows, width]` of f32. It knows neither the model
//! that it came from nor the device that runs it. [`interpreter`] executes it one scalar at a time and is the
//! reference for every device. [`fuse`] finds ops that a device can run together; [`step`] is the input and
//! output of one step.

mod builder;
mod choice;
pub mod fuse;
pub mod interpreter;
pub mod step;
#[cfg(any(test, feature = "gpu"))]
pub mod testing;
pub mod uses;

pub use builder::Builder;
pub use choice::{BIN, BINS, Choice, IN_PROMPT, allows};
pub use step::{Capacity, Chosen, KvFormat, Output, PAGE, Step, Token};

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
    /// has `n_experts * n_rows` rows; each expert is `n_rows` of them.
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
    /// A name for labels and messages: the tensor's, or "constant".
    pub fn name(&self) -> &str {
        match self {
            Source::Tensor { name, .. } => name,
            Source::Constant(_) => "constant",
        }
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
}

/// Root mean square norm (arXiv 1910.07467): `x / sqrt(mean(x²) + eps) * weight`. It applies to runs of as
/// many floats as the weight has: to whole rows, or to each head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// A vector, as long as a run.
    pub weight: WeightId,
    /// Added to the mean square.
    pub eps: f32,
}

/// The shape of a rotary embedding (arXiv 2104.09864).
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
}

/// The shape of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Floats per head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// Positions that a row attends to, its own included; 0: all.
    pub window: u32,
}

/// An activation function.
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
    /// Floats of the keys of one position, and of its values.
    pub width: usize,
}

/// One operation. The fields are those of its formula. No two ops write the same value.
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
    /// Rotary embedding: pair i is rotated by `position * turns[i] / factors[i]` full turns.
    Rope { x: ValueId, rope: Rope, out: ValueId },
    /// Writes the step's keys or values to a cache, as f16.
    KvWrite { x: ValueId, cache: CacheId, half: Half },
    /// Causal attention. With a cache, over the sequence's keys and values there; `k` and `v` are written to
    /// it before. Without a cache, over the step's rows of the same sequence.
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
    /// The value that the op writes; none if it writes to a cache.
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
            | Op::Activate { x, .. }
            | Op::SelectRows { x, .. } => vec![x],
            Op::Attention { q, cache: Some(_), .. } => vec![q],
            Op::Attention { q, k, v, cache: None, .. } => vec![q, k, v],
            Op::Gated { gate, up, .. } => vec![gate, up],
            Op::Add { a, b, .. } => vec![a, b],
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

    /// Tokens of the vocabulary; 0 if the graph is not a language model.
    pub fn n_vocab(&self) -> usize {
        self.logits.map_or(0, |id| self.value(id).width)
    }
}
