"""GPT-J in float64, which llama.cpp does not have: writes the golden file of gptj.gguf.

    /tmp/venv/bin/python tests/golden/tiny/gptj.py

It follows the published model: transformers' `modeling_gptj.py`, with the tensor names of GGUF files.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

TEXT = "Pack my box with 50 dozen jugs of water"
ANSWER, LIKELIEST, MARGIN = 24, 10, 0.1
FOLDER = Path(__file__).parent


class GptJ:
    def __init__(self, path: Path):
        reader = gguf.GGUFReader(path)
        self.tensors = {
            t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64).reshape(t.shape[::-1])
            for t in reader.tensors
        }
        key = lambda name: reader.fields[f"gptj.{name}"].contents()
        self.n_layers, self.n_heads = key("block_count"), key("attention.head_count")
        self.n_rot, self.eps = key("rope.dimension_count"), key("attention.layer_norm_epsilon")
        self.words = reader.fields["tokenizer.ggml.tokens"].contents()

    def linear(self, x, name: str):
        y = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors.get(f"{name}.bias", 0)

    def norm(self, x, name: str):
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
        return normed * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def heads(self, x):
        """[tokens, n_heads, head_dim]"""
        return x.reshape(len(x), self.n_heads, -1)

    def rotate(self, x):
        """Turns neighbours of the first `n_rot` floats of each head."""
        frequencies = 10_000.0 ** (-np.arange(0, self.n_rot, 2) / self.n_rot)
        angles = (np.arange(len(x))[:, None] * frequencies)[:, None, :]
        even, odd = x[..., 0 : self.n_rot : 2], x[..., 1 : self.n_rot : 2]
        out = x.copy()
        out[..., 0 : self.n_rot : 2] = even * np.cos(angles) - odd * np.sin(angles)
        out[..., 1 : self.n_rot : 2] = odd * np.cos(angles) + even * np.sin(angles)
        return out

    def attention(self, h, layer: str):
        q, k, v = (self.heads(self.linear(h, f"{layer}.attn_{part}")) for part in "qkv")
        q, k = self.rotate(q), self.rotate(k)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(len(h), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        a = np.einsum("hij,jhd->ihd", weights, v).reshape(len(h), -1)
        return self.linear(a, f"{layer}.attn_output")

    def ffn(self, h, layer: str):
        x = self.linear(h, f"{layer}.ffn_up")
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return self.linear(x, f"{layer}.ffn_down")

    def logprobs(self, ids):
        """[tokens, words]"""
        x = self.tensors["token_embd.weight"][ids]
        for i in range(self.n_layers):
            h = self.norm(x, f"blk.{i}.attn_norm")
            x = x + self.attention(h, f"blk.{i}") + self.ffn(h, f"blk.{i}")
        logits = self.linear(self.norm(x, "output_norm"), "output")
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def likeliest(row):
    ids = np.argsort(-row, kind="stable")[:LIKELIEST]
    return {"ids": ids.tolist(), "logprobs": row[ids].round(6).tolist()}


def golden(path: Path):
    model = GptJ(path)
    prompt = [1, *(model.words.index("▁" if c == " " else c) for c in TEXT)]
    answer = []
    while len(answer) < ANSWER:
        answer.append(int(model.logprobs(prompt + answer)[-1].argmax()))
    rows = model.logprobs(prompt + answer[:-1])
    read, steps = rows[: len(prompt) - 1], rows[len(prompt) - 1 :]
    top = -np.sort(-steps, axis=-1)
    margin = (top[:, 0] - top[:, 1]).min()
    if margin < MARGIN:
        sys.exit(f"{path}: two tokens of the answer are {margin} apart")
    return {
        "name": "tiny",
        "text": TEXT,
        "prompt_ids": prompt,
        "greedy_ids": answer,
        "greedy_text": "".join(model.words[id] for id in answer).replace("▁", " "),
        "steps": [likeliest(row) for row in steps],
        "prompt_steps": [likeliest(row) for row in read],
        "prompt_logprobs": [round(float(row[id]), 6) for row, id in zip(read, prompt[1:])],
    }


if __name__ == "__main__":
    lines = []
    for key, value in golden(FOLDER / "gptj.gguf").items():
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if isinstance(value, list) and isinstance(value[0], dict):
            items = [json.dumps(item, separators=(",", ":")) for item in value]
            text = "[\n" + ",\n".join(items) + "\n]"
        lines.append(f'"{key}": {text}')
    (FOLDER / "gptj.json").write_text("[{\n" + ",\n".join(lines) + "\n}]\n")
