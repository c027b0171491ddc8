"""Tiny random-weight models with reference logits: one folder per architecture, made with transformers.

Usage: tiny_models.py OUTDIR. Writes, for each ARCH in llama llama3 llama_linear mistral qwen2 qwen2_yarn qwen3:

  OUTDIR/ARCH/hf/               config.json, safetensors (mistral: sharded; qwen3: BF16), tokenizer.json, ...
  OUTDIR/ARCH/model.gguf        the same weights as F32 (llama family: q and k rows permuted as llama.cpp's converter does)
  OUTDIR/ARCH/logits.bin        float32 little endian: for each case in order, [tokens, vocab] logits of transformers in fp32
  OUTDIR/ARCH/cases.json        {"vocab", "cases": [{"tokens": [...], "offset": first float of the case in logits.bin}],
                                 "greedy": {"prompt": [...], "tokens": [...]}}  greedy: 16 tokens by argmax, fp32
  OUTDIR/llama/model-f16.gguf, logits-f16.bin       the same prompts, weights rounded to F16
  OUTDIR/llama/model-q8_0.gguf, logits-q8_0.bin     matrices quantised to Q8_0 by the gguf package, logits of what they mean
  OUTDIR/index.json             {"models": [ARCH, ...]}

Sizes are odd on purpose: vocabularies that no 32 divides, hidden 48/80/96, GQA, head_dim unlike hidden / heads, tied and
untied heads. A sliding window of W means that a token sees itself and the W - 1 tokens before it.
"""
import collections
import copy
import json
import os
import sys

import gguf
import numpy as np
import tokenizers
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

TEXT = ["The plant turns capacity into tokens, and every token is counted where it is made.",
        "A meter, a main, a bill: the quick brown fox jumps over the lazy dog 0123456789 times.",
        "def main(argument):\n    return argument + 1\n", "Der Zähler läuft, café, naïve, Straße, 東京."] * 3
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

COMMON = dict(attention_dropout=0.0, bos_token_id=1, eos_token_id=2)
MODELS = {
    "llama": LlamaConfig(vocab_size=301, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
                         num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, **COMMON),
    "llama3": LlamaConfig(vocab_size=333, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=3,
                          num_key_value_heads=1, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
                          rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
                                           "high_freq_factor": 4.0, "original_max_position_embeddings": 64}, **COMMON),
    "llama_linear": LlamaConfig(vocab_size=299, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
                                num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=256, rms_norm_eps=1e-5,
                                tie_word_embeddings=False, attention_bias=False,
                                rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, **COMMON),
    "mistral": MistralConfig(vocab_size=307, hidden_size=80, intermediate_size=144, num_hidden_layers=4, num_attention_heads=10,
                             num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5,
                             sliding_window=24, tie_word_embeddings=False,
                             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, **COMMON),
    "qwen2": Qwen2Config(vocab_size=311, hidden_size=80, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, **COMMON),
    "qwen2_yarn": Qwen2Config(vocab_size=289, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                              num_key_value_heads=4, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=False,
                              rope_parameters={"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
                                               "original_max_position_embeddings": 64}, **COMMON),
    "qwen3": Qwen3Config(vocab_size=317, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=32, max_position_embeddings=256, rms_norm_eps=1e-6,
                         tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, **COMMON),
}
PRE = {"llama": "gpt-2", "llama3": "llama-bpe", "llama_linear": "gpt-2", "mistral": "", "qwen2": "qwen2",
       "qwen2_yarn": "qwen2", "qwen3": "qwen2"}
SPECIALS = ["<unk>", "<|im_start|>", "<|im_end|>"]


def pre_tokenizer(pre):
    pattern = {"llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                            r"\s*[\r\n]+|\s+(?!\S)|\s+",
               "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                        r"\s*[\r\n]+|\s+(?!\S)|\s+"}.get(pre)
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_tokenizer(pre, size):
    """Byte-level BPE of the family, or (pre "") SentencePiece-style BPE with byte fallback, with exactly `size` tokens."""
    if pre:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizer(pre)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIALS, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(TEXT, trainer)
        if pre == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
    else:
        text = [line.replace(" ", "▁") for line in ["▁" + line for line in TEXT]]
        trained = Tokenizer(models.BPE())
        # The trainer cuts an alphabet among letters that are as frequent by chance: it is told which ones stay.
        count = collections.Counter("".join(text))
        letters = sorted(count, key=lambda c: (-count[c], c))[:24]
        trained.train_from_iterator(text, trainers.BpeTrainer(vocab_size=size - 259, show_progress=False, limit_alphabet=24,
                                                              initial_alphabet=letters))
        body = json.loads(trained.to_str())["model"]
        pieces = sorted(body["vocab"], key=body["vocab"].get)
        names = SPECIALS + [f"<0x{b:02X}>" for b in range(256)] + pieces
        merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in body["merges"]]
        tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, merges, unk_token="<unk>", fuse_unk=True,
                                         byte_fallback=True))
        tokenizer.add_special_tokens(SPECIALS)
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
        tokenizer.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    assert tokenizer.get_vocab_size() == size, (pre, size, tokenizer.get_vocab_size())
    return tokenizer


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                p.copy_(0.3 * noise)
            elif "embed" in name or "lm_head" in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise * (1.4 / p.shape[1] ** 0.5))


GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
              "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    stem, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{kind}"


def permute(w, heads):
    """What llama.cpp's convert_hf_to_gguf does to q and k of llama-family models (its rope pairs neighbours)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(config):
    r = config.rope_parameters
    inverse = 1.0 / r["rope_theta"] ** (np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim)
    low = r["original_max_position_embeddings"] / r["low_freq_factor"]
    high = r["original_max_position_embeddings"] / r["high_freq_factor"]
    factors = []
    for length in 2 * np.pi / inverse:
        if length < high:
            factors.append(1.0)
        elif length > low:
            factors.append(r["factor"])
        else:
            smooth = (r["original_max_position_embeddings"] / length - r["low_freq_factor"]) / (
                r["high_freq_factor"] - r["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def add_tokenizer(writer, arch, tokenizer):
    size = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(i) for i in range(size)]
    writer.add_token_list(tokens)
    if PRE[arch]:
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE[arch])
        writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (size - 3))
        writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
        writer.add_add_bos_token(False)
    else:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(size - 259)])
        writer.add_token_types([gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256 +
                               [gguf.TokenType.NORMAL] * (size - 259))
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(True)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHATML)


def write_gguf(path, arch, config, state, tokenizer, quantization=None):
    """Returns the state that the file means: HF names, HF row order, dequantised."""
    family = "llama" if arch.startswith(("llama", "mistral")) else config.model_type
    writer = gguf.GGUFWriter(path, family)
    writer.add_name("tiny " + arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if family == "llama":
        writer.add_rope_dimension_count(head_dim)
    if head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch == "mistral":
        writer.add_sliding_window(config.sliding_window)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    add_tokenizer(writer, arch, tokenizer)
    meant = {}
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    for name, tensor in state.items():
        w = tensor.to(torch.float32).numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
            name.split(".")[-2] if family == "llama" else "", 0)
        if heads:
            w = permute(w, heads)
        if quantization and w.ndim == 2:
            kind = getattr(gguf.GGMLQuantizationType, quantization)
            packed = gguf.quants.quantize(w, kind)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=kind)
            w = gguf.quants.dequantize(packed, kind).reshape(w.shape)
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(w))
        meant[name] = torch.from_numpy(np.ascontiguousarray(unpermute(w, heads) if heads else w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def logits_of(model, prompts):
    with torch.no_grad():
        return [model(torch.tensor([p])).logits[0].to(torch.float32).numpy() for p in prompts]


def write_logits(path, logits):
    with open(path, "wb") as f:
        for rows in logits:
            f.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())


def make(arch, config, out):
    os.makedirs(out, exist_ok=True)
    seed = 1000 + list(MODELS).index(arch)
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).to(torch.float32).eval()
    randomize(model, seed)
    if arch == "qwen3":                      # weights that BF16 holds exactly; the model itself stays fp32 (its buffers too)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.to(torch.bfloat16))
    tokenizer = make_tokenizer(PRE[arch], config.vocab_size)
    shards = {"max_shard_size": "120KB"} if arch == "mistral" else {}
    stored = copy.deepcopy(model).to(torch.bfloat16) if arch == "qwen3" else model
    stored.save_pretrained(out + "/hf", **shards)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<|im_start|>", eos_token="<|im_end|>",
                            chat_template=CHATML).save_pretrained(out + "/hf")
    state = dict(model.state_dict())
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)

    random = np.random.default_rng(seed)
    prompts = [[int(t) for t in random.integers(3, config.vocab_size, n)] for n in (1, 5, 17, 33, 90)]
    prompts[1] = tokenizer.encode("The plant counts.", add_special_tokens=False).ids
    logits = logits_of(model, prompts)
    write_logits(out + "/logits.bin", logits)
    cases, offset = [], 0
    for prompt in prompts:
        cases.append({"tokens": prompt, "offset": offset})
        offset += len(prompt) * config.vocab_size
    made = list(prompts[2])
    for _ in range(16):
        made.append(int(logits_of(model, [made])[0][-1].argmax()))
    with open(out + "/cases.json", "w") as f:
        json.dump({"vocab": config.vocab_size, "cases": cases,
                   "greedy": {"prompt": prompts[2], "tokens": made[len(prompts[2]):]}}, f)

    meant = write_gguf(out + "/model.gguf", arch, config, state, tokenizer)
    assert all(torch.equal(meant[n], state[n]) for n in state)
    if arch == "llama":
        for kind in ("F16", "Q8_0"):
            meant = write_gguf(f"{out}/model-{kind.lower()}.gguf", arch, config, state, tokenizer, kind)
            model.load_state_dict(meant)
            write_logits(f"{out}/logits-{kind.lower()}.bin", logits_of(model, prompts))


def main():
    out = sys.argv[1]
    torch.set_num_threads(1)
    os.makedirs(out, exist_ok=True)
    for arch, config in MODELS.items():
        make(arch, config, f"{out}/{arch}")
    with open(out + "/index.json", "w") as f:
        json.dump({"models": list(MODELS)}, f)


if __name__ == "__main__":
    main()
