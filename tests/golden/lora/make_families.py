# Random adapters that PEFT saves for tiny models of other families than llama, and the log-probabilities with
# them: their modules have other names, and some have rows in another order than GGUF.
#
#     /tmp/venv/bin/python tests/golden/lora/make_families.py
#
# (make_tiny.py says what is installed.) Writes the folder families/ beside this file. The models are those of
# ../tiny, put into transformers' classes here; their log-probabilities are first compared with llama.cpp's.
import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf
from gguf.quants import dequantize
from peft import LoraConfig, get_peft_model

HERE = Path(__file__).parent
TINY = HERE / "../tiny"

ATTENTION = {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"} | {"attn_output": "self_attn.o_proj"}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
LLAMA_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
H_TO_4H = {"ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"}
GPT2_TOP = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe"}
GPT2_TOP |= {"output_norm": "transformer.ln_f", "output": "lm_head"}


class File:
    """A tiny model."""

    def __init__(self, name):
        reader = gguf.GGUFReader(TINY / f"{name}.gguf")
        fields = reader.fields.items()
        self.fields = {key: field.contents() for key, field in fields if "tokenizer" not in key}
        self.tensors = {}
        for tensor in reader.tensors:
            values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            self.tensors[tensor.name] = torch.tensor(values.reshape([int(n) for n in tensor.shape[::-1]]))
        self.n_heads, self.n_kv_heads = self["attention.head_count"], self["attention.head_count_kv"]
        self.head_dim = self.get("attention.key_length", self["embedding_length"] // self.n_heads)

    def __getitem__(self, key):
        return self.fields[f"{self.fields['general.architecture']}.{key}"]

    def get(self, key, usual):
        return self.fields.get(f"{self.fields['general.architecture']}.{key}", usual)

    def usual(self):
        """What most configurations call by the same names."""
        eps = self.get("attention.layer_norm_epsilon", 1e-5)
        return {
            "vocab_size": 64,
            "hidden_size": self["embedding_length"],
            "num_hidden_layers": self["block_count"],
            "num_attention_heads": self.n_heads,
            "intermediate_size": self["feed_forward_length"],
            "max_position_embeddings": 256,
            "partial_rotary_factor": self.get("rope.dimension_count", self.head_dim) / self.head_dim,
            "tie_word_embeddings": "output.weight" not in self.tensors,
            "layer_norm_eps": eps,
            "norm_epsilon": eps,
            "rms_norm_eps": self.get("attention.layer_norm_rms_epsilon", 1e-5),
            "pad_token_id": 0,
        }

    def gpt2(self):
        """What GPT-2 and GPT-J call them."""
        return {
            "vocab_size": 64,
            "n_positions": self["context_length"],
            "n_embd": self["embedding_length"],
            "n_layer": self["block_count"],
            "n_head": self.n_heads,
            "n_inner": self["feed_forward_length"],
            "layer_norm_epsilon": self["attention.layer_norm_epsilon"],
            "tie_word_embeddings": "output.weight" not in self.tensors,
        }


def as_is(file, name, values):
    return values


def grouped(file, name, values):
    """Undoes what llama.cpp's converter does: each head of keys and values after its heads of queries."""
    if "attn_qkv" not in name:
        return values
    n_kv, dim = file.n_kv_heads, file.head_dim
    q, k, v = values.split([file.n_heads * dim, n_kv * dim, n_kv * dim])
    parts = [part.reshape(n_kv, -1, dim, *values.shape[1:]) for part in (q, k, v)]
    return torch.cat(parts, 1).reshape(values.shape)


def turned(file, name, values):
    """Conv1D's matrices are `[in, out]`."""
    return values.T.contiguous() if name.startswith("blk") and values.dim() == 2 else values


def falcon(file):
    return hf.FalconConfig(
        **{key: value for key, value in file.usual().items() if key != "intermediate_size"},
        num_kv_heads=file.n_kv_heads,
        new_decoder_architecture=True,
        ffn_hidden_size=file["feed_forward_length"],
        layer_norm_epsilon=file["attention.layer_norm_epsilon"],
    )


# Family: configuration, list of layers, modules of a layer, other modules, how matrices are stored.
FAMILIES = {
    "gptneox": (
        lambda file: hf.GPTNeoXConfig(
            **file.usual(),
            rotary_pct=file.usual()["partial_rotary_factor"],
            use_parallel_residual=file["use_parallel_residual"],
        ),
        "gpt_neox.layers",
        NORMS | H_TO_4H | {"attn_qkv": "attention.query_key_value", "attn_output": "attention.dense"},
        {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "lm_head"},
        grouped,
    ),
    "falcon-40b": (
        falcon,
        "transformer.h",
        H_TO_4H
        | {"attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"}
        | {"attn_qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense"},
        {"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f"},
        grouped,
    ),
    "gpt2": (
        lambda file: hf.GPT2Config(**file.gpt2()),
        "transformer.h",
        {"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj"}
        | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        GPT2_TOP,
        turned,
    ),
    "gptj": (
        lambda file: hf.GPTJConfig(**file.gpt2(), rotary_dim=file["rope.dimension_count"]),
        "transformer.h",
        {"attn_norm": "ln_1", "ffn_up": "mlp.fc_in", "ffn_down": "mlp.fc_out", "attn_output": "attn.out_proj"}
        | {f"attn_{part}": f"attn.{part}_proj" for part in "qkv"},
        GPT2_TOP,
        as_is,
    ),
    "phi2": (
        lambda file: hf.PhiConfig(**file.usual()),
        "model.layers",
        ATTENTION
        | {"attn_norm": "input_layernorm", "attn_output": "self_attn.dense"}
        | {"ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"},
        LLAMA_TOP | {"output_norm": "model.final_layernorm"},
        as_is,
    ),
    "phi3": (
        lambda file: hf.Phi3Config(
            **file.usual(), num_key_value_heads=file.n_kv_heads, original_max_position_embeddings=256
        ),
        "model.layers",
        NORMS
        | {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj"}
        | {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
        LLAMA_TOP,
        as_is,
    ),
    "glm4": (
        lambda file: hf.Glm4Config(
            **file.usual(), num_key_value_heads=file.n_kv_heads, head_dim=file.head_dim, attention_bias=True
        ),
        "model.layers",
        ATTENTION
        | NORMS
        | {"post_attention_norm": "post_self_attn_layernorm", "post_ffw_norm": "post_mlp_layernorm"}
        | {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
        LLAMA_TOP,
        as_is,
    ),
    "starcoder2": (
        lambda file: hf.Starcoder2Config(**file.usual(), num_key_value_heads=file.n_kv_heads, use_bias=True),
        "model.layers",
        ATTENTION | NORMS | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        LLAMA_TOP,
        as_is,
    ),
}


def loaded(name):
    config, layers, modules, top, stored = FAMILIES[name]
    file = File(name)
    model = hf.AutoModelForCausalLM.from_config(config(file), attn_implementation="eager").float().eval()
    state = {}
    for tensor, values in file.tensors.items():
        first, *rest = tensor.split(".")
        of = f"{layers}.{rest[0]}.{modules[rest[1]]}" if first == "blk" else top[first]
        state[f"{of}.{rest[-1]}"] = stored(file, tensor, values)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name == "lm_head.weight" for name in missing), (name, missing, unexpected)
    return model


def logprobs(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)


for name, (_, _, modules, _, _) in FAMILIES.items():
    torch.manual_seed(1)
    out = HERE / "families" / name
    base = loaded(name)
    golden = json.loads((TINY / f"{name}.json").read_text())
    for entry in golden:
        every = logprobs(base, entry["prompt_ids"] + entry["greedy_ids"])
        for i, step in enumerate(entry["steps"], len(entry["prompt_ids"]) - 1):
            off = np.abs(every[i, step["ids"]].numpy() - step["logprobs"]).max()
            assert off < 0.01, f"{name} is not the model: {off}"
    targets = [module for module in modules.values() if "norm" not in module and "ln_" not in module]
    config = LoraConfig(
        r=1, lora_alpha=2, target_modules=targets, task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"
    )
    model = get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter, values in model.named_parameters():
            if "lora_B" in parameter:
                values.copy_(0.5 * torch.randn(values.shape))
    model.peft_config["default"].base_model_name_or_path = f"{name}.gguf"
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    entries = []
    for entry in golden[:1]:
        ids = entry["prompt_ids"] + entry["greedy_ids"]
        chosen = logprobs(model, ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)
        entries.append({"ids": ids, "logprobs_scale_1.0": [round(x, 6) for x in chosen.tolist()]})
    (out / "adapter_logprobs.json").write_text(json.dumps(entries) + "\n")
    print(name, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad))
