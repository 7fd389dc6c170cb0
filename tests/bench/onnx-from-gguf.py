"""Converts a GGUF file for transformers.js: to an ONNX graph, a tokenizer and a configuration.

The graph has the layout of published q4 models: matrices in 4-bit blocks of 32 with one scale (MatMulNBits),
a float embedding, and ONNX Runtime's fused operators for attention and norms. Weights are dequantised and
quantised again to that format. Texts therefore differ a little from those of the GGUF; the work is the same.

Usage: onnx-from-gguf.py MODEL.gguf FOLDER

The model must be of the llama family, with tied embeddings and a byte-level BPE vocabulary.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from gguf import GGUFReader, dequantize
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32
# Positions in the tables for the rotary embedding; more than the bench needs.
MAX_POSITIONS = 2048
CONTROL_TOKEN = 3


class Graph:
    """Collects nodes and weights."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def add(self, op, inputs, outputs, domain="", **attributes):
        name = f"{op}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, outputs, name, domain=domain, **attributes))
        return outputs[0]

    def weight(self, name, array):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def matmul(self, x, name, w):
        """Multiplies `x` with the matrix `w`, whose shape is (outputs, inputs)."""
        rows, columns = w.shape
        blocks = w.reshape(rows, columns // BLOCK, BLOCK)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
        scales = largest / -8
        quants = np.round(np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0)) + 8
        quants = np.clip(quants, 0, 15).astype(np.uint8)
        packed = quants[..., 0::2] | quants[..., 1::2] << 4
        scales = scales.astype(np.float32).ravel()
        inputs = [x, self.weight(f"{name}.quants", packed), self.weight(f"{name}.scales", scales)]
        attributes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
        return self.add("MatMulNBits", inputs, [f"{name}.out"], "com.microsoft", **attributes)


