# As with_llama.mjs, with llama-cpp-python 0.3.36:
#
#     python tests/golden/lora/with_llama.py MODEL.gguf ADAPTER.gguf LOGPROBS.json
#
# Prints the mean absolute difference at each strength. On a model whose weights were dequantised to float32,
# what is left is rounding.
import ctypes
import json
import sys

import llama_cpp as llama
import numpy as np

model_path, adapter_path, golden = sys.argv[1:]
llama.llama_backend_init()
model = llama.llama_model_load_from_file(model_path.encode(), llama.llama_model_default_params())
n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
adapter = llama.llama_adapter_lora_init(model, adapter_path.encode())
assert adapter, f"{adapter_path} cannot be loaded"


def logprobs(ids, strength):
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.type_k = params.type_v = llama.GGML_TYPE_F32
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, params)
    adapters, strengths = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(strength)
    assert llama.llama_set_adapters_lora(context, adapters, 1 if strength else 0, strengths) == 0
    batch = llama.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert llama.llama_decode(context, batch) == 0
    logits = np.ctypeslib.as_array(llama.llama_get_logits(context), (len(ids), n_vocab)).astype(np.float64)
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    top = logits.max(1)
    totals = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return [logits[i, token] - totals[i] for i, token in enumerate(ids[1:])]


entries = json.load(open(golden))
means = {}
for key in [key for key in entries[0] if key.startswith("logprobs_scale_")]:
    strength = key.removeprefix("logprobs_scale_")
    pairs = [zip(logprobs(entry["ids"], float(strength)), entry[key]) for entry in entries]
    means[strength] = float(np.mean([abs(found - expected) for pair in pairs for found, expected in pair]))
print(json.dumps(means))
