"""`tokenworks models pull` against a fake Hub: the real binary (TOKENWORKS_BIN), real sockets, the real cache layout.

The command line under test: `models pull SOURCE [--sha256 HEX] [--output PATH] [--json]`. With --json, stdout is one
object {"path", "bytes_fetched", "revision"}; progress goes to stderr. An error is exit code 1 or 2 and a message.
"""
import hashlib
import json
import os
import subprocess
import sys

import huggingface_hub as hub_package  # the reference reader of the cache
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from fake_hub import COMMIT, FakeHub, Proxy, git_hash  # noqa: E402

WEIGHTS = bytes(i * 131 % 251 for i in range(400_000))
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def binary():
    path = os.environ.get("TOKENWORKS_BIN", "")
    assert os.path.isfile(path), "set TOKENWORKS_BIN to the tokenworks binary"
    return path


def pull(binary, tmp_path, source, *options, endpoint="http://127.0.0.1:9", cwd=None, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    clean.update(HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hf"), TOKENWORKS_CACHE=str(tmp_path / "own"), **environment)
    return subprocess.run([binary, "models", "pull", source, *options, "--json"], env=clean, cwd=cwd, capture_output=True, text=True, timeout=60)


def good(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def refused(result):
    assert result.returncode in (1, 2), (result.returncode, result.stdout, result.stderr)
    return result.stderr + result.stdout


def test_a_gguf_file_is_resumed_verified_and_linked(binary, tmp_path):
    with FakeHub({"m.gguf": WEIGHTS}, cuts=2, cut_after=150_000) as hub:
        out = good(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint=hub.endpoint))
        assert out["revision"] == COMMIT and out["bytes_fetched"] == len(WEIGHTS)
        ranges = [h.get("Range") for s, m, _, h in hub.requests if s == "content" and m == "GET"]
        assert ranges == [None, "bytes=150000-", "bytes=300000-"]
        base = tmp_path / "hf" / "hub" / "models--org--model"
        assert out["path"] == str(base / "snapshots" / COMMIT / "m.gguf")
        assert os.readlink(out["path"]) == f"../../blobs/{DIGEST}"
        assert (base / "blobs" / DIGEST).read_bytes() == WEIGHTS
        assert (base / "refs" / "main").read_text() == COMMIT
        assert good(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint=hub.endpoint))["bytes_fetched"] == 0
    offline = good(pull(binary, tmp_path, "hf:org/model:m.gguf", HF_HUB_OFFLINE="1"))
    assert offline["path"] == out["path"]


def test_the_cache_is_the_one_huggingface_hub_reads(binary, tmp_path):
    files = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "README.md": b"no"}
    with FakeHub(files) as hub:
        out = good(pull(binary, tmp_path, "hf:org/model", endpoint=hub.endpoint))
    assert sorted(os.listdir(out["path"])) == ["config.json", "model.safetensors", "tokenizer.json"]
    cache = str(tmp_path / "hf" / "hub")
    assert hub_package.try_to_load_from_cache("org/model", "model.safetensors", cache_dir=cache) == out["path"] + "/model.safetensors"
    repository, = hub_package.scan_cache_dir(cache).repos
    assert repository.repo_id == "org/model" and repository.nb_files == 3
    blobs = tmp_path / "hf" / "hub" / "models--org--model" / "blobs"
    assert sorted(os.listdir(blobs)) == sorted([DIGEST, git_hash(b'{"a": 1}'), git_hash(b"{}")])


def test_the_token_stays_with_the_endpoint(binary, tmp_path):
    with FakeHub({"m.gguf": WEIGHTS}, token="hf_secret") as hub:
        assert "HF_TOKEN" in refused(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint=hub.endpoint))
        good(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint=hub.endpoint, HF_TOKEN="hf_secret"))
        content = [h for s, _, _, h in hub.requests if s == "content"]
        assert content and not any("hf_secret" in str(h) for h in content)


def test_a_wrong_hash_leaves_nothing_behind(binary, tmp_path):
    with FakeHub({"m.gguf": WEIGHTS}) as hub:
        url = f"http://127.0.0.1:{hub.content.server_port}/{DIGEST}"
        message = refused(pull(binary, tmp_path, url, "--sha256", "0" * 64))
        assert DIGEST in message and "expected" in message
        assert not any(files for _, _, files in os.walk(tmp_path))
        target = tmp_path / "mine.gguf"
        assert good(pull(binary, tmp_path, url, "--sha256", DIGEST, "--output", str(target)))["path"] == str(target)
        assert target.read_bytes() == WEIGHTS
        assert good(pull(binary, tmp_path, url, "--output", "bare.gguf", cwd=tmp_path))["path"] == "bare.gguf"
        assert (tmp_path / "bare.gguf").read_bytes() == WEIGHTS


def test_several_gguf_files_are_listed(binary, tmp_path):
    with FakeHub({"q4.gguf": b"4", "q8.gguf": b"8"}) as hub:
        message = refused(pull(binary, tmp_path, "hf:org/model", endpoint=hub.endpoint))
        assert "hf:org/model:q4.gguf" in message and "hf:org/model:q8.gguf" in message


def test_what_is_not_there_is_said_plainly(binary, tmp_path):
    with FakeHub({"m.gguf": WEIGHTS}) as hub:
        assert "no such file" in refused(pull(binary, tmp_path, "hf:org/model:none.gguf", endpoint=hub.endpoint))
        for missing in (f"http://127.0.0.1:{hub.content.server_port}/none.gguf",):
            (tmp_path / "mine").mkdir(exist_ok=True)
            refused(pull(binary, tmp_path, missing, "--output", str(tmp_path / "mine" / "none.gguf")))
            assert os.listdir(tmp_path / "mine") == [], "an empty .part of nothing is left behind"
        assert "no such file" in refused(pull(binary, tmp_path, str(tmp_path / "none.gguf")))
        assert "only allowed to this machine" in refused(pull(binary, tmp_path, "http://models.example/m.gguf"))


def test_a_proxy_is_used_as_the_environment_says(binary, tmp_path):
    with FakeHub({"m.gguf": WEIGHTS}) as hub, Proxy({"hub.test": hub.api.server_port}, hub.content.server_port) as proxy:
        out = good(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint="http://hub.test", http_proxy=proxy.url))
        assert out["bytes_fetched"] == len(WEIGHTS) and open(out["path"], "rb").read() == WEIGHTS
        assert set(proxy.urls) == {"http://hub.test/org/model/resolve/main/m.gguf", f"http://hub.test/content/{DIGEST}"}


def test_https_goes_through_a_tunnel_of_the_proxy_and_no_proxy_keeps_it_out(binary, tmp_path):
    with Proxy({}, 0) as proxy:
        message = refused(pull(binary, tmp_path, "https://models.test/m.gguf", https_proxy=proxy.url))
        asked = len(proxy.urls)                      # it tries again a few times
        assert set(proxy.urls) == {"models.test:443"} and "models.test" in message
        refused(pull(binary, tmp_path, "https://models.test/m.gguf", https_proxy=proxy.url, no_proxy="models.test"))
        assert len(proxy.urls) == asked
    with FakeHub({"m.gguf": WEIGHTS}) as hub, Proxy({}, 0) as proxy:   # this machine is never asked of a proxy
        good(pull(binary, tmp_path, "hf:org/model:m.gguf", endpoint=hub.endpoint, http_proxy=proxy.url))
        assert proxy.urls == []
