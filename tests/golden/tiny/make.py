"""Writes tiny models with random weights, one for each arithmetic that has a golden file here.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy==2.4.6
    /tmp/venv/bin/python tests/golden/tiny/make.py [NAME [SEED]]

The same versions give the same files. `golden.mjs` then computes the golden files. See ../README.md.
"""

import sys

import dense
import experts

# Seeds with which each token of the answer is likelier than any other by 0.1: `golden.mjs` checks it.
SEEDS = {
    dense.llama: 48,
    dense.llama_freqs: 36,
    dense.qwen2: 22,
    dense.qwen3: 23,
    dense.phi3: 33,
    dense.olmo2: 48,
    dense.phi3_long: 46,
    dense.gemma: 40,
    dense.gemma2: 3,
    dense.gemma3: 25,
    dense.gpt2: 20,
    dense.gptneox: 26,
    dense.gptneox_sequential: 44,
    dense.phi2: 37,
    dense.falcon: 36,
    dense.falcon_40b: 33,
    dense.mpt: 29,
    dense.starcoder2: 31,
    dense.stablelm: 32,
    dense.stablelm_12b: 45,
    dense.llama_mixed: 2,
    dense.smollm3: 12,
    dense.granite: 45,
    dense.minicpm: 0,
    dense.ernie4_5: 4,
    dense.hunyuan_dense: 159,
    dense.seed_oss: 22,
    dense.mistral3: 44,
    dense.qwen3_yarn: 10,
    dense.glm4: 36,
    dense.exaone4: 9,
    dense.command_r: 41,
    experts.mixtral: 13,
    experts.qwen2moe: 3,
    experts.qwen3moe: 1,
    experts.olmoe: 5,
    experts.gpt_oss: 5,
    experts.granitemoe: 4,
    dense.gptj: 19,
}

for make, seed in SEEDS.items():
    name = make.__name__.replace("_", "-")
    if sys.argv[1:2] in ([], [name]):
        make(name, int(sys.argv[2]) if len(sys.argv) > 2 else seed)
