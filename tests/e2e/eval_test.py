"""`tokenworks eval`, the operator's gate for a model and a text: what the default costs, that exact costs nothing, and plain refusals."""
import json, resource, subprocess

from plant import BIN, MODEL

TEXT = "/usr/share/common-licenses/GPL-3"


def evaluate(*flags, **more):
    return subprocess.run([BIN, "eval", "--model", MODEL, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, **more)


def test_eval_measures_each_arithmetic_against_the_exact_path():
    found = {}
    for scheme in ("default", "q8_1", "exact", "int8-row"):
        done = evaluate("--text", TEXT, "--tokens", "192", "--scheme", scheme, "--json")
        assert done.returncode == 0, done.stderr
        found[scheme] = json.loads(done.stdout)
    assert found["exact"]["mean_kl"] < 1e-9 and found["exact"]["top1_agreement"] == 1
    assert 1e-4 < found["default"]["mean_kl"] < 1.5 * found["q8_1"]["mean_kl"]          # the gate itself takes 6,144 tokens
    assert found["int8-row"]["mean_kl"] > 4 * found["default"]["mean_kl"]               # and the measure tells schemes apart
    assert len({e["reference_perplexity"] for e in found.values()}) == 1


def test_eval_says_what_is_wrong(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    for flags, said in ((("--text", str(tmp_path / "none.txt")), "cannot be read"), (("--text", str(tmp_path / "empty.txt")), "token"),
                        (("--text", str(tmp_path)), "is a directory"), (("--text", TEXT, "--threads", "-3"), "--threads"),
                        (("--text", TEXT, "--threads", "100000"), "--threads"), (("--text", TEXT, "--window", "8193"), "context of 8192"),
                        (("--text", TEXT, "--tokens", "32", "--scheme", "int8-gx"), "int8-gx")):
        done = evaluate(*flags)
        assert done.returncode not in (0, None) and done.returncode > 0 and said in done.stderr + done.stdout, (flags, done)


def test_what_was_not_measured_is_null_and_not_a_zero_that_passes_a_gate():
    done = evaluate("--text", TEXT, "--tokens", "32", "--no-reference", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["perplexity"] > 1 and found["tokens"] == 31
    assert [name for name, value in found.items() if value is None] == [
        "reference_perplexity", "change_percent", "change_error_percent", "mean_kl", "largest_kl", "top1_agreement", "largest_logit_difference"]


def test_threads_that_the_system_does_not_give_are_said_and_no_abort():
    done = evaluate("--text", TEXT, "--tokens", "8", "--threads", "1000",
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)))   # stacks of 8 MiB do not fit
    assert done.returncode == 2 and "1000 compute threads cannot be started" in done.stderr, done
