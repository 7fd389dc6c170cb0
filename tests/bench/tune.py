# What PyTorch and PEFT take for the steps of `cargo xtask bench tune`; prints JSON.
#
#     python tests/bench/tune.py MODEL.gguf IDS.json
#
# IDS.json has the token ids of one example, how many of the first are not learnt, LoRA's rank, threads and
# steps. Weights are dequantised to float32. xtask/src/bench_tune.rs names the packages that it needs.
import json
import os
import resource
import sys
import time

import peft
import torch
import transformers

model_path, plan_path = sys.argv[1:]
with open(plan_path) as file:
    plan = json.load(file)
torch.manual_seed(0)
torch.set_num_threads(plan["threads"])
folder, name = os.path.split(os.path.realpath(model_path))
base = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
rank = plan["rank"]
lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=projections, task_type="CAUSAL_LM")
model = peft.get_peft_model(base, lora).train()
learnt = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.AdamW(learnt, lr=5e-4, weight_decay=0.0)

ids = torch.tensor([plan["ids"]])
labels = ids.clone()
labels[:, : plan["given"]] = -100
seconds, losses = [], []
for _ in range(plan["steps"]):
    begun = time.perf_counter()
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learnt, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    seconds.append(time.perf_counter() - begun)
    losses.append(loss.item())
print(
    json.dumps(
        {
            "seconds": seconds,
            "losses": losses,
            # Linux counts in KiB.
            "peakBytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "version": f"PyTorch {torch.__version__.split('+')[0]}, PEFT {peft.__version__}",
        }
    )
)