def unpermuted(w, heads):
    """Moves rotary pairs of queries and keys, neighbours in GGUF, half a head apart for ONNX Runtime."""
    rows, columns = w.shape
    return w.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def model(reader, field):
    floats = lambda t: dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]).astype(np.float32)
    tensors = {t.name: floats(t) for t in reader.tensors}
    layers, width = field("llama.block_count"), field("llama.embedding_length")
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    epsilon, theta = field("llama.attention.layer_norm_rms_epsilon"), field("llama.rope.freq_base")
    head = width // heads
    g = Graph()

    for name, value in [("one", 1), ("axis", 1), ("end", np.iinfo(np.int64).max)]:
        g.weight(name, np.array([value], np.int64))
    angles = np.outer(np.arange(MAX_POSITIONS), theta ** (-np.arange(0, head, 2) / head))
    g.weight("cos", np.cos(angles).astype(np.float32))
    g.weight("sin", np.sin(angles).astype(np.float32))
    g.add("ReduceSum", ["attention_mask", "axis"], ["mask.sum"], keepdims=0)
    g.add("Sub", ["mask.sum", "one"], ["mask.last"])
    g.add("Cast", ["mask.last"], ["seqlens_k"], to=TensorProto.INT32)
    g.add("Shape", ["attention_mask"], ["mask.shape"])
    g.weight("axis.scalar", np.array(1, np.int64))
    g.add("Gather", ["mask.shape", "axis.scalar"], ["mask.length"])
    g.add("Cast", ["mask.length"], ["total_length"], to=TensorProto.INT32)

    def norm(x, skip, name):
        """Adds `skip`, unless it is None, and normalises. Returns the normalised values and the sum."""
        weight = g.weight(name, tensors[f"{name}.weight"])
        if skip is None:
            op = "SimplifiedLayerNormalization"
            return g.add(op, [x, weight], [f"{name}.out"], axis=-1, epsilon=epsilon), x
        op, outputs = "SkipSimplifiedLayerNormalization", [f"{name}.out", "", "", f"{name}.sum"]
        g.add(op, [x, skip, weight], outputs, "com.microsoft", epsilon=epsilon)
        return outputs[0], outputs[3]

    x = g.add("Gather", [g.weight("embedding", tensors["token_embd.weight"]), "input_ids"], ["embedded"])
    branch = None
    cache_in, cache_out = [], []
    for i in range(layers):
        def project(x, part, unpermute=None):
            w = tensors[f"blk.{i}.{part}.weight"]
            return g.matmul(x, f"blk.{i}.{part}", w if unpermute is None else unpermuted(w, unpermute))

        normed, x = norm(x, branch, f"blk.{i}.attn_norm")
        query, key = project(normed, "attn_q", heads), project(normed, "attn_k", kv_heads)
        qkv = [query, key, project(normed, "attn_v")]
        past = [f"past_key_values.{i}.{kind}" for kind in ("key", "value")]
        present = [f"present.{i}.{kind}" for kind in ("key", "value")]
        cache_in += past
        cache_out += present
        attended = g.add(
            "GroupQueryAttention",
            [*qkv, *past, "seqlens_k", "total_length", "cos", "sin"],
            [f"blk.{i}.attended", *present],
            "com.microsoft", num_heads=heads, kv_num_heads=kv_heads, do_rotary=1, rotary_interleaved=0,
        )
        normed, x = norm(x, project(attended, "attn_output"), f"blk.{i}.ffn_norm")
        gate, up = project(normed, "ffn_gate"), project(normed, "ffn_up")
        sigmoid = g.add("Sigmoid", [gate], [f"blk.{i}.sigmoid"])
        silu = g.add("Mul", [gate, sigmoid], [f"blk.{i}.silu"])
        branch = project(g.add("Mul", [silu, up], [f"blk.{i}.swiglu"]), "ffn_down")

    normed, _ = norm(x, branch, "output_norm")
    # transformers.js asks only for the logits of the last position.
    g.add("Neg", ["num_logits_to_keep"], ["start.scalar"])
    g.weight("flat", np.array([-1], np.int64))
    g.add("Reshape", ["start.scalar", "flat"], ["start"])
    kept = g.add("Slice", [normed, "start", "end", "axis"], ["kept"])
    g.add("Identity", [g.matmul(kept, "lm_head", tensors["token_embd.weight"])], ["logits"])

    info = helper.make_tensor_value_info
    # transformers.js finds caches by these names, and makes empty ones.
    batch, past, total = "batch_size", "past_sequence_length", "total_sequence_length"
    cache = lambda names, length: [info(n, TensorProto.FLOAT, [batch, kv_heads, length, head]) for n in names]
    inputs = [
        info("input_ids", TensorProto.INT64, [batch, "sequence_length"]),
        info("attention_mask", TensorProto.INT64, [batch, total]),
        info("num_logits_to_keep", TensorProto.INT64, []),
        *cache(cache_in, past),
    ]
    logits = info("logits", TensorProto.FLOAT, [batch, "kept", field("llama.vocab_size")])
    outputs = [logits, *cache(cache_out, total)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(g.nodes, "model", inputs, outputs, g.weights)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def configuration(field):
    heads, width = field("llama.attention.head_count"), field("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": width,
        "head_dim": width // heads,
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": MAX_POSITIONS,
        "num_attention_heads": heads,
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "vocab_size": field("llama.vocab_size"),
    }


def tokenizer(field):
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    control = [
        {"id": i, "content": t, **flags}
        for i, (t, kind) in enumerate(zip(tokens, types))
        if kind == CONTROL_TOKEN
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = [{"type": "Digits", "individual_digits": True}, byte_level]
    bpe = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {t: i for i, t in enumerate(tokens)},
        "merges": field("tokenizer.ggml.merges"),
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": control,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "post_processor": None,
        "decoder": byte_level,
        "model": bpe,
    }


def tokenizer_configuration(field):
    token = lambda name: field("tokenizer.ggml.tokens")[field(f"tokenizer.ggml.{name}_token_id")]
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "chat_template": field("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
    }


def main(source, folder):
    reader = GGUFReader(source)
    field = lambda name: reader.fields[name].contents()
    if field("general.architecture") != "llama" or field("tokenizer.ggml.pre") != "smollm":
        sys.exit("this model cannot be converted: only llama models with SmolLM's vocabulary can")
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    config = configuration(field)
    parts = {
        "config": config,
        "generation_config": {key: config[key] for key in ("bos_token_id", "eos_token_id")},
        "tokenizer": tokenizer(field),
        "tokenizer_config": tokenizer_configuration(field),
    }
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    onnx.save(model(reader, field), folder / "onnx/model_q4.onnx")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
