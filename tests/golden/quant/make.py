"""Writes random blocks of each quantised weight type, and what the `gguf` package dequantises them to.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy==2.4.6
    /tmp/venv/bin/python tests/golden/quant/make.py

NAME.bin holds a few blocks as a GGUF file stores them, and then their weights as little-endian f32.
Also writes the grids of the types with one, as `runtime/src/quant/grid.rs` reads them.
"""

from pathlib import Path

import gguf
import numpy as np

# For each type, the blocks to write, and where in a block there is an f16. Other scales are random bytes.
TYPES = {
    "Q4_0": (8, [0]),
    "Q4_1": (8, [0, 2]),
    "Q5_0": (8, [0]),
    "Q5_1": (8, [0, 2]),
    "Q8_0": (8, [0]),
    "Q2_K": (3, [80, 82]),
    "Q3_K": (3, [108]),
    "Q4_K": (3, [0, 2]),
    "Q5_K": (3, [0, 2]),
    "Q6_K": (3, [208]),
    "BF16": (64, []),
    "IQ4_NL": (8, [0]),
    "IQ4_XS": (3, [0]),
    "MXFP4": (16, []),
    "NVFP4": (8, []),
    "TQ1_0": (3, [52]),
    "TQ2_0": (3, [64]),
    "IQ2_XXS": (3, [0]),
    "IQ2_XS": (3, [0]),
    "IQ2_S": (3, [0]),
    "IQ3_XXS": (3, [0]),
    "IQ3_S": (3, [0]),
    "IQ1_S": (3, [0]),
    "IQ1_M": (3, []),
}

for name, (n_blocks, halves) in TYPES.items():
    random = np.random.default_rng(sum(name.encode()))
    ty = gguf.GGMLQuantizationType[name]
    _, block_bytes = gguf.GGML_QUANT_SIZES[ty]
    blocks = random.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    for at in halves:
        scale = random.normal(0, 0.02, n_blocks).astype("<f2")
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(n_blocks, 2)
    if name == "BF16":
        weights = random.normal(0, 1, n_blocks).astype("<f4")
        blocks = np.ascontiguousarray(weights.view("<u2").reshape(n_blocks, 2)[:, 1:]).view(np.uint8)
    if name == "MXFP4":
        # Exponents that are rare: of numbers that are too small, and of the greatest.
        blocks[:4, 0] = [0, 1, 2, 255]
    if name == "NVFP4":
        # Not a number, the same with the highest bit, and the greatest number.
        blocks[0, :3] = [0x7F, 0xFF, 0x7E]
    if name == "IQ1_M":
        # An f16 whose bits are the upper halves of four bytes, the lowest first.
        bits = random.normal(0, 0.02, n_blocks).astype("<f2").view("<u2")
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (bits >> 4 * i & 15) << 4
    weights = gguf.quants.dequantize(blocks.reshape(1, -1), ty).astype("<f4")
    (Path(__file__).parent / f"{name.lower()}.bin").write_bytes(blocks.tobytes() + weights.tobytes())

grids = b""
for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]:
    ty = getattr(gguf.quants, name)
    ty.init_grid()
    # The place of each number among the values that there are.
    codes = np.searchsorted(np.array(ty.grid_map), ty.grid.reshape(ty.grid_shape))
    bits = 2 if ty.grid_shape[1] == 8 else 3
    places = bits * np.arange(ty.grid_shape[1])
    grids += (codes << places).sum(axis=1).astype("<u2").tobytes()
(Path(__file__).parents[3] / "runtime/src/quant/grids.bin").write_bytes(grids)
