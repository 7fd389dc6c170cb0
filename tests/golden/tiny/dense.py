"""Tiny models without experts. `make.py` writes them."""

import gguf
import numpy as np
from tiny import F16, F32, LONG, Q4_K, Q5_0, Q6_K, Q8_0, Dims, Model

RopeScaling = gguf.RopeScalingType


def llama(name: str, seed: int, factors: np.ndarray | None = None):
    """Rotary pairs of neighbours; `factors` divide their frequencies, as Llama 3's do."""
    model = Model(name, "llama", seed, LONG, [F32, F16, Q8_0, F16])
    model.set("rope_dimension_count", LONG.head_dim)
    model.begin()
    if factors is not None:
        model.tensor("rope_freqs.weight", factors)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", LONG.n_embd)
        model.qkv(layer)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", LONG.n_embd)
        model.ffn(layer)
    model.end()


def llama_freqs(name: str, seed: int):
    llama(name, seed, factors=np.geomspace(1, 8, LONG.head_dim // 2))


def qwen2(name: str, seed: int):
    """Neox pairs, biases of queries, keys and values."""
    dims = Dims(n_heads=4)
    model = Model(name, "qwen2", seed, dims, [F16, Q8_0, Q8_0])
    model.set("rope_freq_base", 1_000_000.0)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer, biased=True)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer)
    model.end()


def qwen3(name: str, seed: int):
    """Neox pairs, norms of each head of queries and keys."""
    model = Model(name, "qwen3", seed, LONG, [F16])
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", LONG.n_embd)
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", LONG.head_dim)
        model.norm(f"{layer}.attn_k_norm", LONG.head_dim)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", LONG.n_embd)
        model.ffn(layer)
    model.end()


def phi3(name: str, seed: int):
    """Neox pairs of 12 of a head's 16 floats; fused queries, keys and values; fused gate and up."""
    dims = Dims(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32)
    model = Model(name, "phi3", seed, dims, [Q8_0])
    model.set("rope_dimension_count", 12)
    model.set("sliding_window", 0)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.fused_qkv(layer)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer, fused=True)
    model.end()


def olmo2(name: str, seed: int):
    """A window of 8 positions in the first layer; norms after attention and feed-forward instead of before;
    norms of whole rows of queries and keys. As in OLMo 3."""
    dims = Dims(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32)
    model = Model(name, "olmo2", seed, dims, [Q8_0])
    model.set("sliding_window", 8)
    model.set("sliding_window_pattern", [True, False])
    model.begin()
    for layer in model.layers():
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", dims.n_q)
        model.norm(f"{layer}.attn_k_norm", dims.n_kv)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", dims.n_embd)
        model.ffn(layer)
        model.norm(f"{layer}.post_ffw_norm", dims.n_embd)
    model.end()


def phi3_long(name: str, seed: int):
    """Long rope beyond its first context; heads of 96 floats, of which 72 turn; no output matrix."""
    dims = Dims(n_embd=96, n_heads=1, n_kv_heads=1, head_dim=96, n_ff=32, n_layers=1)
    model = Model(name, "phi3", seed, dims, [Q8_0])
    model.set("rope_dimension_count", 72)
    model.set("rope_scaling_type", RopeScaling.LONGROPE)
    model.set("rope_scaling_orig_ctx_len", 64)
    model.set("rope_scaling_attn_factors", 1.2)
    model.begin(gain=0.3, tied=True)
    model.tensor("rope_factors_long.weight", np.geomspace(1, 16, 36))
    model.tensor("rope_factors_short.weight", np.geomspace(1, 2, 36))
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.fused_qkv(layer)
        model.attn_output(layer, gain=3.0)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer, gain=4.0, fused=True)
    model.end(tied=True)


def gemma(name: str, seed: int):
    """GELU instead of SiLU, a scaled embedding that is also the output; heads of 256 floats."""
    dims = Dims(n_heads=2, n_kv_heads=1, head_dim=256, n_ff=32, n_layers=1)
    model = Model(name, "gemma", seed, dims, [Q8_0])
    model.begin(gain=0.3, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer)
        model.attn_output(layer, gain=3.0)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer, gain=4.0)
    model.end(tied=True)


