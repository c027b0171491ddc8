"""The model digest, computed from docs/model_digest.md alone with hashlib.

Usage: model_digest.py OUTDIR. Writes OUTDIR/case_N/PART... (small files and ones around the 8 MiB chunk border) and
OUTDIR/index.json {"cases": [{"files": [...], "digest": hex}]}. The files are sparse repetitions, so they cost little.
"""
import hashlib
import json
import os
import sys

CHUNK = 8 * 1024 * 1024


def tree(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def digest(paths):
    leaves = []
    for path in paths:
        with open(path, "rb") as f:
            while chunk := f.read(CHUNK):
                leaves.append(hashlib.sha256(b"\x00" + chunk).digest())
    return tree(leaves).hex()


def main():
    out = sys.argv[1]
    cases = []
    sizes = [[0], [1], [100, 0, 7], [CHUNK], [CHUNK + 1], [CHUNK - 1, 3], [2 * CHUNK, CHUNK + 5, 12], [5 * CHUNK + 17]]
    for number, parts in enumerate(sizes):
        folder = f"{out}/case_{number}"
        os.makedirs(folder, exist_ok=True)
        files = []
        for i, size in enumerate(parts):
            path = f"{folder}/part_{i}"
            pattern = hashlib.sha512(f"{number} {i}".encode()).digest()
            with open(path, "wb") as f:
                f.truncate(size)
                for at in range(0, size, 1 << 20):
                    f.seek(at)
                    f.write(pattern[:size - at])
            files.append(f"case_{number}/part_{i}")
        cases.append({"files": files, "digest": digest([f"{out}/{p}" for p in files])})
    with open(out + "/index.json", "w") as f:
        json.dump({"cases": cases}, f)


if __name__ == "__main__":
    main()
