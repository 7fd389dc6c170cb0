//! The computation of a model as plain data: what a step does to its rows, on any device.
//!
//! A graph is a list of [`Op`]s over values `[rows, width]` of f32 and over weights. It knows neither the model it came from nor
//! the device that runs it. [`interpreter`] executes it one scalar at a time and is the reference for every device.

mod builder;
mod choice;
pub mod interpreter;

pub use builder::Builder;
pub use choice::{BIN, BINS, Choice, IN_PROMPT};

/// Positions of a page of the KV pool.
pub const PAGE: u32 = 32;

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueId(pub usize);

/// Index into [`Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// Which rows of the step a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One a token.
    Tokens,
    /// One a row for which logits are wanted.
    Outputs,
}

/// An intermediate result, `[rows, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// Which rows.
    pub rows: Rows,
    /// Floats of a row.
    pub width: usize,
}

/// Where a weight's numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A tensor of the model file.
    Tensor(String),
    /// Computed when the graph was built.
    Constant(Vec<f32>),
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

/// Rotary embedding's shape.
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
}

/// Attention's shape.
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

/// One operation, its fields being those of the formula. `out` is always a value that no other op writes.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    /// `out[t] = weight[token id of t]`.
    Embed { weight: WeightId, out: ValueId },
    /// `out = x / sqrt(mean(x²) + eps) * weight`, by row.
    RmsNorm { x: ValueId, weight: WeightId, eps: f32, out: ValueId },
    /// `out = x · weightᵀ`.
    MatMul { x: ValueId, weight: WeightId, out: ValueId },
    /// Rotary embedding; pair i turns by `position * turns[i] / factors[i]` of a full turn.
    Rope { x: ValueId, turns: WeightId, factors: WeightId, rope: Rope, out: ValueId },
    /// Puts the step's keys and values into the KV pool of a layer, as f16.
    KvWrite { k: ValueId, v: ValueId, layer: usize },
    /// Causal attention over the KV pool of a layer.
    Attention { q: ValueId, layer: usize, attention: Attention, out: ValueId },
    /// `out = gate * sigmoid(gate) * up`.
    SwiGlu { gate: ValueId, up: ValueId, out: ValueId },
    /// `out = a + b`.
    Add { a: ValueId, b: ValueId, out: ValueId },
    /// `out[o] = x[row of output o]`: from token rows to output rows.
    SelectRows { x: ValueId, out: ValueId },
    /// `out[o]` = (argmax as bits, its logit, ln Σ exp(logit − that), the target's logit).
    Argmax { logits: ValueId, out: ValueId },
}

impl Op {
    /// The value that the op writes; none where it writes the KV pool.
    pub fn out(&self) -> Option<ValueId> {
        match *self {
            Op::Embed { out, .. }
            | Op::RmsNorm { out, .. }
            | Op::MatMul { out, .. }
            | Op::Rope { out, .. }
            | Op::Attention { out, .. }
            | Op::SwiGlu { out, .. }
            | Op::Add { out, .. }
            | Op::SelectRows { out, .. }
            | Op::Argmax { out, .. } => Some(out),
            Op::KvWrite { .. } => None,
        }
    }

    /// The values that the op reads.
    pub fn inputs(&self) -> Vec<ValueId> {
        match *self {
            Op::Embed { .. } => vec![],
            Op::RmsNorm { x, .. } | Op::MatMul { x, .. } | Op::Rope { x, .. } | Op::SelectRows { x, .. } => {
                vec![x]
            }
            Op::Attention { q, .. } => vec![q],
            Op::KvWrite { k, v, .. } => vec![k, v],
            Op::SwiGlu { gate, up, .. } => vec![gate, up],
            Op::Add { a, b, .. } => vec![a, b],
            Op::Argmax { logits, .. } => vec![logits],
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
    /// Floats of a key (and of a value) per position, for each layer of the KV pool.
    pub kv_widths: Vec<usize>,
    /// `[outputs, n_vocab]`; absent in graphs that are no language model.
    pub logits: Option<ValueId>,
    /// What [`Op::Argmax`] made of the logits.
    pub argmax: Option<ValueId>,
}

impl Graph {
    /// Bytes of KV pool per position, keys and values of all layers.
    pub fn kv_bytes_per_cell(&self) -> u64 {
        self.kv_widths.iter().map(|&width| 4 * width as u64).sum()
    }
}

/// How much a plan can hold. Steps may use less, and pay for what they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of a step.
    pub tokens: u32,
    /// Rows of a step with logits.
    pub outputs: u32,
    /// Sequences in the page table.
    pub sequences: u32,
    /// Pages of a sequence.
    pub max_pages: u32,
    /// Pages of the KV pool.
    pub pages: u32,
}

impl Capacity {
    /// Positions that the KV pool holds.
    pub fn cells(&self) -> u32 {
        self.pages * PAGE
    }

    /// How many rows a value of this kind can have.
    pub fn rows(&self, rows: Rows) -> u32 {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Outputs => self.outputs,
        }
    }
}

/// One row of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Token {
    /// Vocabulary index.
    pub id: u32,
    /// Place in its sequence.
    pub position: u32,
    /// Row of the page table.
    pub sequence: u32,
    /// Where its keys and values go in the KV pool.
    pub cell: u32,
}

/// A row of a step whose logits are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Output {
    /// Row of the step.
    pub row: u32,
    /// The token whose logit is reported along with the likeliest.
    pub target: u32,
}

/// One execution of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The rows.
    pub tokens: &'a [Token],
    /// Of them, those with logits.
    pub outputs: &'a [Output],
    /// `[sequences, max_pages]`: page p of sequence s is pool page `pages[s * max_pages + p]`.
    pub pages: &'a [u32],
    /// Row length of the page table.
    pub max_pages: u32,
}

/// What of a step's results its caller needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// The likeliest token of each output row.
    Best,
    /// That, and all logits of the step's only output row.
    Logits,
    /// A token chosen so for the step's only output row, in place of the likeliest.
    Choice(Choice),
}

/// Where a step's token ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// From the step's description.
    Host,
    /// The step's only token is the one that the step before chose.
    Previous,
}

/// What [`Op::Argmax`] says of an output row.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Best {
    /// The likeliest token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
    /// ln Σ exp(logit − that).
    pub log_sum: f32,
    /// Logit of the target.
    pub target_logit: f32,
}

impl Best {
    /// Natural-log probability of the target.
    pub fn target_logprob(&self) -> f32 {
        self.target_logit - self.logit - self.log_sum
    }
}
