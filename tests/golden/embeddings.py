"""What the tiny llama model's embeddings are, computed with numpy:

    pip install gguf numpy
    python tests/golden/embeddings.py > tests/golden/embeddings.json

All numbers are float64. Before anything is written, the logits of the same rows are compared with
llama.cpp's, from the model's golden file.
"""
import json
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize

FOLDER = Path(__file__).parent / "tiny"
HEADS, KV_HEADS, HEAD, EPSILON, BASE = 4, 2, 16, 1e-5, 10000.0

reader = GGUFReader(FOLDER / "llama.gguf")
weights = {
    t.name: dequantize(t.data, t.tensor_type).astype(np.float64).reshape(t.shape[::-1])
    for t in reader.tensors
}
golden = json.loads((FOLDER / "llama.json").read_text())[0]


def norm(x, name):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weights[name]


def rope(x):
    """Neighbouring numbers are pairs."""
    n = len(x)
    angles = np.arange(n)[:, None] * BASE ** (-np.arange(HEAD // 2) * 2 / HEAD)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def hidden(ids):
    """The rows after the last norm, `[n, n_embd]`."""
    x = weights["token_embd.weight"][ids]
    n = len(ids)
    for layer in range(2):
        w = lambda part: weights[f"blk.{layer}.{part}.weight"]
        h = norm(x, f"blk.{layer}.attn_norm.weight")
        q = rope((h @ w("attn_q").T).reshape(n, HEADS, HEAD))
        k = rope((h @ w("attn_k").T).reshape(n, KV_HEADS, HEAD)).repeat(HEADS // KV_HEADS, 1)
        v = (h @ w("attn_v").T).reshape(n, KV_HEADS, HEAD).repeat(HEADS // KV_HEADS, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(HEAD)
        scores[:, np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, HEADS * HEAD) @ w("attn_output").T
        h = norm(x, f"blk.{layer}.ffn_norm.weight")
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return norm(x, "output_norm.weight")


ids = golden["prompt_ids"]
rows = hidden(ids)
logits = rows @ weights["output.weight"].T
logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
for row, step in zip(logprobs, golden["prompt_steps"] + golden["steps"][:1]):
    assert np.abs(row[step["ids"]] - step["logprobs"]).max() < 0.002, "not what llama.cpp computes"
vectors = {"mean": rows.mean(0), "cls": rows[0], "last": rows[-1]}
unit = {name: np.round(v / np.linalg.norm(v), 6).tolist() for name, v in vectors.items()}
print(json.dumps({"model": "llama", "text": golden["text"], "prompt_ids": ids, **unit}))
