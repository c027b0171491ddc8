"""A GGUF of another shape with random Q4_0 weights and the demo model's tokenizer: random_model.py DEMO.gguf OUT.gguf [--tiny] [--fim]

28 layers, 1280 wide, 20 heads of 64 over 5 key/value heads, feed-forward of 3584, tied Q8_0 embedding: 563 M parameters.
--tiny: one layer, 64 wide: a step takes microseconds, so that what is measured is everything but the model.
--fim: three spare control tokens get the names of those that mark a hole to be filled.
For speed only; what it says means nothing. Both sides of a comparison read the same file.
"""
import pathlib, sys

import gguf
import numpy as np

TINY = "--tiny" in sys.argv
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN = (1, 64, 1, 1, 64, 128) if TINY else (28, 1280, 20, 5, 64, 3584)


def blocks(rng, rows, columns, q8=False):
    count = rows * columns // 32
    scale = np.full((count, 1), (0.5 if q8 else 8) * 0.02 / columns ** 0.5 * 12, np.float16).view(np.uint8).reshape(count, 2)
    codes = rng.integers(0, 256, (count, 32 if q8 else 16), np.uint8)
    return np.concatenate([scale, codes], axis=1).reshape(rows, -1)


def main():
    demo, out = gguf.GGUFReader(sys.argv[1]), pathlib.Path(sys.argv[2])
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(str(out) + ".part", "llama")
    writer.add_name("random tiny" if TINY else "random 560M")
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocab = len(demo.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocab)
    for name, field in demo.fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            value = field.contents()
            if name == "tokenizer.ggml.tokens" and "--fim" in sys.argv:
                names = {"<repo_name>": "<fim_prefix>", "<reponame>": "<fim_suffix>", "<file_sep>": "<fim_middle>"}
                value = [names.get(token, token) for token in value]
            writer.add_key_value(name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    tensor = lambda name, data, kind: writer.add_tensor(name, data, raw_dtype=kind)
    q4, q8, f32 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32
    tensor("token_embd.weight", blocks(rng, vocab, HIDDEN, True), q8)
    tensor("output_norm.weight", np.ones(HIDDEN, np.float32), f32)
    for i in range(LAYERS):
        at = f"blk.{i}."
        for name in ("attn_norm", "ffn_norm"):
            tensor(f"{at}{name}.weight", np.ones(HIDDEN, np.float32), f32)
        for name, rows, columns in (("attn_q", HEADS * HEAD, HIDDEN), ("attn_k", KV_HEADS * HEAD, HIDDEN), ("attn_v", KV_HEADS * HEAD, HIDDEN),
                                    ("attn_output", HIDDEN, HEADS * HEAD), ("ffn_gate", FFN, HIDDEN), ("ffn_up", FFN, HIDDEN),
                                    ("ffn_down", HIDDEN, FFN)):
            tensor(f"{at}{name}.weight", blocks(rng, rows, columns), q4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    pathlib.Path(str(out) + ".part").rename(out)


main()
