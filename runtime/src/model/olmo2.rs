//! OLMo 2 and 3: norms after attention and feed-forward layers instead of before, and norms of queries and
//! keys (arXiv 2501.00656).

use super::blocks::Decoder;
use crate::graph::Activation;

pub(super) fn build(d: &mut Decoder) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let a = d.attention(x, layer);
        let a = d.norm(a, &format!("blk.{layer}.post_attention_norm"));
        x = d.g.add(x, a);
        let f = d.gated_ffn(x, layer, Activation::Silu);
        let f = d.norm(f, &format!("blk.{layer}.post_ffw_norm"));
        x = d.g.add(x, f);
    }
    d.logits(x);
}
