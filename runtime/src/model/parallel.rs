//! Families whose attention and feed-forward layer stand side by side: both read the residual stream as it
//! was before the layer.

use super::blocks::Decoder;
use super::llama;

/// GPT-NeoX: each has a norm of its own, unless the file says that one comes after the other
/// (arXiv 2204.06745).
pub(super) fn gptneox(d: &mut Decoder) {
    match d.c.traits.is_parallel {
        true => build(d, "attn_norm", "ffn_norm"),
        false => llama::build(d),
    }
}

/// Phi-2, GPT-J, Command R: both share one norm.
pub(super) fn phi2(d: &mut Decoder) {
    build(d, "attn_norm", "attn_norm");
}

/// Falcon: the larger models norm the rows of attention for themselves (arXiv 2311.16867).
pub(super) fn falcon(d: &mut Decoder) {
    match d.has("blk.0.attn_norm_2.weight") {
        true => build(d, "attn_norm_2", "attn_norm"),
        false => build(d, "attn_norm", "attn_norm"),
    }
}

/// StableLM: side by side in the 12B model, which has one norm per layer, otherwise one after the other
/// (arXiv 2402.17834).
pub(super) fn stablelm(d: &mut Decoder) {
    match d.has("blk.0.ffn_norm.weight") {
        true => llama::build(d),
        false => build(d, "attn_norm", "attn_norm"),
    }
}

/// With the names of the norms before attention and before the feed-forward layer.
fn build(d: &mut Decoder, attn_norm: &str, ffn_norm: &str) {
    let mut x = d.embed(); // [tokens, n_embd]
    for layer in 0..d.c.layers.len() {
        let h = d.norm(x, &format!("blk.{layer}.{attn_norm}"));
        let a = d.attention(h, layer);
        let h = if ffn_norm == attn_norm { h } else { d.norm(x, &format!("blk.{layer}.{ffn_norm}")) };
        let f = d.ffn(h, layer);
        let sum = d.add(x, a);
        x = d.add(sum, f);
    }
    d.logits(x);
}
