//! The blocks that families share: norms, projections, attention and feed-forward layers, with their tensors'
//! names in GGUF files.

use super::{Config, LayerConfig, Tensors};
use crate::graph::{Activation, Attention, Builder, Graph, Rope, ValueId, WeightId};

/// Long rope's divisors for contexts up to the first that a model was trained for.
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
/// Its divisors for longer contexts.
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

/// A decoder under construction.
pub(super) struct Decoder<'a> {
    pub c: &'a Config,
    pub g: Builder,
    tensors: &'a Tensors<'a>,
    neox: bool,
    /// Divisors of the rotary frequencies.
    factors: WeightId,
}

impl<'a> Decoder<'a> {
    pub fn new(c: &'a Config, tensors: &'a Tensors, neox: bool) -> Self {
        let mut g = Builder::default();
        // Llama 3 and long rope scale frequencies for long contexts by a tensor of divisors.
        let name = if c.positions > c.original_context { LONG_FACTORS } else { SHORT_FACTORS };
        let factors = if tensors.has("rope_freqs.weight") {
            g.vector("rope_freqs.weight", c.n_rot / 2)
        } else if c.is_long_rope || tensors.has(name) {
            g.vector(name, c.n_rot / 2)
        } else {
            g.constant(vec![1.0; c.n_rot / 2])
        };
        Self { c, g, tensors, neox, factors }
    }

    pub fn finish(self) -> Graph {
        self.g.finish()
    }

    /// Token embeddings, `[tokens, n_embd]`.
    pub fn embed(&mut self) -> ValueId {
        let weight = self.g.matrix("token_embd.weight", self.c.n_vocab, self.c.n_embd);
        self.g.embed(weight)
    }

    /// The norm of each row, with the weight `{name}.weight`.
    pub fn norm(&mut self, x: ValueId, name: &str) -> ValueId {
        let weight = self.g.vector(format!("{name}.weight"), self.c.n_embd);
        self.g.rms_norm(x, weight, self.c.norm_eps)
    }

    /// The norm of queries or keys, `[tokens, width]`, where the file has a weight for it. A weight as
    /// long as a row norms whole rows, one as long as a head each head.
    fn norm_of_heads(&mut self, x: ValueId, name: &str, width: usize) -> ValueId {
        let name = format!("{name}.weight");
        let Some(tensor) = self.tensors.get(&name) else { return x };
        let is_of_rows = tensor.shape == [width as u64];
        let weight = self.g.vector(name, if is_of_rows { width } else { self.c.head_dim });
        self.g.rms_norm(x, weight, self.c.norm_eps)
    }

    /// Rotary embedding of queries or keys.
    fn rope(&mut self, x: ValueId, layer: usize, n_heads: usize) -> ValueId {
        let turns = self.g.constant(self.c.rope_turns(layer));
        let magnitude = self.c.layers[layer].rope_scaling.magnitude as f32;
        let Config { head_dim, n_rot, .. } = *self.c;
        let (neox, factors) = (self.neox, self.factors);
        self.g.rope(x, Rope { n_heads, head_dim, n_rot, neox, turns, factors, magnitude })
    }

    /// `x` times `{name}.weight` of `n_rows` rows, plus `{name}.bias` where the file has one.
    pub fn project(&mut self, x: ValueId, name: &str, n_rows: usize, n_cols: usize) -> ValueId {
        let y = self.project_rows(x, name, 0, n_rows, n_cols);
        let bias = format!("{name}.bias");
        if !self.tensors.has(&bias) {
            return y;
        }
        let bias = self.g.vector(bias, n_rows);
        self.g.bias(y, bias)
    }

    /// `x` times `n_rows` rows of `{name}.weight`, from `first_row` on.
    fn project_rows(
        &mut self,
        x: ValueId,
        name: &str,
        first_row: usize,
        n_rows: usize,
        n_cols: usize,
    ) -> ValueId {
        let weight = self.g.rows_of(format!("{name}.weight"), first_row, n_rows, n_cols);
        self.g.matmul(x, weight)
    }

    /// Self-attention of the rows `h`, `[tokens, n_embd]`. Queries, keys and values may be in one tensor.
    pub fn attention(&mut self, h: ValueId, layer: usize) -> ValueId {
        let LayerConfig { n_heads, n_kv_heads, window, .. } = self.c.layers[layer];
        let (head_dim, n_embd) = (self.c.head_dim, self.c.n_embd);
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let [q, k, v] = if self.tensors.has(&name("attn_qkv.weight")) {
            [(0, n_q), (n_q, n_kv), (n_q + n_kv, n_kv)]
                .map(|(first, n)| self.project_rows(h, &name("attn_qkv"), first, n, n_embd))
        } else {
            [("attn_q", n_q), ("attn_k", n_kv), ("attn_v", n_kv)]
                .map(|(part, n)| self.project(h, &name(part), n, n_embd))
        };
        let q = self.norm_of_heads(q, &name("attn_q_norm"), n_q); // [tokens, n_q]
        let k = self.norm_of_heads(k, &name("attn_k_norm"), n_kv); // [tokens, n_kv]
        let (q, k) = (self.rope(q, layer, n_heads), self.rope(k, layer, n_kv_heads));
        let cache = self.g.cache(n_kv, n_kv);
        let shape = Attention { window, ..Attention::new(n_heads, n_kv_heads, head_dim) };
        let a = self.g.attention(q, k, v, cache, shape); // [tokens, n_q]
        self.project(a, &name("attn_output"), n_embd, n_q)
    }

    /// The gated feed-forward layer of the rows `h`, `[tokens, n_embd]` (arXiv 2002.05202). Gate and up may
    /// be in one tensor, the gate first.
    pub fn gated_ffn(&mut self, h: ValueId, layer: usize, f: Activation) -> ValueId {
        let (n_ff, n_embd) = (self.c.layers[layer].n_ff, self.c.n_embd);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let up = self.tensors.get(&name("ffn_up.weight"));
        let is_fused = up.is_some_and(|up| up.shape.first() == Some(&(2 * n_ff as u64)));
        let (gate, up) = if is_fused && !self.tensors.has(&name("ffn_gate.weight")) {
            let mut rows = |first| self.project_rows(h, &name("ffn_up"), first, n_ff, n_embd);
            (rows(0), rows(n_ff))
        } else {
            let mut whole = |part| self.project(h, &name(part), n_ff, n_embd);
            (whole("ffn_gate"), whole("ffn_up"))
        };
        let f = self.g.gated(gate, up, f); // [tokens, n_ff]
        self.project(f, &name("ffn_down"), n_embd, n_ff)
    }

    /// The last norm and the logits, `[outputs, n_vocab]`. Without an output matrix in the file, the
    /// embedding matrix is used.
    pub fn logits(&mut self, x: ValueId) {
        let x = self.g.select_rows(x); // [outputs, n_embd]
        let x = self.norm(x, "output_norm");
        let name = if self.tensors.has("output.weight") { "output" } else { "token_embd" };
        let logits = self.project(x, name, self.c.n_vocab, self.c.n_embd);
        self.g.logits(logits);
    }
}
