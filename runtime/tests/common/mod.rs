//! What several programs of tests use.

use nomoat_runtime::gguf::{TensorType, Writer};

/// A llama model of one layer and 32 numbers a token, without a tokenizer; and how many numbers each of its
/// tensors has.
pub fn one_layer(n_vocab: u64, n_heads: u32, context_length: u32) -> (Writer, Vec<u64>) {
    let writer = Writer::new()
        .metadata("general.architecture", "llama")
        .metadata("llama.context_length", context_length)
        .metadata("llama.embedding_length", 32_u32)
        .metadata("llama.block_count", 1_u32)
        .metadata("llama.feed_forward_length", 64_u32)
        .metadata("llama.attention.head_count", n_heads)
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd", &[n_vocab, 32]),
        ("blk.0.attn_norm", &[32]),
        ("blk.0.attn_q", &[32, 32]),
        ("blk.0.attn_k", &[32, 32]),
        ("blk.0.attn_v", &[32, 32]),
        ("blk.0.attn_output", &[32, 32]),
        ("blk.0.ffn_norm", &[32]),
        ("blk.0.ffn_gate", &[64, 32]),
        ("blk.0.ffn_up", &[64, 32]),
        ("blk.0.ffn_down", &[32, 64]),
        ("output_norm", &[32]),
    ];
    let writer = tensors.iter().fold(writer, |writer, (name, shape)| {
        writer.tensor(format!("{name}.weight"), shape, TensorType::F32)
    });
    (writer, tensors.iter().map(|(_, shape)| shape.iter().product()).collect())
}