def gemma2(name: str, seed: int):
    """Norms before and after; soft caps of scores and logits; a window in every other layer."""
    dims = Dims()
    model = Model(name, "gemma2", seed, dims, [F16, Q8_0, F16])
    model.set("sliding_window", 8)
    model.set("attn_logit_softcapping", 2.0)
    model.set("final_logit_softcapping", 6.0)
    model.begin(gain=0.4, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", dims.n_embd, gain=5.0)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer)
        model.norm(f"{layer}.post_ffw_norm", dims.n_embd, gain=5.0)
    model.end(tied=True)


def gemma3(name: str, seed: int):
    """As gemma2, without soft caps, with norms of heads. The layers with windows have a rotary base of their
    own; the others scale positions."""
    dims = Dims(n_layers=3)
    model = Model(name, "gemma3", seed, dims, [Q8_0, F16, Q8_0])
    model.set("sliding_window", 8)
    model.set("sliding_window_pattern", [True, False, True])
    model.set("rope_freq_base", 1_000_000.0)
    model.set("rope_freq_base_swa", 10_000.0)
    model.set("rope_scaling_type", RopeScaling.LINEAR)
    model.set("rope_scaling_factor", 8.0)
    model.begin(gain=0.4, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", dims.head_dim, gain=1.5)
        model.norm(f"{layer}.attn_k_norm", dims.head_dim, gain=1.5)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", dims.n_embd, gain=5.0)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer)
        model.norm(f"{layer}.post_ffw_norm", dims.n_embd, gain=5.0)
    model.end(tied=True)


def gpt2(name: str, seed: int):
    """Learned positions, layer norms and biases everywhere, a feed-forward layer without gate."""
    dims = Dims(n_heads=4, context=128)
    model = Model(name, "gpt2", seed, dims, [Q8_0, F16, Q8_0], rms=False)
    model.begin()
    model.matrix("position_embd", dims.context, dims.n_embd, gain=1.5 * dims.n_embd**0.5)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.fused_qkv(layer, biased=True)
        model.attn_output(layer, biased=True)
        model.norm(f"{layer}.ffn_norm", dims.n_embd, biased=True)
        model.ffn(layer, gated=False, biased=True)
    model.end(norm_biased=True)


def gptneox(name: str, seed: int, parallel: bool = True):
    """Attention and feed-forward layer side by side, each with its norm; a quarter of each head turns."""
    dims = Dims(n_embd=64, n_heads=2, n_kv_heads=2, head_dim=32, n_ff=32)
    model = Model(name, "gptneox", seed, dims, [Q8_0], rms=False)
    model.set("rope_dimension_count", 8)
    model.set("parallel_residual", parallel)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.fused_qkv(layer, biased=True)
        model.attn_output(layer, biased=True)
        model.norm(f"{layer}.ffn_norm", dims.n_embd, biased=True)
        model.ffn(layer, gated=False, biased=True)
    model.end(norm_biased=True)


def gptneox_sequential(name: str, seed: int):
    """One after the other."""
    gptneox(name, seed, parallel=False)


def phi2(name: str, seed: int):
    """Attention and feed-forward layer of the same normed rows; half of each head turns; an output bias."""
    dims = Dims(n_heads=4)
    model = Model(name, "phi2", seed, dims, [F16, Q8_0, Q8_0, F16], rms=False)
    model.set("rope_dimension_count", 4)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.qkv(layer, biased=True)
        model.attn_output(layer, biased=True)
        model.ffn(layer, gated=False, biased=True)
    model.end(biased=True, norm_biased=True)


def falcon(name: str, seed: int, second_norm: bool = False):
    """Attention and feed-forward layer side by side without biases; one head of keys and values."""
    dims = Dims(n_embd=64, n_heads=2, n_kv_heads=1, head_dim=32, n_layers=1)
    model = Model(name, "falcon", seed, dims, [Q8_0, F16], rms=False)
    model.begin(gain=0.3, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        if second_norm:
            model.norm(f"{layer}.attn_norm_2", dims.n_embd, biased=True)
        model.fused_qkv(layer)
        model.attn_output(layer, gain=3.0)
        model.ffn(layer, gain=4.0, gated=False)
    model.end(tied=True, norm_biased=True)


def falcon_40b(name: str, seed: int):
    """Attention has a norm of its own."""
    falcon(name, seed, second_norm=True)


def mpt(name: str, seed: int):
    """ALiBi; queries, keys and values are clamped; norms of whole rows of queries and keys."""
    dims = Dims(n_embd=96, n_heads=6, n_kv_heads=6, head_dim=16, n_ff=32, n_layers=1)
    model = Model(name, "mpt", seed, dims, [Q8_0], rms=False)
    model.set("max_alibi_bias", 8.0)
    model.set("clamp_kqv", 2.0)
    model.begin(gain=0.3, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.fused_qkv(layer)
        model.attn_output(layer, gain=3.0)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer, gain=4.0, gated=False)
    model.end(tied=True)


def starcoder2(name: str, seed: int):
    """Biases everywhere, layer norms, no gate, rotary embedding; no width is a multiple of 8."""
    dims = Dims(n_embd=36, n_heads=6, n_kv_heads=2, head_dim=6, n_ff=50)
    model = Model(name, "starcoder2", seed, dims, [F16, F32], rms=False)
    model.begin(gain=0.4, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.qkv(layer, biased=True)
        model.attn_output(layer, gain=3.0, biased=True)
        model.norm(f"{layer}.ffn_norm", dims.n_embd, biased=True)
        model.ffn(layer, gain=4.0, gated=False, biased=True)
    model.end(tied=True, norm_biased=True)


def stablelm(name: str, seed: int, parallel: bool = False):
    """Layer norms with a gate; biases of queries, keys and values; a quarter of each head turns. With the
    `parallel` layers of the 12B model, each head of queries and keys has a norm with weights of its own."""
    dims = Dims(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32)
    model = Model(name, "stablelm", seed, dims, [Q8_0], rms=False)
    model.set("rope_dimension_count", 4)
    # As converters write it for both.
    model.set("parallel_residual", True)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.qkv(layer, biased=not parallel)
        if parallel:
            model.norm(f"{layer}.attn_q_norm", dims.n_heads, dims.head_dim)
            model.norm(f"{layer}.attn_k_norm", dims.n_kv_heads, dims.head_dim)
        else:
            model.norm(f"{layer}.ffn_norm", dims.n_embd, biased=True)
        model.attn_output(layer)
        model.ffn(layer)
    model.end(norm_biased=True)


def stablelm_12b(name: str, seed: int):
    stablelm(name, seed, parallel=True)


def of_llama(name: str, architecture: str, seed: int, dims: Dims, formats, settings, **options):
    """A model with llama's tensors, and what else its options name."""
    model = Model(name, architecture, seed, dims, formats)
    for key, value in settings.items():
        model.set(key, value)
    tied = options.get("tied", False)
    model.begin(gain=options.get("embedding", 0.4 if tied else 1.0), tied=tied)
    for factors, numbers in options.get("factors", {}).items():
        model.tensor(f"rope_factors_{factors}.weight", numbers)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer, biased=options.get("qkv_biased", False))
        if options.get("head_norms", False):
            model.norm(f"{layer}.attn_q_norm", dims.head_dim, gain=1.3)
            model.norm(f"{layer}.attn_k_norm", dims.head_dim, gain=1.3)
        model.attn_output(layer, biased=options.get("output_biased", False), gain=options.get("gain", 1.5))
        model.norm(f"{layer}.{options.get('ffn_norm', 'ffn_norm')}", dims.n_embd)
        model.ffn(layer, gain=options.get("gain", 1.0) * 2.0)
    model.end(tied=tied, gain=options.get("logits", 2.5))


def llama_mixed(name: str, seed: int):
    """A mixture as Q4_K_M's: queries, keys, values and gates of other types than their neighbours."""
    dims = Dims(n_embd=256, n_heads=4, n_kv_heads=1, head_dim=64, n_ff=256, n_layers=1)
    # Embedding, q, k, v, attention's output, gate, up, down, output.
    formats = [Q6_K, Q4_K, Q4_K, Q6_K, Q4_K, Q4_K, Q5_0, Q6_K, Q8_0]
    of_llama(name, "llama", seed, dims, formats, {})


def smollm3(name: str, seed: int):
    """The fourth layer has no positions."""
    of_llama(name, "smollm3", seed, Dims(n_heads=4, n_ff=32, n_layers=4), [Q8_0, F16, Q8_0], {}, tied=True)


def granite(name: str, seed: int):
    """Scales of embedding, residuals, scores and logits; heads of 80 floats."""
    dims = Dims(n_heads=2, n_kv_heads=2, head_dim=80, n_layers=1)
    settings = {"embedding_scale": 12.0, "residual_scale": 0.22, "attention_scale": 0.2, "logit_scale": 8.0}
    formats = [F16, Q8_0, Q8_0, Q8_0]
    of_llama(name, "granite", seed, dims, formats, settings, embedding=0.08, gain=5.0, logits=20.0)


def minicpm(name: str, seed: int):
    """Scales as granite's, with defaults; long rope within its first context."""
    settings = {
        "residual_scale": 0.7,
        "logit_scale": 8.0,
        "rope_scaling_type": RopeScaling.LONGROPE,
        "rope_scaling_orig_ctx_len": 256,
        "rope_scaling_attn_factors": 1.3,
    }
    factors = {"long": np.geomspace(1, 16, 4), "short": np.geomspace(1, 3, 4)}
    options = {"embedding": 0.08, "factors": factors, "logits": 20.0}
    of_llama(name, "minicpm", seed, Dims(), [Q8_0, F16], settings, **options)


def ernie4_5(name: str, seed: int):
    """A llama with another name."""
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16)
    of_llama(name, "ernie4_5", seed, dims, [F16, Q8_0, Q8_0], {"rope_freq_base": 500_000.0}, tied=True)


def hunyuan_dense(name: str, seed: int):
    """Norms of heads come after the rotary embedding."""
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16)
    of_llama(name, "hunyuan-dense", seed, dims, [Q8_0, F16, F16], {}, head_norms=True, logits=4.0)


def seed_oss(name: str, seed: int):
    """Biases of queries, keys and values; another name of the second norm."""
    dims = Dims(n_heads=2, n_kv_heads=2, head_dim=48)
    options = {"qkv_biased": True, "ffn_norm": "post_attention_norm"}
    of_llama(name, "seed_oss", seed, dims, [Q8_0], {}, **options)


def mistral3(name: str, seed: int):
    """YaRN whose factor on queries and keys is cancelled; queries that grow with their position."""
    settings = {
        "rope_scaling_type": RopeScaling.YARN,
        "rope_scaling_factor": 4.0,
        "rope_scaling_orig_ctx_len": 16,
        "rope_scaling_yarn_log_mul": 1.0,
        "attn_temperature_scale": 0.4,
    }
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16)
    of_llama(name, "mistral3", seed, dims, [F16, Q8_0], settings)


