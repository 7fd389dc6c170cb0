"""The parts of a tiny model with random weights. `make.py` puts them together."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

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

FOLDER = Path(__file__).parent
# The same models with all numbers in F32, for `golden.mjs`.
F32_FOLDER = FOLDER / "../../../target/golden-f32"

NAMES = ["F32", "F16", "Q8_0", "Q5_0", "Q4_K", "Q6_K", "MXFP4"]
F32, F16, Q8_0, Q5_0, Q4_K, Q6_K, MXFP4 = (gguf.GGMLQuantizationType[name] for name in NAMES)


@dataclass
class Dims:
    """Dimensions of a model."""

    n_embd: int = 32
    n_heads: int = 8
    n_kv_heads: int = 4
    head_dim: int = 8
    n_ff: int = 64
    n_layers: int = 2
    context: int = 256

    @property
    def n_q(self):
        return self.n_heads * self.head_dim

    @property
    def n_kv(self):
        return self.n_kv_heads * self.head_dim


# Heads that are longer than a row divided by their number.
LONG = Dims(n_heads=4, n_kv_heads=2, head_dim=16, n_ff=32)


class Model:
    """A file under construction. Its matrices have the given formats in turn."""

    def __init__(self, name: str, architecture: str, seed: int, dims: Dims, formats: list, rms: bool = True):
        self.random = np.random.default_rng(seed)
        self.dims = dims
        self.formats = formats
        self.n_matrices = 0
        self.files = [
            self.new_file(folder / f"{name}.gguf", architecture, rms) for folder in (FOLDER, F32_FOLDER)
        ]

    def new_file(self, path: Path, architecture: str, rms: bool):
        dims = self.dims
        path.parent.mkdir(parents=True, exist_ok=True)
        file = gguf.GGUFWriter(path, architecture)
        # A name that llama.cpp treats as no family's: for some it changes tokens.
        file.add_name("Random weights")
        file.add_vocab_size(len(WORDS))
        file.add_context_length(dims.context)
        file.add_embedding_length(dims.n_embd)
        file.add_block_count(dims.n_layers)
        file.add_feed_forward_length(dims.n_ff)
        file.add_head_count(dims.n_heads)
        file.add_head_count_kv(dims.n_kv_heads)
        (file.add_layer_norm_rms_eps if rms else file.add_layer_norm_eps)(1e-5)
        if dims.head_dim * dims.n_heads != dims.n_embd:
            file.add_key_length(dims.head_dim)
            file.add_value_length(dims.head_dim)
        file.add_tokenizer_model("llama")
        file.add_token_list(WORDS)
        file.add_token_scores([-float(i) for i in range(len(WORDS))])
        file.add_token_types(TYPES)
        file.add_unk_token_id(0)
        file.add_bos_token_id(1)
        file.add_eos_token_id(2)
        file.add_add_bos_token(True)
        file.add_add_space_prefix(False)
        return file

    def set(self, key: str, value):
        """Calls the writer's method `add_{key}`."""
        for file in self.files:
            getattr(file, f"add_{key}")(value)

    def tensor(self, name: str, values: np.ndarray):
        """A vector."""
        for file in self.files:
            file.add_tensor(name, values.astype(np.float32))

    def store(self, name: str, values: np.ndarray):
        """A matrix in the next format."""
        kind = self.formats[self.n_matrices % len(self.formats)]
        self.n_matrices += 1
        if kind in (Q4_K, Q6_K):
            stored = self.random_blocks(kind, values)
        else:
            stored = gguf.quants.quantize(values.astype(np.float32), kind)
        self.files[0].add_tensor(name, stored, raw_dtype=kind)
        self.files[1].add_tensor(name, gguf.quants.dequantize(stored, kind).astype(np.float32))

    def random_blocks(self, kind: gguf.GGMLQuantizationType, values: np.ndarray):
        """Random blocks of a type that `gguf` only reads, with the scale of these values."""
        n_weights, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        rows, n_blocks = len(values), values.shape[1] // n_weights
        blocks = self.random.integers(0, 256, (rows, n_blocks, n_bytes), dtype=np.uint8)
        # Where a block has its scales. The second one of Q4_K makes up for quants that are never negative.
        halves = {Q4_K: [(0, 1.0), (2, 7.5)], Q6_K: [(208, 1.0)]}[kind]

        def write(scale: float):
            for at, factor in halves:
                half = np.full((rows, n_blocks, 1), scale * factor, "<f2")
                blocks[:, :, at : at + 2] = half.view(np.uint8)
            return blocks.reshape(rows, -1)

        scale = 1e-3
        scale *= values.std() / gguf.quants.dequantize(write(scale), kind).std()
        return write(scale)

    def matrix(self, name: str, n_rows: int, n_cols: int, gain: float = 1.0):
        """Its products with normed rows have a standard deviation of `gain`."""
        values = self.random.standard_normal((n_rows, n_cols)) * (gain / n_cols**0.5)
        self.store(f"{name}.weight", values)

    def norm(self, name: str, *shape: int, biased: bool = False, gain: float = 1.0):
        self.tensor(f"{name}.weight", gain * (1 + 0.3 * self.random.standard_normal(shape)))
        if biased:
            self.bias(name, shape[-1])

    def bias(self, name: str, n: int):
        self.tensor(f"{name}.bias", 0.5 * self.random.standard_normal(n))

    def begin(self, gain: float = 1.0, tied: bool = False):
        """The embedding, whose rows have a standard deviation of `gain`."""
        values = self.random.standard_normal((len(WORDS), self.dims.n_embd)) * gain
        if tied:
            # Tokens without text are never the likeliest, so answers do not end early.
            values[: -len(CHARACTERS)] = 0
        self.store("token_embd.weight", values)

    def end(self, tied: bool = False, biased: bool = False, norm_biased: bool = False, gain: float = 2.5):
        self.norm("output_norm", self.dims.n_embd, biased=norm_biased)
        if not tied:
            n_embd = self.dims.n_embd
            values = gain * self.random.standard_normal((len(WORDS), n_embd)) / n_embd**0.5
            values[: -len(CHARACTERS)] = 0
            self.store("output.weight", values)
        if biased:
            values = 0.5 * self.random.standard_normal(len(WORDS))
            values[: -len(CHARACTERS)] = -1
            self.tensor("output.bias", values)
        for file in self.files:
            file.write_header_to_file()
            file.write_kv_data_to_file()
            file.write_tensors_to_file()
            file.close()

    # With this gain a token attends to few others, and which ones depends on its position.
    QK_GAIN = 1.5

    def qkv(self, layer: str, biased: bool = False):
        dims, gain = self.dims, self.QK_GAIN
        for part, n, gain in [("q", dims.n_q, gain), ("k", dims.n_kv, gain), ("v", dims.n_kv, 1.0)]:
            self.matrix(f"{layer}.attn_{part}", n, dims.n_embd, gain)
            if biased:
                self.bias(f"{layer}.attn_{part}", n)

    def fused_qkv(self, layer: str, biased: bool = False):
        dims = self.dims
        n = dims.n_q + 2 * dims.n_kv
        gains = np.repeat([self.QK_GAIN, self.QK_GAIN, 1.0], [dims.n_q, dims.n_kv, dims.n_kv])[:, None]
        values = gains * self.random.standard_normal((n, dims.n_embd)) / dims.n_embd**0.5
        self.store(f"{layer}.attn_qkv.weight", values)
        if biased:
            self.bias(f"{layer}.attn_qkv", n)

    def attn_output(self, layer: str, biased: bool = False, gain: float = 1.5):
        self.matrix(f"{layer}.attn_output", self.dims.n_embd, self.dims.n_q, gain)
        if biased:
            self.bias(f"{layer}.attn_output", self.dims.n_embd)

    def ffn(self, layer: str, fused=False, gated=True, biased=False, gain=2.0):
        n_ff, n_embd = self.dims.n_ff, self.dims.n_embd
        rows = {"up": 2 * n_ff} if fused else {"gate": n_ff, "up": n_ff} if gated else {"up": n_ff}
        for part, n in rows.items():
            self.matrix(f"{layer}.ffn_{part}", n, n_embd)
            if biased:
                self.bias(f"{layer}.ffn_{part}", n)
        self.matrix(f"{layer}.ffn_down", n_embd, n_ff, gain)
        if biased:
            self.bias(f"{layer}.ffn_down", n_embd)

    def expert_matrices(self, layer: str, part: str, n_experts: int, n_rows: int, n_cols: int, gain: float):
        """A matrix for each expert in one tensor."""
        values = self.random.standard_normal((n_experts, n_rows, n_cols)) * (gain / n_cols**0.5)
        self.store(f"{layer}.ffn_{part}_exps.weight", values)

    def experts(self, layer: str, n_experts: int, n_ff: int, n_shared: int = 0, biased=False, gain=4.0):
        """A router, its experts and the shared expert."""
        n_embd = self.dims.n_embd
        # Logits that are far apart: rounding does not change the choice.
        values = self.random.standard_normal((n_experts, n_embd)) * (2 / n_embd**0.5)
        self.tensor(f"{layer}.ffn_gate_inp.weight", values)
        if biased:
            self.bias(f"{layer}.ffn_gate_inp", n_experts)
        for part, n_rows, n_cols, gain in [
            ("gate", n_ff, n_embd, 1.0),
            ("up", n_ff, n_embd, 1.0),
            ("down", n_embd, n_ff, gain),
        ]:
            self.expert_matrices(layer, part, n_experts, n_rows, n_cols, gain)
            if biased:
                values = 0.5 * self.random.standard_normal((n_experts, n_rows))
                self.tensor(f"{layer}.ffn_{part}_exps.bias", values)
        if n_shared:
            for part, n_rows, n_cols, gain in [
                ("gate", n_shared, n_embd, 1.0),
                ("up", n_shared, n_embd, 1.0),
                ("down", n_embd, n_shared, 2.0),
            ]:
                self.matrix(f"{layer}.ffn_{part}_shexp", n_rows, n_cols, gain)

    def layers(self):
        return (f"blk.{i}" for i in range(self.dims.n_layers))
