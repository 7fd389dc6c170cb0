//! The blocks that families share: embedding, norms, projections, attention and feed-forward layers, with
//! their tensors' names in GGUF files.

use super::family::{Family, Ffn, Positions};
use super::{Config, LayerConfig, Tensors};
use crate::graph::{Attention, Builder, Gate, Graph, Norm, Rope, ValueId, WeightId};

/// Long rope's divisors for contexts up to the first that a model was trained for.
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
/// Its divisors for longer contexts.
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

/// A decoder under construction.
pub(super) struct Decoder<'a> {
    pub c: &'a Config,
    pub g: Builder,
    pub family: &'static Family,
    tensors: &'a Tensors<'a>,
}

impl<'a> Decoder<'a> {
    pub fn new(c: &'a Config, tensors: &'a Tensors, family: &'static Family) -> Self {
        Self { c, g: Builder::default(), family, tensors }
    }

    pub fn finish(self) -> Graph {
        self.g.finish()
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(name)
    }

    /// Token embeddings, and those of positions where the family has them, `[tokens, n_embd]`.
    pub fn embed(&mut self) -> ValueId {
        const POSITIONS: &str = "position_embd.weight";
        let weight = self.g.matrix("token_embd.weight", self.c.n_vocab, self.c.n_embd);
        let x = self.g.embed(weight);
        let x = self.scale(x, self.c.traits.embedding_scale);
        let has_positions = match self.family.positions {
            Positions::Learned => true,
            Positions::Alibi => self.has(POSITIONS),
            Positions::Neighbours | Positions::Halves => false,
        };
        if !has_positions {
            return x;
        }
        let weight = self.g.matrix(POSITIONS, self.c.context_length, self.c.n_embd);
        let positions = self.g.embed_position(weight);
        self.g.add(x, positions)
    }

    /// `factor * x`.
    fn scale(&mut self, x: ValueId, factor: f32) -> ValueId {
        if factor == 1.0 { x } else { self.g.scale(x, factor) }
    }

    /// The residual stream `x` and what a layer adds to it.
    pub fn add(&mut self, x: ValueId, y: ValueId) -> ValueId {
        let y = self.scale(y, self.c.traits.residual_scale);
        self.g.add(x, y)
    }

    /// The norm of each row, with the weight `{name}.weight`, and `{name}.bias` where the file has one.
    pub fn norm(&mut self, x: ValueId, name: &str) -> ValueId {
        let n = self.c.n_embd;
        self.norm_of_runs(x, name, n, n)
    }

    /// The norm of runs of `run` floats, whose weight has `n` numbers.
    fn norm_of_runs(&mut self, x: ValueId, name: &str, run: usize, n: usize) -> ValueId {
        let weight = Some(self.g.vector(format!("{name}.weight"), n));
        let bias = format!("{name}.bias");
        let bias = self.has(&bias).then(|| self.g.vector(bias, n));
        self.g.norm(x, Norm { kind: self.family.norm, run, weight, bias, eps: self.c.norm_eps })
    }

    /// The norm of queries or keys, `[tokens, width]`, where the file has a weight for it: a vector for the
    /// whole row, one for every head, or one for each head.
    fn norm_of_heads(&mut self, x: ValueId, name: &str, width: usize) -> ValueId {
        let Some(tensor) = self.tensors.get(&format!("{name}.weight")) else { return x };
        let head_dim = self.c.head_dim;
        if tensor.shape == [width as u64] {
            self.norm_of_runs(x, name, width, width)
        } else if tensor.shape.len() > 1 {
            self.norm_of_runs(x, name, head_dim, width)
        } else {
            self.norm_of_runs(x, name, head_dim, head_dim)
        }
    }

    /// Divisors of the rotary frequencies, `[n_rot / 2]`. Llama 3 and long rope scale frequencies for long
    /// contexts by a tensor.
    fn factors(&mut self) -> WeightId {
        let c = self.c;
        let name = if c.positions > c.original_context { LONG_FACTORS } else { SHORT_FACTORS };
        if self.has("rope_freqs.weight") {
            self.g.vector("rope_freqs.weight", c.n_rot / 2)
        } else if c.is_long_rope || self.has(name) {
            self.g.vector(name, c.n_rot / 2)
        } else {
            self.g.constant(vec![1.0; c.n_rot / 2])
        }
    }

    /// Rotary embedding of queries or keys, in layers that have it.
    fn rope(&mut self, x: ValueId, layer: usize, n_heads: usize) -> ValueId {
        let LayerConfig { has_rope, rope_scaling, .. } = self.c.layers[layer];
        if !has_rope {
            return x;
        }
        let turns = self.g.constant(self.c.rope_turns(layer));
        let factors = self.factors();
        let neox = self.family.positions == Positions::Halves;
        let Config { head_dim, n_rot, .. } = *self.c;
        let magnitude = rope_scaling.magnitude as f32;
        self.g.rope(x, Rope { n_heads, head_dim, n_rot, neox, turns, factors, magnitude })
    }

    /// `x` times `{name}.weight` of `n_rows` rows, plus `{name}.bias` where the file has one.
    pub fn project(&mut self, x: ValueId, name: &str, n_rows: usize, n_cols: usize) -> ValueId {
        self.project_rows(x, name, 0, n_rows, n_cols)
    }

