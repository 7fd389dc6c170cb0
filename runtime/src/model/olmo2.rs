//! OLMo 2 and 3, EXAONE 4: norms after attention and feed-forward layers instead of before, and norms of
//! queries and keys (arXiv 2501.00656, 2507.11407).

use super::blocks::Decoder;

pub(super) fn build(d: &mut Decoder) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let a = d.attention(x, layer);
        let a = d.norm(a, &format!("blk.{layer}.post_attention_norm"));
        x = d.add(x, a);
        let f = d.ffn(x, layer);
        let f = d.norm(f, &format!("blk.{layer}.post_ffw_norm"));
        x = d.add(x, f);
    }
    d.logits(x);
}
