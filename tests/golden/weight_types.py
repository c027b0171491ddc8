"""The demo model's weights in every type we read, small enough for a test, and the two fixed texts of the accuracy gate.

Usage: weight_types.py OUTDIR. Writes

  OUTDIR/texts.json   {"gpl": ids, "code": ids}: the first 6,144 tokens of the GPL-3 text (Debian's common-licenses) and of CPython
                      3.11's statistics.py, found in a Python installation and checked by hash
  OUTDIR/TYPE.gguf    for q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, f16, bf16: the first layers of the demo model, every
                      matrix requantised to TYPE, with the first tokens of its vocabulary only

K-quants need rows of whole 256: the model is widened with zeros from 576 to 768 channels (and 9 to 12 heads), which changes no
result but needs norms times sqrt(576/768), since a mean over 768 channels is smaller. tests/bench/accuracy.py makes whole models
with `build`. The gguf package quantises the plain types; the K-quants here round to nearest and are checked by its dequantiser.
"""
import glob
import hashlib
import json
import os
import pathlib
import sys
import sysconfig

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import smollm2_reference as demo  # noqa: E402

GPL = "/usr/share/common-licenses/GPL-3"
GPL_SHA256 = "3972dc9744f6499f0f9b2dbf76696f2ae7ad8af9b23dde66d6af86c9dfb36986"
CODE_SHA256 = "889a066f1b8063e73387ceb84018efc507a89b365b56c6afb9cc15b2ed25c2d9"
TYPES = [Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.F16, Q.BF16]
TEXT_TOKENS, LAYERS, VOCAB = 6144, 3, 4096
HEADS, KV_HEADS, HEAD, HIDDEN, WIDE = 9, 3, 64, 576, 768


def code_text():
    """CPython 3.11's statistics.py, from the running Python or any other on this machine."""
    places = [sysconfig.get_paths()["stdlib"] + "/statistics.py", "/usr/lib/python3.11/statistics.py",
              *glob.glob("/usr/local/lib/python3*/statistics.py"), *glob.glob(os.path.expanduser("~/.pyenv/versions/3.11*/lib/python3.11/statistics.py"))]
    for place in places:
        if os.path.exists(place) and hashlib.sha256(pathlib.Path(place).read_bytes()).hexdigest() == CODE_SHA256:
            return place
    sys.exit("CPython 3.11's statistics.py was not found; install Debian's libpython3.11-stdlib")


def gpl_text():
    if hashlib.sha256(pathlib.Path(GPL).read_bytes()).hexdigest() != GPL_SHA256:
        sys.exit(GPL + " is not the text of Debian 12")
    return GPL


def pack_k_scales(scales, mins):                       # [blocks, 8] each, 6 bits
    out = np.empty((len(scales), 12), np.uint8)
    out[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    out[:, 4:8] = mins[:, :4] | (mins[:, 4:] >> 4) << 6
    out[:, 8:12] = (scales[:, 4:] & 15) | (mins[:, 4:] & 15) << 4
    return out


def quantize_k_offset(x, bits):                        # Q4_K, Q5_K
    groups = x.reshape(-1, 8, 32)
    lowest = np.minimum(groups.min(2), 0)
    scale = (groups.max(2) - lowest) / (2 ** bits - 1)
    d = (scale.max(1) / 63).astype(np.float16)
    dmin = (-lowest.min(1) / 63).astype(np.float16)
    ratio = lambda a, b: np.divide(a, b[:, None].astype(np.float32), out=np.zeros_like(a), where=b[:, None] > 0)
    scales, mins = (np.clip(np.rint(ratio(a, b)), 0, 63).astype(np.uint8) for a, b in ((scale, d), (-lowest, dmin)))
    step = d.astype(np.float32)[:, None] * scales
    shifted = groups + (dmin.astype(np.float32)[:, None] * mins)[:, :, None]
    codes = np.clip(np.rint(np.divide(shifted, step[:, :, None], out=np.zeros_like(shifted), where=step[:, :, None] > 0)), 0, 2 ** bits - 1)
    codes = codes.astype(np.uint8)
    low = (codes[:, 0::2] & 15) | (codes[:, 1::2] & 15) << 4
    parts = [d.view(np.uint8).reshape(-1, 2), dmin.view(np.uint8).reshape(-1, 2), pack_k_scales(scales, mins)]
    if bits == 5:
        parts.append(np.bitwise_or.reduce((codes >> 4) << np.arange(8, dtype=np.uint8)[None, :, None], axis=1))
    return np.concatenate(parts + [low.reshape(-1, 128)], axis=1)


def quantize_q6_k(x):
    groups = x.reshape(-1, 16, 16)
    scale = np.abs(groups).max(2) / 31
    d = (scale.max(1) / 127).astype(np.float16)
    scales = np.clip(np.rint(scale / np.maximum(d.astype(np.float32), 1e-12)[:, None]), 0, 127).astype(np.int8)
    step = (d.astype(np.float32)[:, None] * scales)[:, :, None]
    codes = np.clip(np.rint(np.divide(groups, step, out=np.zeros_like(groups), where=step > 0)), -32, 31).astype(np.int8) + 32
    q = codes.astype(np.uint8).reshape(-1, 2, 4, 32)   # side, quarter
    low = np.concatenate([(q[:, :, 0] & 15) | (q[:, :, 2] & 15) << 4, (q[:, :, 1] & 15) | (q[:, :, 3] & 15) << 4], axis=2)
    high = q[:, :, 0] >> 4 | (q[:, :, 1] >> 4) << 2 | (q[:, :, 2] >> 4) << 4 | (q[:, :, 3] >> 4) << 6
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scales.view(np.uint8), d.view(np.uint8).reshape(-1, 2)], axis=1)


