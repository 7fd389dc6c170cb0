# Log-probabilities by PEFT, with an adapter that Nomoat has exported and without it.
#
#     python tests/golden/lora/with_peft.py MODEL.gguf ADAPTER_FOLDER OUT.json
#     nomoat eval MODEL.gguf --golden OUT.json --adapter ADAPTER --device cpu
#
# ADAPTER_FOLDER is in PEFT's format, as `nomoat tune -o` writes it and the page exports it. Weights are
# dequantised to float32. Needs torch 2.15, transformers 5.24, peft 0.21 and gguf 0.19.
import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

TURNS = [
    [("user", "What is the capital of France?"), ("assistant", "Ahoy! That be Paris, matey.")],
    [("user", "Who wrote Romeo and Juliet?"), ("assistant", "It was William Shakespeare, in the 1590s.")],
    [("user", "Write a function."), ("assistant", "def add(a, b):\n    return a + b")],
    [("system", "Answer briefly."), ("user", "今天天气怎么样？"), ("assistant", "今天天气很好。")],
]

model_path, adapter, out = sys.argv[1:]
folder, name = os.path.split(os.path.realpath(model_path))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
base = AutoModelForCausalLM.from_pretrained(
    folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager"
)
model = PeftModel.from_pretrained(base, adapter).eval()


def logprobs(ids):
    """The natural-log probability of each token from the second on."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])
    return chosen.squeeze(1).tolist()


entries = []
for turns in TURNS:
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    entry = {"ids": ids, "logprobs_scale_1.0": logprobs(ids)}
    with model.disable_adapter():
        entry["logprobs_scale_0.0"] = logprobs(ids)
    entries.append(entry)
with open(out, "w") as file:
    json.dump(entries, file)