    /// The same with `n_rows` rows of the weight and numbers of the bias, from `first_row` on.
    fn project_rows(
        &mut self,
        x: ValueId,
        name: &str,
        first_row: usize,
        n_rows: usize,
        n_cols: usize,
    ) -> ValueId {
        let weight = self.g.rows_of(format!("{name}.weight"), first_row, n_rows, n_cols);
        let y = self.g.matmul(x, weight);
        let bias = format!("{name}.bias");
        if !self.has(&bias) {
            return y;
        }
        let bias = self.g.part_of_vector(bias, first_row, n_rows);
        self.g.bias(y, bias)
    }

    /// Self-attention of the rows `h`, `[tokens, n_embd]`. Queries, keys and values may be in one tensor.
    pub fn attention(&mut self, h: ValueId, layer: usize) -> ValueId {
        let LayerConfig { n_heads, n_kv_heads, window, .. } = self.c.layers[layer];
        let (head_dim, n_embd, traits) = (self.c.head_dim, self.c.n_embd, self.c.traits);
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let parts = if self.has(&name("attn_qkv.weight")) {
            [(0, n_q), (n_q, n_kv), (n_q + n_kv, n_kv)]
                .map(|(first, n)| self.project_rows(h, &name("attn_qkv"), first, n, n_embd))
        } else {
            [("attn_q", n_q), ("attn_k", n_kv), ("attn_v", n_kv)]
                .map(|(part, n)| self.project(h, &name(part), n, n_embd))
        };
        let [q, k, v] = parts.map(|x| traits.qkv_limit.map_or(x, |limit| self.g.clamp(x, limit)));
        let [q, k] = [("attn_q_norm", q, n_heads), ("attn_k_norm", k, n_kv_heads)].map(|(part, x, n)| {
            if self.family.norms_after_rope {
                let x = self.rope(x, layer, n);
                self.norm_of_heads(x, &name(part), n * head_dim)
            } else {
                let x = self.norm_of_heads(x, &name(part), n * head_dim);
                self.rope(x, layer, n)
            }
        });
        let sinks = name("attn_sinks.weight");
        let sinks = self.has(&sinks).then(|| self.g.vector(sinks, n_heads));
        let cache = self.g.cache(n_kv, n_kv);
        let plain = Attention::new(n_heads, n_kv_heads, head_dim);
        let shape = Attention {
            window,
            scale: traits.score_scale.unwrap_or(plain.scale),
            growth: traits.growth,
            soft_cap: traits.score_cap,
            alibi: traits.alibi,
            sinks,
            ..plain
        };
        let a = self.g.attention(q, k, v, cache, shape); // [tokens, n_q]
        self.project(a, &name("attn_output"), n_embd, n_q)
    }

    /// The feed-forward layer of the rows `h`, `[tokens, n_embd]`, or the experts in its place.
    pub fn ffn(&mut self, h: ValueId, layer: usize) -> ValueId {
        if let Some(experts) = self.c.experts {
            return self.mixture(h, layer, experts);
        }
        let (n_ff, n_embd) = (self.c.layers[layer].n_ff, self.c.n_embd);
        let f = match self.family.ffn {
            Ffn::Gated(f) => self.gated(h, layer, f),
            Ffn::Plain(f) => {
                let up = self.project(h, &format!("blk.{layer}.ffn_up"), n_ff, n_embd);
                self.g.activate(up, f)
            }
        }; // [tokens, n_ff]
        self.project(f, &format!("blk.{layer}.ffn_down"), n_embd, n_ff)
    }

    /// `f(gate(h)) * up(h)`, `[tokens, n_ff]` (arXiv 2002.05202). Gate and up may be in one tensor, the gate
    /// first.
    fn gated(&mut self, h: ValueId, layer: usize, f: Gate) -> ValueId {
        let (n_ff, n_embd) = (self.c.layers[layer].n_ff, self.c.n_embd);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let up = self.tensors.get(&name("ffn_up.weight"));
        let is_fused = up.is_some_and(|up| up.shape.first() == Some(&(2 * n_ff as u64)));
        let (gate, up) = if is_fused && !self.has(&name("ffn_gate.weight")) {
            let mut rows = |first| self.project_rows(h, &name("ffn_up"), first, n_ff, n_embd);
            (rows(0), rows(n_ff))
        } else {
            let mut whole = |part| self.project(h, &name(part), n_ff, n_embd);
            (whole("ffn_gate"), whole("ffn_up"))
        };
        self.g.gated(gate, up, f)
    }

    /// The last norm and the logits, `[outputs, n_vocab]`. Without an output matrix in the file, the
    /// embedding matrix is used.
    pub fn logits(&mut self, x: ValueId) {
        let x = self.g.select_rows(x); // [outputs, n_embd]
        let x = self.norm(x, "output_norm");
        self.g.hidden(x);
        let name = if self.has("output.weight") { "output" } else { "token_embd" };
        let logits = self.project(x, name, self.c.n_vocab, self.c.n_embd);
        let logits = self.scale(logits, self.c.traits.logit_scale);
        let cap = self.c.traits.logit_cap;
        let logits = cap.map_or(logits, |cap| self.g.soft_cap(logits, cap));
        self.g.logits(logits);
    }
}
