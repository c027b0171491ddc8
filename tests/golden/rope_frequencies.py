"""Inverse frequencies of rotary embeddings as transformers computes them, for every kind of scaling we claim.

Usage: rope_frequencies.py OUTDIR. Writes OUTDIR/cases.json: [{"kind", "base", "dims", "factor", "low", "high",
"original", "beta_fast", "beta_slow", "attention_factor" (0: by the factor), "inverse": [dims/2], "magnitude"}].
"""
import json
import os
import sys

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

CASES = [
    dict(kind="none", base=10000.0, dims=64),
    dict(kind="none", base=1000000.0, dims=128),
    dict(kind="none", base=100000.0, dims=2),
    dict(kind="linear", base=10000.0, dims=96, factor=4.0),
    dict(kind="llama3", base=500000.0, dims=128, factor=8.0, low=1.0, high=4.0, original=8192),
    dict(kind="llama3", base=500000.0, dims=64, factor=32.0, low=1.0, high=4.0, original=8192),
    dict(kind="yarn", base=1000000.0, dims=128, factor=4.0, original=32768),
    dict(kind="yarn", base=10000.0, dims=64, factor=16.0, original=4096, beta_fast=24.0, beta_slow=2.0),
    dict(kind="yarn", base=1000000.0, dims=80, factor=2.0, original=2048, attention_factor=0.75),
]


def reference(case):
    rope = {"rope_theta": case["base"], "rope_type": "default" if case["kind"] == "none" else case["kind"]}
    names = {"factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor", "beta_fast": "beta_fast",
             "beta_slow": "beta_slow", "original": "original_max_position_embeddings",
             "attention_factor": "attention_factor"}
    rope |= {names[k]: v for k, v in case.items() if k in names}
    config = LlamaConfig(hidden_size=case["dims"] * 2, num_attention_heads=2, head_dim=case["dims"],
                         rope_parameters=rope, max_position_embeddings=int(case.get("original", 4096) * case.get("factor", 1)))
    if case["kind"] == "none":
        rotary = LlamaRotaryEmbedding(config)
        return rotary.inv_freq, rotary.attention_scaling
    return ROPE_INIT_FUNCTIONS[case["kind"]](config, "cpu")


def main():
    out = []
    for case in CASES:
        inverse, magnitude = reference(case)
        defaults = dict(factor=1.0, low=1.0, high=4.0, original=0, beta_fast=32.0, beta_slow=1.0, attention_factor=0.0)
        out.append(defaults | case | {"inverse": [float(x) for x in inverse], "magnitude": float(magnitude)})
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(sys.argv[1] + "/cases.json", "w") as f:
        json.dump(out, f)


if __name__ == "__main__":
    main()
