"""Reference dequantisation of every block type, by the gguf package.

Usage: quants.py OUTDIR. Writes per type T: OUTDIR/T.blocks (raw blocks) and OUTDIR/T.values (float32 little endian), and
index.json {"types": {T: number of values}}. The blocks are random bytes under scales that cover the edges: zero, minus
zero, subnormal, smallest and largest normal halves, infinities and NaN; then blocks the package quantised itself.
"""
import json
import os
import sys

import gguf
import numpy as np

EDGES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x1234],
                 dtype=np.uint16)
# byte offsets of the half-precision fields of a block
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
QUANTISED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "BF16", "F16"]


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    random = np.random.default_rng(20260801)
    index = {}
    for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]:
        kind = getattr(gguf.GGMLQuantizationType, name)
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        if elements == 1:
            raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8) if size == 2 else random.integers(0, 256, 65536, dtype=np.uint8)
        else:
            blocks = random.integers(0, 256, (600, size), dtype=np.uint8)
            for i, block in enumerate(blocks):
                for at in HALVES[name]:
                    half = random.choice(EDGES) if i % 3 == 0 else np.float16(random.normal() * 0.1).view(np.uint16)
                    block[at:at + 2] = np.frombuffer(np.uint16(half).tobytes(), np.uint8)
            blocks[0] = 0
            blocks[1] = 255
            raw = blocks.reshape(-1)
        if name in QUANTISED:
            values = random.standard_normal((8, 512)).astype(np.float32) * np.float32(0.05)
            values[0] = 0
            values[1, :32] = 1e-6
            raw = np.concatenate([raw, gguf.quants.quantize(values, kind).view(np.uint8).reshape(-1)])
        if name == "F32":
            values = raw.view(np.float32)
        elif name == "F16":
            values = raw.view(np.float16).astype(np.float32)
        else:
            with np.errstate(all="ignore"):
                values = gguf.quants.dequantize(raw.reshape(1, -1), kind).reshape(-1)
        raw.tofile(f"{out}/{name}.blocks")
        values.astype("<f4").tofile(f"{out}/{name}.values")
        index[name] = int(values.size)
    with open(out + "/index.json", "w") as f:
        json.dump({"types": index}, f)


if __name__ == "__main__":
    main()
