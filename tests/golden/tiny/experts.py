"""Tiny models with experts. `make.py` writes them."""

import gguf
from tiny import F16, LONG, MXFP4, Q8_0, Dims, Model

RopeScaling = gguf.RopeScalingType


def with_experts(name: str, architecture: str, seed: int, dims: Dims, formats, n_experts, n_used, **options):
    """A llama with experts, and what else the options name."""
    model = Model(name, architecture, seed, dims, formats)
    model.set("expert_count", n_experts)
    model.set("expert_used_count", n_used)
    for key, value in options.get("settings", {}).items():
        model.set(key, value)
    n_ff, n_shared = options.get("n_ff", dims.n_ff), options.get("n_shared", 0)
    biased, ffn_norm = options.get("biased", False), options.get("ffn_norm", "ffn_norm")
    model.begin(gain=options.get("embedding", 1.0))
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer, biased=biased or options.get("qkv_biased", False))
        for part, n in options.get("norms", {}).items():
            model.norm(f"{layer}.attn_{part}_norm", n, gain=1.3)
        if options.get("sinks", False):
            model.tensor(f"{layer}.attn_sinks.weight", 1 + model.random.standard_normal(dims.n_heads))
        model.attn_output(layer, biased=biased)
        model.norm(f"{layer}.{ffn_norm}", dims.n_embd)
        model.experts(layer, n_experts, n_ff, n_shared, biased=biased)
        if options.get("shared_gate", False):
            values = 2 * model.random.standard_normal(dims.n_embd) / dims.n_embd**0.5
            model.tensor(f"{layer}.ffn_gate_inp_shexp.weight", values)
    model.end(gain=options.get("logits", 4.0))


def mixtral(name: str, seed: int):
    """A llama with experts, whose weights add up to 1."""
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32)
    with_experts(name, "llama", seed, dims, [Q8_0, F16, Q8_0, Q8_0], 4, 2)


def qwen2moe(name: str, seed: int):
    """Experts of another width than the shared one, which has a gate; weights as the softmax gives them."""
    settings = {"expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 64}
    options = {"n_ff": 32, "n_shared": 64, "shared_gate": True, "qkv_biased": True, "settings": settings}
    with_experts(name, "qwen2moe", seed, Dims(n_heads=4, n_ff=96, n_layers=1), [Q8_0, F16], 5, 2, **options)


def qwen3moe(name: str, seed: int):
    """Norms of heads; weights that add up to 1; an odd number of experts for each row."""
    options = {"n_ff": 32, "norms": {"q": 16, "k": 16}, "settings": {"expert_feed_forward_length": 32}}
    with_experts(name, "qwen3moe", seed, LONG, [Q8_0], 6, 3, **options)


def olmoe(name: str, seed: int):
    """Norms of whole rows of queries and keys; weights as the softmax gives them."""
    dims = Dims(n_heads=4, n_kv_heads=4, n_ff=32, n_layers=1)
    with_experts(name, "olmoe", seed, dims, [Q8_0], 8, 3, norms={"q": 32, "k": 32})


def gpt_oss(name: str, seed: int):
    """Sinks, a window in every other layer, YaRN in all, biases everywhere, gates with a limit."""
    settings = {
        "expert_feed_forward_length": 32,
        "sliding_window": 8,
        "rope_freq_base": 150_000.0,
        "rope_scaling_type": RopeScaling.YARN,
        "rope_scaling_factor": 8.0,
        "rope_scaling_orig_ctx_len": 32,
    }
    options = {"biased": True, "sinks": True, "ffn_norm": "post_attention_norm", "settings": settings}
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32, n_layers=2)
    # Embedding; q, k, v, attention's output, and the experts' gate, up and down; output.
    formats = [Q8_0, *[Q8_0, Q8_0, Q8_0, Q8_0, MXFP4, MXFP4, MXFP4] * 2, Q8_0]
    with_experts(name, "gpt-oss", seed, dims, formats, 4, 2, **options)


def granitemoe(name: str, seed: int):
    """Scales as granite's; a shared expert without a gate."""
    settings = {
        "embedding_scale": 12.0,
        "residual_scale": 0.4,
        "attention_scale": 0.2,
        "logit_scale": 8.0,
        "expert_shared_feed_forward_length": 32,
    }
    options = {"n_shared": 32, "embedding": 0.08, "logits": 32.0, "settings": settings}
    with_experts(name, "granitemoe", seed, Dims(n_ff=32, n_layers=1), [Q8_0, F16], 6, 2, **options)
