//! Gemma 2 and 3, GLM-4: norms before and after attention and feed-forward layers (arXiv 2408.00118,
//! 2503.19786, 2406.12793).

use super::blocks::Decoder;

pub(super) fn build(d: &mut Decoder) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let h = d.norm(x, &format!("blk.{layer}.attn_norm"));
        let a = d.attention(h, layer);
        let a = d.norm(a, &format!("blk.{layer}.post_attention_norm"));
        x = d.add(x, a);
        let h = d.norm(x, &format!("blk.{layer}.ffn_norm"));
        let f = d.ffn(h, layer);
        let f = d.norm(f, &format!("blk.{layer}.post_ffw_norm"));
        x = d.add(x, f);
    }
    d.logits(x);
}
