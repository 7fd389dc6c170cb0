# What PyTorch and PEFT compute when they teach the tiny llama model: golden values of training and of
# adapters.
#
#     python3 -m venv /tmp/venv
#     /tmp/venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0
#     /tmp/venv/bin/python tests/golden/lora/make_tiny.py
#
# Writes the folder tiny/ beside this file, which `nomoat tune --golden` reads. Weights are dequantised to
# float32; all arithmetic is float32. Other versions give nearly the same numbers.
import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
OUT = HERE / "tiny"
MODEL = HERE / "../tiny/llama.gguf"
RANK, ALPHA, TARGETS = 2, 6, ["q_proj", "k_proj", "o_proj", "up_proj"]
TENSORS = {"q_proj": "attn_q", "k_proj": "attn_k", "o_proj": "attn_output", "up_proj": "ffn_up"}
SETTINGS = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "clip": 1.0}
BETA = 0.1
# As Nomoat orders examples, with this seed.
SEED, SFT_EPOCHS, DPO_EPOCHS = 7, 4, 3

# Question, better answer, worse answer.
LESSONS = [
    ("Who are you", "A pirate", "A model"),
    ("What is the sum of 2 and 3", "Arr it be 5", "It is 5"),
    ("Name a fruit", "A ripe mango says I", "An apple"),
]

torch.manual_seed(9)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

fields = gguf.GGUFReader(MODEL).fields
words = fields["tokenizer.ggml.tokens"].contents()
IDS = {word: i for i, word in enumerate(words)} | {" ": words.index("▁"), "\n": words.index("<0x0A>")}


def encode(text):
    return [IDS[character] for character in text]


def decode(ids):
    texts = {i: text for text, i in IDS.items()}
    return "".join(texts[i] for i in ids)


def example(question, answer):
    """As the template `plain` shows them; the newline and the answer are learnt."""
    before, after = [IDS["<s>"], *encode(question)], encode("\n" + answer)
    return {"ids": before + after, "labels": [-100] * len(before) + after}


def order(n, epoch):
    """`order` in runtime/src/train/trainer.rs."""
    mask = (1 << 64) - 1
    order = list(range(n))
    state = SEED ^ ((epoch + 1) * 0x9E3779B97F4A7C15 & mask)
    for i in range(n - 1, 0, -1):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        j = (state >> 33) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def fresh():
    return AutoModelForCausalLM.from_pretrained(
        MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32, attn_implementation="eager"
    )


def learner():
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=TARGETS
    )
    model = get_peft_model(fresh(), config)
    with torch.no_grad():
        for parameter, values in zip(learnt(model).values(), START):
            parameter.copy_(values)
    return model


def learnt(model):
    named = model.named_parameters()
    return {name.replace(".default", ""): p for name, p in named if p.requires_grad}


def logprobs(model, example):
    """Of the tokens that are learnt."""
    logits = model(input_ids=torch.tensor([example["ids"]])).logits[0, :-1]
    labels = torch.tensor(example["labels"][1:])
    kept = labels != -100
    return torch.log_softmax(logits[kept].double(), -1).gather(1, labels[kept][:, None]).squeeze(1)


def optimiser(model, rate):
    return torch.optim.AdamW(
        learnt(model).values(),
        lr=rate,
        betas=SETTINGS["betas"],
        eps=SETTINGS["eps"],
        weight_decay=SETTINGS["weight_decay"],
    )


def step(model, adam, loss):
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learnt(model).values(), SETTINGS["clip"])
    adam.step()


def contiguous(tensors):
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def sft(examples, rate=5e-3):
    model = learner()
    save_file(contiguous(learnt(model)), OUT / "start.safetensors")
    adam = optimiser(model, rate)
    steps = [i for epoch in range(SFT_EPOCHS) for i in order(len(examples), epoch)]
    losses = []
    for i in steps:
        loss = -logprobs(model, examples[i]).mean()
        step(model, adam, loss)
        if not losses:
            gradients = {name: p.grad for name, p in learnt(model).items()}
            save_file(contiguous(gradients), OUT / "sft_step0_grads_clipped.safetensors")
        losses.append(loss.item())
    with torch.no_grad():
        after = [-logprobs(model, one).mean().item() for one in examples]
    # Not the folder of whoever runs this.
    model.peft_config["default"].base_model_name_or_path = MODEL.name
    model.save_pretrained(OUT / "sft_peft")
    (OUT / "sft_peft/README.md").unlink(missing_ok=True)
    return {
        "lr": rate,
        **SETTINGS,
        "seed": SEED,
        "order": steps,
        "loss": losses,
        "loss_after": after,
        "greedy_after": greedy(model, examples[0]),
    }


