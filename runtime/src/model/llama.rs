//! The llama family: pre-norm decoder with RMSNorm, rotary embedding, grouped-query attention and SwiGLU
//! (arXiv 2302.13971, 2307.09288).

use super::blocks::Decoder;
use crate::graph::Activation;

pub(super) fn build(d: &mut Decoder) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let h = d.norm(x, &format!("blk.{layer}.attn_norm"));
        let a = d.attention(h, layer);
        x = d.g.add(x, a);
        let h = d.norm(x, &format!("blk.{layer}.ffn_norm"));
        let f = d.gated_ffn(h, layer, Activation::Silu);
        x = d.g.add(x, f);
    }
    d.logits(x);
}
