"""Writes tiny models with random weights, one for each arithmetic that has a golden file here.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy==2.4.6
    /tmp/venv/bin/python tests/golden/tiny/make.py

The same versions give the same files. `golden.mjs` then computes the golden files; ../README.md describes
both.
"""

from pathlib import Path

import gguf
import numpy as np

N_EMBD, N_HEADS, N_KV_HEADS, HEAD_DIM, N_FF, N_LAYERS = 64, 4, 2, 16, 96, 2
N_Q, N_KV = N_HEADS * HEAD_DIM, N_KV_HEADS * HEAD_DIM

# A SentencePiece vocabulary of characters, without pairs to merge: the tokens of a text are its characters.
CHARACTERS = [
    "▁",
    *"abcdefghijklmnopqrstuvwxyz",
    *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    *"0123456",
]
WORDS = ["<unk>", "<s>", "</s>", "<0x0A>", *CHARACTERS]
TYPES = [
    gguf.TokenType.UNKNOWN,
    gguf.TokenType.CONTROL,
    gguf.TokenType.CONTROL,
    gguf.TokenType.BYTE,
    *[gguf.TokenType.NORMAL] * len(CHARACTERS),
]
assert len(WORDS) == 64

# Chosen so that each token of the answer is likelier than any other by far: see `golden.mjs`.
SEEDS = {"llama": 23, "llama-freqs": 7, "qwen2": 2, "qwen3": 5, "phi3": 2, "olmo2": 41}


class Model:
    """A file under construction."""

    def __init__(self, name: str, architecture: str):
        self.random = np.random.default_rng(SEEDS[name])
        path = Path(__file__).parent / f"{name}.gguf"
        self.file = gguf.GGUFWriter(path, architecture)
        # A name that llama.cpp treats as no family's: for some it changes tokens.
        self.file.add_name("Random weights")
        self.file.add_vocab_size(len(WORDS))
        self.file.add_context_length(256)
        self.file.add_embedding_length(N_EMBD)
        self.file.add_block_count(N_LAYERS)
        self.file.add_feed_forward_length(N_FF)
        self.file.add_head_count(N_HEADS)
        self.file.add_head_count_kv(N_KV_HEADS)
        self.file.add_layer_norm_rms_eps(1e-5)
        self.file.add_tokenizer_model("llama")
        self.file.add_token_list(WORDS)
        self.file.add_token_scores([-float(i) for i in range(len(WORDS))])
        self.file.add_token_types(TYPES)
        self.file.add_unk_token_id(0)
        self.file.add_bos_token_id(1)
        self.file.add_eos_token_id(2)
        self.file.add_add_bos_token(True)
        self.file.add_add_space_prefix(False)

    def tensor(self, name: str, values: np.ndarray):
        self.file.add_tensor(name, values.astype(np.float32))

    def matrix(self, name: str, n_rows: int, n_cols: int, gain: float = 1.0):
        """Its products with normed rows have a standard deviation of `gain`."""
        values = self.random.standard_normal((n_rows, n_cols)) * (gain / n_cols**0.5)
        self.tensor(f"{name}.weight", values)

    def norm(self, name: str, n: int):
        self.tensor(f"{name}.weight", 1 + 0.3 * self.random.standard_normal(n))

    def bias(self, name: str, n: int):
        self.tensor(f"{name}.bias", 0.5 * self.random.standard_normal(n))

    def begin(self):
        self.matrix("token_embd", len(WORDS), N_EMBD, gain=N_EMBD**0.5)

    def end(self):
        self.norm("output_norm", N_EMBD)
        values = 2.5 * self.random.standard_normal((len(WORDS), N_EMBD)) / N_EMBD**0.5
        # Tokens without text are never the likeliest, so answers do not end early.
        values[: -len(CHARACTERS)] = 0
        self.tensor("output.weight", values)
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()

    # Queries and keys of this gain have scores that differ: a token attends to few others, which depend on
    # its position.
    QK_GAIN = 1.5

    def qkv(self, layer: str, is_biased: bool = False):
        for part, n, gain in [("q", N_Q, self.QK_GAIN), ("k", N_KV, self.QK_GAIN), ("v", N_KV, 1.0)]:
            self.matrix(f"{layer}.attn_{part}", n, N_EMBD, gain)
            if is_biased:
                self.bias(f"{layer}.attn_{part}", n)

    def fused_qkv(self, layer: str):
        gains = np.repeat([self.QK_GAIN, self.QK_GAIN, 1.0], [N_Q, N_KV, N_KV])[:, None]
        values = gains * self.random.standard_normal((N_Q + 2 * N_KV, N_EMBD)) / N_EMBD**0.5
        self.tensor(f"{layer}.attn_qkv.weight", values)

    def attn_output(self, layer: str):
        self.matrix(f"{layer}.attn_output", N_EMBD, N_Q, gain=1.5)

    def ffn(self, layer: str, is_fused: bool = False):
        if is_fused:
            self.matrix(f"{layer}.ffn_up", 2 * N_FF, N_EMBD)
        else:
            self.matrix(f"{layer}.ffn_gate", N_FF, N_EMBD)
            self.matrix(f"{layer}.ffn_up", N_FF, N_EMBD)
        self.matrix(f"{layer}.ffn_down", N_EMBD, N_FF, gain=2.0)