def greedy(model, example):
    n = example["labels"].count(-100)
    ids = example["ids"][:n]
    while len(ids) < n + 24 and ids[-1] != IDS["</s>"]:
        with torch.no_grad():
            best, second = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2).values.tolist()
            assert best - second > 0.05, "the answer is not clear; use another seed"
            ids.append(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    return decode(ids[n:])


def dpo(chosen, rejected, rate=5e-3):
    model = learner()
    adam = optimiser(model, rate)
    pairs = list(zip(chosen, rejected))
    with torch.no_grad(), model.disable_adapter():
        references = [[logprobs(model, one).sum().item() for one in pair] for pair in pairs]
    steps = [i for epoch in range(DPO_EPOCHS) for i in order(len(pairs), epoch)]
    losses, margins = [], []
    for i in steps:
        (c, r), (c0, r0) = [logprobs(model, one).sum() for one in pairs[i]], references[i]
        margin = BETA * ((c - c0) - (r - r0))
        loss = -F.logsigmoid(margin)
        step(model, adam, loss)
        losses.append(loss.item())
        margins.append(margin.item())
    return {
        "beta": BETA,
        "lr": rate,
        **SETTINGS,
        "order": steps,
        "rejected": rejected,
        "ref_logps": references,
        "loss": losses,
        "margin": margins,
    }


def scaled(texts):
    """Log-probabilities of whole texts with the finished adapter at three strengths."""
    model = PeftModel.from_pretrained(fresh(), OUT / "sft_peft").eval()
    layers = [layer for layer in model.modules() if isinstance(getattr(layer, "scaling", None), dict)]
    entries = []
    for ids in texts:
        entry = {"ids": ids}
        for strength in (1.0, 0.5, 0.0):
            for layer in layers:
                layer.scaling["default"] = strength * ALPHA / RANK
            with torch.no_grad():
                every = logprobs(model, {"ids": ids, "labels": ids})
            entry[f"logprobs_scale_{strength}"] = [round(x, 6) for x in every.tolist()]
        entries.append(entry)
    return entries


def write_gguf():
    """The finished adapter as llama.cpp's convert_lora_to_gguf.py writes it."""
    tensors = load_file(OUT / "sft_peft/adapter_model.safetensors")
    heads = {
        "q_proj": fields["llama.attention.head_count"].contents(),
        "k_proj": fields["llama.attention.head_count_kv"].contents(),
    }
    writer = gguf.GGUFWriter(OUT / "sft_lora.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, values in sorted(tensors.items()):
        *_, layer, _, module, half, _ = name.split(".")
        if half == "lora_B" and module in heads:
            n = heads[module]
            rows = values.reshape(n, 2, values.shape[0] // n // 2, RANK).swapaxes(1, 2)
            values = np.ascontiguousarray(rows.reshape(values.shape))
        writer.add_tensor(f"blk.{layer}.{TENSORS[module]}.weight.{half.lower()}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


OUT.mkdir(exist_ok=True)
START = []
for name, parameter in learnt(get_peft_model(fresh(), LoraConfig(r=RANK, target_modules=TARGETS))).items():
    # B is not 0, so that A has a gradient, too.
    size = 1 / math.sqrt(parameter.shape[1]) if "lora_A" in name else 0.1
    START.append(size * torch.randn(parameter.shape))
examples = [example(question, better) for question, better, _ in LESSONS]
rejected = [example(question, worse) for question, _, worse in LESSONS]
golden = {
    "lessons": [dict(zip(("question", "better", "worse"), lesson)) for lesson in LESSONS],
    "sft_examples": examples,
    "r": RANK,
    "alpha": ALPHA,
    "targets": TARGETS,
    "start": "start.safetensors",
    "sft": sft(examples),
    "dpo": dpo(examples, rejected),
}
for name, content in [
    ("lora_golden.json", golden),
    ("adapter_logprobs.json", scaled([one["ids"] for one in examples + rejected])),
]:
    (OUT / name).write_text(json.dumps(content) + "\n")
write_gguf()
print(golden["sft"]["order"], golden["sft"]["loss"], golden["sft"]["greedy_after"])
print(golden["dpo"]["order"], golden["dpo"]["loss"], golden["dpo"]["margin"])