def qwen3_yarn(name: str, seed: int):
    """YaRN, with its factor on queries and keys."""
    settings = {
        "rope_scaling_type": RopeScaling.YARN,
        "rope_scaling_factor": 4.0,
        "rope_scaling_orig_ctx_len": 64,
    }
    dims = Dims(n_heads=4, n_kv_heads=2, head_dim=16)
    of_llama(name, "qwen3", seed, dims, [Q8_0], settings, head_norms=True)


def glm4(name: str, seed: int):
    """Norms before and after; neighbours of half of each head turn; fused gate and up."""
    dims = Dims(n_heads=2, n_kv_heads=1, head_dim=96, n_layers=1)
    model = Model(name, "glm4", seed, dims, [Q8_0, F16, Q8_0])
    model.set("rope_dimension_count", 48)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer, biased=True)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", dims.n_embd)
        model.norm(f"{layer}.ffn_norm", dims.n_embd)
        model.ffn(layer, fused=True)
        model.norm(f"{layer}.post_ffw_norm", dims.n_embd)
    model.end()


def exaone4(name: str, seed: int):
    """Norms after attention and feed-forward layer, and of heads; divisors of the frequencies."""
    dims = Dims(n_heads=4)
    model = Model(name, "exaone4", seed, dims, [Q8_0, F16, Q8_0])
    model.begin(gain=0.4, tied=True)
    model.tensor("rope_freqs.weight", np.geomspace(1, 8, dims.head_dim // 2))
    for layer in model.layers():
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", dims.head_dim, gain=1.3)
        model.norm(f"{layer}.attn_k_norm", dims.head_dim, gain=1.3)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", dims.n_embd, gain=2.0)
        model.ffn(layer)
        model.norm(f"{layer}.post_ffw_norm", dims.n_embd, gain=2.0)
    model.end(tied=True)


def command_r(name: str, seed: int):
    """Attention and a gated feed-forward layer of the same normed rows; norms without bias; scaled logits."""
    dims = Dims(n_heads=4)
    model = Model(name, "command-r", seed, dims, [Q8_0, F16], rms=False)
    model.set("logit_scale", 0.5)
    model.set("rope_freq_base", 8_000_000.0)
    model.begin(gain=0.8, tied=True)
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd)
        model.qkv(layer)
        model.attn_output(layer, gain=3.0)
        model.ffn(layer, gain=4.0)
    model.end(tied=True)


def gptj(name: str, seed: int):
    """As phi2, with neighbours of half of each head, and biases of the feed-forward layer and the output
    only. llama.cpp has no such family: `gptj.py` computes the golden file."""
    dims = Dims(n_embd=64, n_heads=4, n_kv_heads=4, head_dim=16, n_ff=32)
    model = Model(name, "gptj", seed, dims, [Q8_0], rms=False)
    model.set("rope_dimension_count", 8)
    model.begin()
    for layer in model.layers():
        model.norm(f"{layer}.attn_norm", dims.n_embd, biased=True)
        model.qkv(layer)
        model.attn_output(layer)
        model.ffn(layer, gated=False, biased=True)
    model.end(biased=True, norm_biased=True)