def quantize(x, kind):
    x = np.ascontiguousarray(x, np.float32)
    if kind in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
        blocks = quantize_q6_k(x) if kind == Q.Q6_K else quantize_k_offset(x, 4 if kind == Q.Q4_K else 5)
        data = blocks.reshape(x.shape[0], -1)
    else:
        data = gguf.quants.quantize(x, kind)
    error = np.sqrt(np.mean((gguf.quants.dequantize(data, kind).reshape(x.shape) - x) ** 2) / np.mean(x ** 2))
    assert error < (0.15 if "4" in kind.name else 0.08), (kind, error)
    return data


def widen(x, rows=None, columns=None):
    out = np.zeros((rows or x.shape[0], columns or x.shape[1]), np.float32)
    out[:x.shape[0], :x.shape[1]] = x
    return out


def build(reader, out, kind, layers, vocab):
    """`layers` of the demo model with every matrix as `kind`, its first `vocab` tokens, widened to 768."""
    tensors = {t.name: t for t in reader.tensors}
    values = lambda name: gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float32)
    field = lambda name: reader.fields[name].contents()
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(f"demo {kind.name}")
    writer.add_context_length(field("llama.context_length"))
    writer.add_embedding_length(WIDE)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(field("llama.feed_forward_length"))
    writer.add_head_count(HEADS * WIDE // HIDDEN)
    writer.add_head_count_kv(KV_HEADS * WIDE // HIDDEN)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(field("llama.rope.freq_base"))
    writer.add_layer_norm_rms_eps(field("llama.attention.layer_norm_rms_epsilon") * HIDDEN / WIDE)
    writer.add_vocab_size(vocab)
    tokens = field("tokenizer.ggml.tokens")[:vocab]
    known = set(tokens)
    for name, f in reader.fields.items():
        if not name.startswith("tokenizer."):
            continue
        value = f.contents()
        if name.endswith((".tokens", ".token_type", ".scores")):
            value = value[:vocab]
        elif name.endswith(".merges"):
            value = [m for m in value if m.replace(" ", "") in known and all(p in known for p in m.split(" "))]
        writer.add_key_value(name, value, f.types[0], f.types[-1] if f.types[0] == gguf.GGUFValueType.ARRAY else None)
    matrix = lambda name, x: writer.add_tensor(name, quantize(x, kind), raw_dtype=kind)
    shrink = np.float32((HIDDEN / WIDE) ** 0.5)

    def norm(name):
        wide = np.zeros(WIDE, np.float32)
        wide[:HIDDEN] = values(name) * shrink
        writer.add_tensor(name, wide)

    matrix("token_embd.weight", widen(values("token_embd.weight")[:vocab], columns=WIDE))
    norm("output_norm.weight")
    for i in range(layers):
        at = f"blk.{i}."
        norm(at + "attn_norm.weight")
        norm(at + "ffn_norm.weight")
        for name, rows in (("attn_q", WIDE), ("attn_k", WIDE // 3), ("attn_v", WIDE // 3), ("attn_output", WIDE), ("ffn_gate", None), ("ffn_up", None)):
            matrix(f"{at}{name}.weight", widen(values(f"{at}{name}.weight"), rows, WIDE))
        matrix(at + "ffn_down.weight", widen(values(at + "ffn_down.weight"), rows=WIDE))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def texts(reader):
    tokenizer = demo.tokenizer_of(reader)
    return {name: tokenizer.encode(open(path, encoding="utf-8").read()).ids[:TEXT_TOKENS]
            for name, path in (("gpl", gpl_text()), ("code", code_text()))}


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(demo.model_path())
    (out / "texts.json").write_text(json.dumps(texts(reader)))
    for kind in TYPES:
        build(reader, str(out / f"{kind.name.lower()}.gguf"), kind, LAYERS, VOCAB)


if __name__ == "__main__":
    main()
