//! The llama family: pre-norm decoder, RMSNorm, rotary embedding, grouped-query attention, SwiGLU (arXiv 2302.13971, 2307.09288).

use super::{Config, Tensors};
use crate::graph::{Attention, Builder, Graph, Rope};

pub(super) fn build(c: &Config, tensors: &Tensors) -> Graph {
    let mut g = Builder::default();
    let (n_q, n_kv) = (c.n_heads * c.head_dim, c.kv_width());
    let turns = g.constant(c.rope_turns());
    // Llama 3's scaling for long contexts comes as a tensor of divisors.
    let factors = match tensors.has("rope_freqs.weight") {
        true => g.vector("rope_freqs.weight", c.n_rot / 2),
        false => g.constant(vec![1.0; c.n_rot / 2]),
    };
    let rope = |n_heads| Rope { n_heads, head_dim: c.head_dim, n_rot: c.n_rot, neox: false };
    let attention = Attention {
        n_heads: c.n_heads,
        n_kv_heads: c.n_kv_heads,
        head_dim: c.head_dim,
        scale: 1.0 / (c.head_dim as f32).sqrt(),
        window: 0,
    };

    let embedding = g.matrix("token_embd.weight", c.n_vocab, c.n_embd);
    let mut x = g.embed(embedding); // [tokens, n_embd]
    for layer in 0..c.n_layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let kv = g.kv_layer(n_kv);

        let weight = g.vector(name("attn_norm"), c.n_embd);
        let h = g.rms_norm(x, weight, c.norm_eps);
        let (wq, wk) = (g.matrix(name("attn_q"), n_q, c.n_embd), g.matrix(name("attn_k"), n_kv, c.n_embd));
        let (wv, wo) =
            (g.matrix(name("attn_v"), n_kv, c.n_embd), g.matrix(name("attn_output"), c.n_embd, n_q));
        let (q, k, v) = (g.matmul(h, wq), g.matmul(h, wk), g.matmul(h, wv)); // [tokens, n_q | n_kv | n_kv]
        let (q, k) =
            (g.rope(q, turns, factors, rope(c.n_heads)), g.rope(k, turns, factors, rope(c.n_kv_heads)));
        g.kv_write(k, v, kv);
        let a = g.attention(q, kv, attention); // [tokens, n_q]
        let a = g.matmul(a, wo);
        x = g.add(x, a);

        let weight = g.vector(name("ffn_norm"), c.n_embd);
        let h = g.rms_norm(x, weight, c.norm_eps);
        let (wg, wu) =
            (g.matrix(name("ffn_gate"), c.n_ff, c.n_embd), g.matrix(name("ffn_up"), c.n_ff, c.n_embd));
        let wd = g.matrix(name("ffn_down"), c.n_embd, c.n_ff);
        let (gate, up) = (g.matmul(h, wg), g.matmul(h, wu)); // [tokens, n_ff]
        let f = g.swiglu(gate, up);
        let f = g.matmul(f, wd);
        x = g.add(x, f);
    }
    let x = g.select_rows(x); // [outputs, n_embd]
    let weight = g.vector("output_norm.weight", c.n_embd);
    let x = g.rms_norm(x, weight, c.norm_eps);
    let output = match tensors.has("output.weight") {
        true => g.matrix("output.weight", c.n_vocab, c.n_embd),
        false => embedding,
    };
    let logits = g.matmul(x, output); // [outputs, n_vocab]
    let argmax = g.argmax(logits);
    g.results(logits, argmax);
    g.finish()
}
