"""Writes the seeds of the corpus that are no text: small GGUF and safetensors files. Usage: seeds.py (from the repository).

Tiny GGUF models are built field by field here (the format: ggml, docs/gguf.md), so that no package decides what is in them."""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    return {U32: lambda: struct.pack("<I", v), I32: lambda: struct.pack("<i", v), F32: lambda: struct.pack("<f", v), BOOL: lambda: struct.pack("<?", v),
            U64: lambda: struct.pack("<Q", v), STRING: lambda: text(v),
            ARRAY: lambda: struct.pack("<IQ", v[0], len(v[1])) + b"".join(value(v[0], x) for x in v[1])}[kind]()


def gguf(arch, kinds, tensors, tokens):
    data, table = b"", b""
    for name, dims in tensors:
        data += b"\0" * (-len(data) % 32)
        table += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", 0, len(data))
        n = 4
        for d in dims:
            n *= d
        data += b"\0" * n
    meta = [("general.architecture", STRING, arch)] + [(arch + "." + k, t, v) for k, t, v in kinds] + tokens
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + b"".join(text(k) + struct.pack("<I", t) + value(t, v) for k, t, v in meta) + table
    return head + b"\0" * (-len(head) % 32) + data


SIZES = [("block_count", U32, 1), ("context_length", U32, 64), ("embedding_length", U32, 8), ("feed_forward_length", U32, 12), ("attention.head_count", U32, 2),
         ("attention.head_count_kv", U32, 1), ("attention.layer_norm_rms_epsilon", F32, 1e-5)]
BPE = [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "gpt-2"), ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<|im_end|>", "a", "b", "ab"])),
       ("tokenizer.ggml.token_type", ARRAY, (I32, [3, 1, 1, 1])), ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b"])), ("tokenizer.ggml.eos_token_id", U32, 0),
       ("tokenizer.ggml.add_bos_token", BOOL, False), ("tokenizer.chat_template", STRING, "{% for m in messages %}{{ m.content }}{% endfor %}")]
SPM = [("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<unk>", "<s>", "</s>", "<0x61>", "▁", "a", "▁a", "b"])),
       ("tokenizer.ggml.scores", ARRAY, (F32, [0.0, 0.0, 0.0, -9.0, -1.0, -2.0, -0.5, -3.0])), ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 6, 1, 1, 1, 1])),
       ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2), ("tokenizer.ggml.unknown_token_id", U32, 0)]


def layer(vocab, bias):
    tensors = [("token_embd.weight", [8, vocab]), ("output_norm.weight", [8]), ("blk.0.attn_norm.weight", [8]), ("blk.0.attn_q.weight", [8, 8]),
               ("blk.0.attn_k.weight", [8, 4]), ("blk.0.attn_v.weight", [8, 4]), ("blk.0.attn_output.weight", [8, 8]), ("blk.0.ffn_norm.weight", [8]),
               ("blk.0.ffn_gate.weight", [8, 12]), ("blk.0.ffn_up.weight", [8, 12]), ("blk.0.ffn_down.weight", [12, 8])]
    return tensors + ([("blk.0.attn_q.bias", [8]), ("blk.0.attn_k.bias", [4]), ("blk.0.attn_v.bias", [4])] if bias else [])


def safetensors(header, data):
    h = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(h)) + h + data


def main():
    files = {
        "gguf/llama": gguf("llama", SIZES + [("rope.freq_base", F32, 10000.0), ("rope.dimension_count", U32, 4)], layer(4, False), BPE),
        "gguf/qwen2": gguf("qwen2", SIZES, layer(8, True), SPM),
        "gguf/head_only": gguf("llama", SIZES, [], BPE)[:200],
        "safetensors/two": safetensors({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                                        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]}}, b"\0" * 22),
        "safetensors/empty": safetensors({"e": {"dtype": "I64", "shape": [0, 3], "data_offsets": [0, 0]}}, b""),
        "safetensors/lie": safetensors({"a": {"dtype": "F16", "shape": [9223372036854775807, 2], "data_offsets": [0, 8]}}, b"\0" * 8),
    }
    for name, data in files.items():
        (CORPUS / name).parent.mkdir(parents=True, exist_ok=True)
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
