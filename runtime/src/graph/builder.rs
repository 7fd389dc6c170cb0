//! Puts graphs together: one method an op, which makes the op's output value.

use super::*;

/// A graph under construction. Shapes are the caller's duty; [`crate::model`] checks them against the file's tensors.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// A value that no op writes: an input.
    pub fn value(&mut self, rows: Rows, width: usize) -> ValueId {
        self.graph.values.push(Value { rows, width });
        ValueId(self.graph.values.len() - 1)
    }

    /// A matrix tensor `[n_rows, n_cols]`; naming a tensor again gives the same weight (tied embeddings).
    pub fn matrix(&mut self, tensor: impl Into<String>, n_rows: usize, n_cols: usize) -> WeightId {
        self.weight(Weight { source: Source::Tensor(tensor.into()), is_vector: false, n_rows, n_cols })
    }

    /// A vector tensor `[n]`.
    pub fn vector(&mut self, tensor: impl Into<String>, n: usize) -> WeightId {
        self.weight(Weight { source: Source::Tensor(tensor.into()), is_vector: true, n_rows: 1, n_cols: n })
    }

    /// A vector of computed numbers; the same numbers give the same weight.
    pub fn constant(&mut self, numbers: Vec<f32>) -> WeightId {
        let n_cols = numbers.len();
        self.weight(Weight { source: Source::Constant(numbers), is_vector: true, n_rows: 1, n_cols })
    }

    fn weight(&mut self, weight: Weight) -> WeightId {
        let known = self.graph.weights.iter().position(|w| w.source == weight.source);
        WeightId(known.unwrap_or_else(|| {
            self.graph.weights.push(weight);
            self.graph.weights.len() - 1
        }))
    }

    /// A layer of the KV pool with keys and values of `width` floats; returns its number.
    pub fn kv_layer(&mut self, width: usize) -> usize {
        self.graph.kv_widths.push(width);
        self.graph.kv_widths.len() - 1
    }

    fn like(&mut self, x: ValueId) -> ValueId {
        let Value { rows, width } = self.graph.values[x.0];
        self.value(rows, width)
    }

    /// Embedding lookup, `[tokens, n_embd]`.
    pub fn embed(&mut self, weight: WeightId) -> ValueId {
        let out = self.value(Rows::Tokens, self.graph.weights[weight.0].n_cols);
        self.graph.ops.push(Op::Embed { weight, out });
        out
    }

    /// RMSNorm by row.
    pub fn rms_norm(&mut self, x: ValueId, weight: WeightId, eps: f32) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::RmsNorm { x, weight, eps, out });
        out
    }

    /// `x · weightᵀ`, `[rows of x, n_rows of weight]`.
    pub fn matmul(&mut self, x: ValueId, weight: WeightId) -> ValueId {
        let out = self.value(self.graph.values[x.0].rows, self.graph.weights[weight.0].n_rows);
        self.graph.ops.push(Op::MatMul { x, weight, out });
        out
    }

    /// Rotary embedding; `turns` and `factors` have `n_rot / 2` numbers.
    pub fn rope(&mut self, x: ValueId, turns: WeightId, factors: WeightId, rope: Rope) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::Rope { x, turns, factors, rope, out });
        out
    }

    /// Stores keys and values.
    pub fn kv_write(&mut self, k: ValueId, v: ValueId, layer: usize) {
        self.graph.ops.push(Op::KvWrite { k, v, layer });
    }

    /// Attention of `q` over a KV layer.
    pub fn attention(&mut self, q: ValueId, layer: usize, attention: Attention) -> ValueId {
        let out = self.like(q);
        self.graph.ops.push(Op::Attention { q, layer, attention, out });
        out
    }

    /// SwiGLU.
    pub fn swiglu(&mut self, gate: ValueId, up: ValueId) -> ValueId {
        let out = self.like(gate);
        self.graph.ops.push(Op::SwiGlu { gate, up, out });
        out
    }

    /// Sum.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let out = self.like(a);
        self.graph.ops.push(Op::Add { a, b, out });
        out
    }

    /// The rows of `x` that have outputs.
    pub fn select_rows(&mut self, x: ValueId) -> ValueId {
        let out = self.value(Rows::Outputs, self.graph.values[x.0].width);
        self.graph.ops.push(Op::SelectRows { x, out });
        out
    }

    /// Argmax and log-probability parts, `[outputs, 4]`.
    pub fn argmax(&mut self, logits: ValueId) -> ValueId {
        let out = self.value(Rows::Outputs, 4);
        self.graph.ops.push(Op::Argmax { logits, out });
        out
    }

    /// Names the results of a language model.
    pub fn results(&mut self, logits: ValueId, argmax: ValueId) {
        self.graph.logits = Some(logits);
        self.graph.argmax = Some(argmax);
    }
}
