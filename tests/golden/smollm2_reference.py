"""The demo model's real weights in transformers: what our engine's numbers are held against.

Usage: smollm2_reference.py OUTDIR. Reads the demo GGUF (TOKENWORKS_DEMO_MODEL, default in the cache), dequantises it
with the gguf package into a LlamaForCausalLM in fp32, and writes

  OUTDIR/reference.json   "text": ids of the first 6,144 tokens of the GPL-3 text; "perplexity": {"tokens", "window",
                          "value", "losses": per window, natural log}; "prompts": [{"tokens", "rows": positions whose
                          logits are stored, "offset": first float in logits.bin, "greedy": ids, "margins": top-1 minus
                          top-2 logit of each greedy step, "text"}]
  OUTDIR/logits.bin       float32 little endian, [vocab] per stored row

The tokenizer is rebuilt from the GGUF's own tables with the tokenizers package (byte-level BPE, digits alone).
"""
import json
import os
import sys

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

TEXT = "/usr/share/common-licenses/GPL-3"
TEXT_TOKENS, PERPLEXITY_TOKENS, WINDOW, GREEDY = 6144, 1024, 512, 64
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHATS = ["What is the capital of France, and what is it known for?",
         "Write a Python function that returns the n-th Fibonacci number.",
         "Explain in two sentences why the sky is blue.",
         "List three tips for saving electricity at home:\n1.",
         "Übersetze ins Englische: \"Der Zähler läuft auch nachts.\" 12345 + 678?"]
RAW = "The meter in the basement had been running since the winter of 1962, and nobody"
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def model_path():
    cache = os.environ.get("TOKENWORKS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tokenworks")
    return os.environ.get("TOKENWORKS_DEMO_MODEL") or cache + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"


def unpermute(w, heads):
    """llama.cpp stores q and k so that rotated pairs are neighbours; transformers pairs i with i + dim/2."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def load(reader):
    field = lambda name: reader.fields["llama." + name].contents()
    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(vocab_size=field("vocab_size"), hidden_size=field("embedding_length"),
                         intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"),
                         num_attention_heads=heads, num_key_value_heads=kv_heads,
                         max_position_embeddings=field("context_length"), tie_word_embeddings=True,
                         rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
                         rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")})
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {}
    for tensor in reader.tensors:
        w = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name == "token_embd.weight":
            name = "model.embed_tokens.weight"
        elif tensor.name == "output_norm.weight":
            name = "model.norm.weight"
        else:
            _, layer, part, kind = tensor.name.split(".")
            name = f"model.layers.{layer}.{NAMES[part]}.{kind}"
            if part in ("attn_q", "attn_k"):
                w = unpermute(w, heads if part == "attn_q" else kv_heads)
        state[name] = torch.from_numpy(np.ascontiguousarray(w))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)     # its table was made on the meta device
    return model.eval()


def tokenizer_of(reader):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, kind in zip(tokens, types) if kind == 3])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def chat(question):
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")


@torch.no_grad()
def continue_greedily(model, prompt):
    """Logits of the prompt, then GREEDY tokens by argmax and the margin of each choice."""
    out = model(torch.tensor([prompt]), use_cache=True)
    logits, tokens, margins = out.logits[0], [], []
    last = logits[-1]
    for _ in range(GREEDY):
        top = last.topk(2)
        tokens.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
        out = model(torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        last = out.logits[0, -1]
    return logits.numpy(), tokens, margins


@torch.no_grad()
def perplexity(model, ids):
    losses = []
    for at in range(0, len(ids), WINDOW):
        window = torch.tensor([ids[at:at + WINDOW]])
        logits = model(window).logits[0, :-1].double()
        losses.append(float(torch.nn.functional.cross_entropy(logits, window[0, 1:])))
    return {"tokens": len(ids), "window": WINDOW, "value": float(np.exp(np.mean(losses))), "losses": losses}


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    reader = gguf.GGUFReader(model_path())
    model, tokenizer = load(reader), tokenizer_of(reader)
    with open(TEXT, encoding="utf-8") as f:
        text = tokenizer.encode(f.read()).ids[:TEXT_TOKENS]
    prompts, offset = [], 0
    with open(out + "/logits.bin", "wb") as f:
        for written in [chat(q) for q in CHATS] + [RAW]:
            ids = tokenizer.encode(written).ids
            logits, tokens, margins = continue_greedily(model, ids)
            rows = [0, len(ids) // 2, len(ids) - 1]
            for row in rows:
                f.write(np.ascontiguousarray(logits[row], dtype="<f4").tobytes())
            prompts.append({"tokens": ids, "rows": rows, "offset": offset, "greedy": tokens, "margins": margins,
                            "text": tokenizer.decode(tokens)})
            offset += len(rows) * logits.shape[1]
    with open(out + "/reference.json", "w") as f:
        json.dump({"text": text, "perplexity": perplexity(model, text[:PERPLEXITY_TOKENS]), "prompts": prompts}, f)


if __name__ == "__main__":
    main()
