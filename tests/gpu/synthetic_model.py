"""A Hugging Face folder of a given shape with random bf16 weights: for measuring loads and the gateway; what it says is noise.

A mebibyte of random values is written again and again, so that the disk is the only limit. Needs Python alone.
"""
import array, json, math, os, pathlib, random, struct, time

SHAPES = {                                           # hidden, feed-forward, query heads, key/value heads, head, vocabulary, layers, tied
    "8b": (4096, 14336, 32, 8, 128, 128256, 32, False),              # Llama-3.1-8B: 16 GB
    "4gb": (4096, 14336, 32, 8, 128, 128256, 7, True),               # its layers and table: 4.1 GB
    "tiny": (64, 128, 4, 2, 16, 300, 2, False),
}


def tensors(shape):
    hidden, ffn, heads, kv, head, vocab, layers, tied = SHAPES[shape]
    found = [("model.embed_tokens.weight", (vocab, hidden))]
    for i in range(layers):
        at = f"model.layers.{i}."
        found += [(at + "input_layernorm.weight", (hidden,)), (at + "post_attention_layernorm.weight", (hidden,)),
                  (at + "self_attn.q_proj.weight", (heads * head, hidden)), (at + "self_attn.k_proj.weight", (kv * head, hidden)),
                  (at + "self_attn.v_proj.weight", (kv * head, hidden)), (at + "self_attn.o_proj.weight", (hidden, heads * head)),
                  (at + "mlp.gate_proj.weight", (ffn, hidden)), (at + "mlp.up_proj.weight", (ffn, hidden)),
                  (at + "mlp.down_proj.weight", (hidden, ffn))]
    found.append(("model.norm.weight", (hidden,)))
    return found if tied else found + [("lm_head.weight", (vocab, hidden))]


def pattern():
    rng = random.Random(7)
    floats = array.array("f", (rng.gauss(0, 0.02) for _ in range(1 << 19)))
    halves = array.array("H", floats.tobytes())      # little endian: the upper half of a float is its bf16
    return halves[1::2].tobytes()


def byte_letters():
    """The letters that stand for bytes in a byte-level tokenizer (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def tokenizer(vocab):
    names = ["<unk>", "<|begin|>", "<|end|>"]
    added = [{"id": i, "content": n, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, n in enumerate(names)]
    names += byte_letters().values()
    names += [f"t{i:06d}" for i in range(vocab - len(names))]         # drawn, never read
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": bytes_,
            "post_processor": None, "decoder": bytes_,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": {n: i for i, n in enumerate(names)}, "merges": []}}


def write(folder, shape, deadline=math.inf):
    """Makes the folder; the bytes of its weights. TimeoutError when the disk does not take them until then (of time.monotonic)."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    hidden, ffn, heads, kv, head, vocab, layers, tied = SHAPES[shape]
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn, "hidden_act": "silu",
              "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head, "num_hidden_layers": layers, "vocab_size": vocab,
              "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": tied,
              "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(vocab)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin|>", "eos_token": "<|end|>"}))
    header, at, all_ = {}, 0, tensors(shape)
    for name, dims in all_:
        size = 2 * math.prod(dims)
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = pattern()
    large = noise * 64
    with open(folder / "model.safetensors", "wb", buffering=0) as file:
        def put(data):
            view = memoryview(data)
            while len(view):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the disk took {file.tell() / 1e9:.1f} of {at / 1e9:.1f} GB in time")
                view = view[file.write(view):]
        put(struct.pack("<Q", len(text)) + text)
        for name, dims in all_:
            left = 2 * math.prod(dims)
            if name.endswith("norm.weight"):
                put(struct.pack("<H", 0x3F80) * (left // 2))
                continue
            while left:
                n = min(left, len(large))
                put(memoryview(large)[:n])
                left -= n
        os.fsync(file.fileno())
    return at