def layers():
    return (f"blk.{i}" for i in range(N_LAYERS))


def llama(name: str, factors: np.ndarray | None = None):
    """Rotary pairs of neighbours; `factors` divide their frequencies, as Llama 3's do."""
    model = Model(name, "llama")
    model.file.add_rope_dimension_count(HEAD_DIM)
    model.begin()
    if factors is not None:
        model.tensor("rope_freqs.weight", factors)
    for layer in layers():
        model.norm(f"{layer}.attn_norm", N_EMBD)
        model.qkv(layer)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", N_EMBD)
        model.ffn(layer)
    model.end()


def qwen2():
    """Neox pairs, biases of queries, keys and values."""
    model = Model("qwen2", "qwen2")
    model.file.add_rope_freq_base(1_000_000.0)
    model.begin()
    for layer in layers():
        model.norm(f"{layer}.attn_norm", N_EMBD)
        model.qkv(layer, is_biased=True)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", N_EMBD)
        model.ffn(layer)
    model.end()


def qwen3():
    """Neox pairs, norms of each head of queries and keys."""
    model = Model("qwen3", "qwen3")
    model.file.add_key_length(HEAD_DIM)
    model.file.add_value_length(HEAD_DIM)
    model.begin()
    for layer in layers():
        model.norm(f"{layer}.attn_norm", N_EMBD)
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", HEAD_DIM)
        model.norm(f"{layer}.attn_k_norm", HEAD_DIM)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", N_EMBD)
        model.ffn(layer)
    model.end()


def phi3():
    """Neox pairs of 12 of a head's 16 floats; fused queries, keys and values; fused gate and up."""
    model = Model("phi3", "phi3")
    model.file.add_rope_dimension_count(12)
    model.file.add_sliding_window(0)
    model.begin()
    for layer in layers():
        model.norm(f"{layer}.attn_norm", N_EMBD)
        model.fused_qkv(layer)
        model.attn_output(layer)
        model.norm(f"{layer}.ffn_norm", N_EMBD)
        model.ffn(layer, is_fused=True)
    model.end()


def olmo2():
    """A window of 8 positions in the first layer; norms after attention and feed-forward instead of before,
    and norms of whole rows of queries and keys. As OLMo 3 has them."""
    model = Model("olmo2", "olmo2")
    model.file.add_sliding_window(8)
    model.file.add_sliding_window_pattern([True, False])
    model.begin()
    for layer in layers():
        model.qkv(layer)
        model.norm(f"{layer}.attn_q_norm", N_Q)
        model.norm(f"{layer}.attn_k_norm", N_KV)
        model.attn_output(layer)
        model.norm(f"{layer}.post_attention_norm", N_EMBD)
        model.ffn(layer)
        model.norm(f"{layer}.post_ffw_norm", N_EMBD)
    model.end()


llama("llama")
llama("llama-freqs", factors=np.geomspace(1, 8, HEAD_DIM // 2))
qwen2()
qwen3()
phi3()
olmo2()
