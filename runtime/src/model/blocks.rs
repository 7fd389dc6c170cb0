//! The blocks that families share: norms, projections, attention and feed-forward layers, with their tensors'
//! names in GGUF files.

use super::{Config, LayerConfig, Tensors};
use crate::graph::{Activation, Attention, Builder, Graph, Rope, ValueId};

/// A decoder under construction.
pub(super) struct Decoder<'a> {
    pub c: &'a Config,
    pub g: Builder,
    tensors: &'a Tensors<'a>,
    /// The rotary embedding, with one head; layers set the number of heads.
    rope: Rope,
}

impl<'a> Decoder<'a> {
    pub fn new(c: &'a Config, tensors: &'a Tensors, neox: bool) -> Self {
        let mut g = Builder::default();
        let turns = g.constant(c.rope_turns());
        // Llama 3 scales frequencies for long contexts by a tensor of divisors.
        let factors = match tensors.has("rope_freqs.weight") {
            true => g.vector("rope_freqs.weight", c.n_rot / 2),
            false => g.constant(vec![1.0; c.n_rot / 2]),
        };
        let rope = Rope { n_heads: 1, head_dim: c.head_dim, n_rot: c.n_rot, neox, turns, factors };
        Self { c, g, tensors, rope }
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

    /// The norm of each head, if the file has a weight for it.
    fn head_norm(&mut self, x: ValueId, name: &str) -> ValueId {
        let name = format!("{name}.weight");
        if !self.tensors.has(&name) {
            return x;
        }
        let weight = self.g.vector(name, self.c.head_dim);
        self.g.rms_norm(x, weight, self.c.norm_eps)
    }

    /// `x` times `{name}.weight`, `[n_rows, n_cols]`, plus `{name}.bias` if the file has one.
    pub fn project(&mut self, x: ValueId, name: &str, n_rows: usize, n_cols: usize) -> ValueId {
        let weight = self.g.matrix(format!("{name}.weight"), n_rows, n_cols);
        let y = self.g.matmul(x, weight);
        let bias = format!("{name}.bias");
        if !self.tensors.has(&bias) {
            return y;
        }
        let bias = self.g.vector(bias, n_rows);
        self.g.bias(y, bias)
    }

    /// Self-attention of the normalised rows `h`, `[tokens, n_embd]`.
    pub fn attention(&mut self, h: ValueId, layer: usize) -> ValueId {
        let LayerConfig { n_heads, n_kv_heads, window, .. } = self.c.layers[layer];
        let (head_dim, n_embd) = (self.c.head_dim, self.c.n_embd);
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let q = self.project(h, &name("attn_q"), n_q, n_embd); // [tokens, n_q]
        let k = self.project(h, &name("attn_k"), n_kv, n_embd); // [tokens, n_kv]
        let v = self.project(h, &name("attn_v"), n_kv, n_embd);
        let (q, k) = (self.head_norm(q, &name("attn_q_norm")), self.head_norm(k, &name("attn_k_norm")));
        let q = self.g.rope(q, Rope { n_heads, ..self.rope });
        let k = self.g.rope(k, Rope { n_heads: n_kv_heads, ..self.rope });
        let cache = self.g.cache(n_kv);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = Attention { n_heads, n_kv_heads, head_dim, scale, window };
        let a = self.g.attention(q, k, v, cache, shape); // [tokens, n_q]
        self.project(a, &name("attn_output"), n_embd, n_q)
    }

    /// The gated feed-forward layer of the normalised rows `h`, `[tokens, n_embd]` (arXiv 2002.05202).
    pub fn gated_ffn(&mut self, h: ValueId, layer: usize, f: Activation) -> ValueId {
        let (n_ff, n_embd) = (self.c.layers[layer].n_ff, self.c.n_embd);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let gate = self.project(h, &name("ffn_gate"), n_ff, n_embd); // [tokens, n_ff]
        let up = self.project(h, &name("ffn_up"), n_ff, n_embd);
        let f = self.g.gated(gate, up, f);
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
