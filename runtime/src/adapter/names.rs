//! Where Hugging Face's layout and GGUF differ: names of projections, and rows of queries and keys.

/// Modules of Hugging Face's layout, and their tensors in GGUF.
pub(crate) const MODULES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Modules of several projections.
pub(crate) const JOINED: [(&str, &str); 2] =
    [("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")];

/// Architectures whose GGUF files have the rows of queries and keys in another order than Hugging Face's.
const PERMUTED: [&str; 5] = ["llama", "mistral3", "smollm3", "granite", "minicpm"];

/// Whether GGUF has the rows of this tensor, such as `attn_q`, in another order: see [`gguf_row`].
pub(crate) fn is_permuted(architecture: &str, tensor: &str) -> bool {
    matches!(tensor, "attn_q" | "attn_k") && PERMUTED.contains(&architecture)
}

/// Where a row of Hugging Face's layout is in GGUF's: in each head, the rows of pair i are at 2i and 2i + 1
/// instead of i and i + half.
pub(crate) fn gguf_row(row: usize, head_dim: usize) -> usize {
    let (head, in_head) = (row / head_dim, row % head_dim);
    let (half, pair) = (in_head / (head_dim / 2), in_head % (head_dim / 2));
    head * head_dim + 2 * pair + half
}
