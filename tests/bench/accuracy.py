"""What arithmetic costs in accuracy, on the real kernels, through `tokenworks eval`: the gate of the default scheme.

  tests/bench/run --accuracy [--tokens 6144] [--types] [--model FILE]

Two fixed texts (GPL-3 of Debian's common-licenses; CPython 3.11's statistics.py), windows of 512, against the exact fp32 path. The
default must have at most 1.05 times the mean KL of the peer's own arithmetic (Q8_1, emulated over the exact path) and a perplexity
within +0.5 %. Other roundings of activations stand beside them. --types: the same for whole models requantised to every type of
weights (made one by one, 90-270 MB each, and deleted again). Ends with 1 when the default misses the gate."""
import argparse, json, os, pathlib, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))

KL_LIMIT, PERPLEXITY_LIMIT = 1.05, 0.5
SCHEMES = ("default", "q8_1", "int8-g16", "int8-g64", "int8-g96", "int8-row", "int16-row")


def evaluate(model, text, tokens, scheme):
    command = [os.environ["TOKENWORKS_BIN"], "eval", "--model", str(model), "--text", str(text), "--tokens", str(tokens), "--scheme", scheme, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def compare(model, texts, tokens, schemes, label):
    """Prints a line per text and scheme; returns what misses the gate."""
    missed = []
    for name, path in texts.items():
        found = {scheme: evaluate(model, path, tokens, scheme) for scheme in schemes}
        for scheme, e in found.items():
            ratio = e["mean_kl"] / found["q8_1"]["mean_kl"]
            verdict = ""
            if scheme == "default":
                good = ratio <= KL_LIMIT and e["change_percent"] <= PERPLEXITY_LIMIT
                verdict = "met" if good else "MISSED"
                if not good:
                    missed.append(f"{label}, {name}")
            print(f"| {label} | {name} | {scheme} | {e['reference_perplexity']:.3f} | {e['change_percent']:+.2f} +- {e['change_error_percent']:.2f} | "
                  f"{e['mean_kl']:.2e} | {ratio:.2f} | {100 * e['top1_agreement']:.1f} | {e['largest_logit_difference']:.2f} | {verdict} |", flush=True)
    return missed


def main():
    import gguf
    import weight_types
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=6144)
    parser.add_argument("--types", action="store_true")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path(os.environ["TOKENWORKS_DEMO_MODEL"]))
    parser.add_argument("--schemes", type=lambda s: s.split(","), default=list(SCHEMES))
    options = parser.parse_args()
    texts = {"GPL-3": weight_types.gpl_text(), "statistics.py": weight_types.code_text()}
    print("| weights | text | activations | perplexity, exact | change % | mean KL | KL to Q8_1's | same choice % | largest logit difference | gate |\n"
          "|---|---|---|---|---|---|---|---|---|---|")
    missed = compare(options.model, texts, options.tokens, options.schemes, options.model.name)
    if options.types:
        reader = gguf.GGUFReader(options.model)
        with tempfile.TemporaryDirectory() as folder:
            for kind in weight_types.TYPES:
                made = pathlib.Path(folder, f"{kind.name}.gguf")
                weight_types.build(reader, str(made), kind, reader.fields["llama.block_count"].contents(), 49152)
                missed += compare(made, texts, options.tokens, ["default", "q8_1"], kind.name)
                made.unlink()
    if missed:
        print("\nthe default misses the gate: " + "; ".join(missed))
    sys.exit(1 if missed else 0)


main()
