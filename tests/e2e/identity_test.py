"""`system_fingerprint`: another one whenever the numbers an answer is made of may be others, the same one whatever else an operator
changes; and the paths of instructions that this machine would not choose by itself serve as well."""
import json, os, urllib.request

import pytest

from models_test import tiny  # noqa: F401: a fixture
from plant import NAME, PLANT, PRICES, TENANTS, Plant


def complete(plant, prompt="Once upon a time there was a river", tokens=12, **more):
    body = {"model": NAME, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0.9, "seed": 5, **more}
    request = urllib.request.Request(plant.api + "/v1/completions", json.dumps(body).encode(),
                                     {"authorization": "Bearer " + plant.key(), "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def fingerprint(model, env=None, spec="", plant=PLANT, **more):
    """Of a daemon of its own: what it says with an answer, which is also what it says of the model."""
    text = plant.replace("{model}", str(model)).replace("max_sequences: 64}}", "max_sequences: 64" + spec + "}}").replace("max_sequences: 3}}", "max_sequences: 3" + spec + "}}")
    with Plant(env=env, plant=text, context=more.pop("context", 512), kv=more.pop("kv", "32MiB"), **more) as running:
        return complete(running)["system_fingerprint"]


@pytest.fixture(scope="module")
def usual(tiny):  # noqa: F811
    return fingerprint(tiny)


NOTHING = {
    "nothing at all": {},
    "how the engine runs it": {"spec": ", threads: 1, step_target: 5ms, speculation: ngram", "context": 256, "kv": "8MiB",
                               "plant": PLANT.replace("max_sequences: 64", "max_sequences: 3")},
    "everything around it": {"plant": PLANT.replace("name: test", "name: other").replace("jurisdiction: DE", "jurisdiction: FR")
                             .replace("limits: {{", "limits: {{queue_per_tenant: 3, "),
                             "prices": PRICES.replace("0.40", "0.80").replace("test-1", "test-2"),
                             "tenants": TENANTS.replace("weight: 1", "weight: 7"), "progress": "step"},
}


@pytest.mark.parametrize("changed", NOTHING)
def test_the_fingerprint_stays_whatever_else_is_changed(tiny, usual, changed):  # noqa: F811
    assert usual.startswith("fp_") and fingerprint(tiny, **NOTHING[changed]) == usual


def test_the_fingerprint_changes_with_arithmetic_instructions_and_weights(tiny, usual, tmp_path):  # noqa: F811
    other = bytearray(tiny.read_bytes())
    other[-1000] ^= 1                                # one bit of one weight
    (tmp_path / "other.gguf").write_bytes(other)
    seen = {"usual": usual, "exact": fingerprint(tiny, spec=", compute: exact"), "portable": fingerprint(tiny, env={"TOKENWORKS_CPU": "portable"}),
            "another weight": fingerprint(tmp_path / "other.gguf")}
    assert len(set(seen.values())) == len(seen), seen


@pytest.mark.parametrize("path", ["portable", "avx2", "avx512"])
def test_a_path_that_is_asked_for_serves_and_repeats_itself(path, tiny):  # noqa: F811
    flags = open("/proc/cpuinfo").read()
    if path == "avx2" and " avx2 " not in flags or path == "avx512" and " avx512_vnni " not in flags:
        pytest.skip(f"this processor has no {path}")
    real = path != "portable" or os.environ.get("TOKENWORKS_LONG")   # that one takes a minute for it
    with Plant(env={"TOKENWORKS_CPU": path}, plant=PLANT if real else PLANT.replace("{model}", str(tiny))) as running:
        assert f'"path":"{path}"' in running.log_text().replace('": "', '":"')
        one, again = complete(running), complete(running)
        other = complete(running, prompt="The parts of a steam engine are " * 8, tokens=4)
        assert one["choices"][0]["text"] == again["choices"][0]["text"]
        assert one["usage"]["completion_tokens"] == 12 and other["usage"]["completion_tokens"] == 4
        assert running.verify()["ok"]
