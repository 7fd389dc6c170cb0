//! The llama family: a norm before attention and one before the feed-forward layer (arXiv 2302.13971,
//! 2307.09288). Families that differ in norms, positions or feed-forward layer are rows of the table.

use super::blocks::Decoder;

pub(super) fn build(d: &mut Decoder) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let h = d.norm(x, &format!("blk.{layer}.attn_norm"));
        let a = d.attention(h, layer);
        x = d.add(x, a);
        let h = d.norm(x, &format!("blk.{layer}.{}", d.family.ffn_norm));
        let f = d.ffn(h, layer);
        x = d.add(x, f);
    }
    d.logits(x);
}
