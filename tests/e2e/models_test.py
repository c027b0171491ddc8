"""Models come and go in a running plant: no stream is dropped, everything is billed exactly on the model it ran on, a mistake
changes nothing, and the memory of what left goes back."""
import json, pathlib, signal, subprocess, sys, threading, urllib.error, urllib.request

import pytest

from front_test import books, eventually, get, post
from plant import MODEL, NAME, PLANT, Plant

SECOND = "second-model"
MODELS = ('  - {{id: ' + SECOND + ', path: "{tiny}", context_tokens: 512, kv_cache: 32MiB, max_sequences: 16, load: false}}\nprices: prices.yaml')
PRICES = f"""version: "models-1"
models:
  {NAME}: {{input: 1, cached_input: 0.5, output: 2}}
  {SECOND}: {{input: 3, cached_input: 1, output: 5}}
tiers: {{priority: 1, standard: 1, batch: 1}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Another model with the demo model's tokenizer, whose step takes microseconds."""
    out = tmp_path_factory.mktemp("models") / "tiny.gguf"
    script = pathlib.Path(__file__).resolve().parents[1] / "bench/random_model.py"
    subprocess.run([sys.executable, script, MODEL, out, "--tiny"], check=True)
    return out


@pytest.fixture(scope="module")
def own(tiny):
    with Plant(prices=PRICES, context=512, kv="64MiB", plant=PLANT.replace("prices: prices.yaml", MODELS.replace("{tiny}", str(tiny)))) as plant:
        plant.member, plant.operator, plant.tiny = plant.key(), plant.operator_key(), str(tiny)
        yield plant


def order(plant, method, path, body=None, key=None):
    request = urllib.request.Request(plant.admin + path, json.dumps(body).encode() if body is not None else None,
                                     {"Content-Type": "application/json", "Authorization": "Bearer " + (key or plant.operator)}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def states(plant):
    status, body = order(plant, "GET", "/admin/v1/models")
    assert status == 200
    return [(m["id"], m["state"]) for m in body["data"]]


def served(plant, model):
    return next(m for m in order(plant, "GET", "/admin/v1/models")[1]["data"] if m["id"] == model and m["state"] == "serving")


def answer(plant, model, tokens=2, **more):
    return post(plant, plant.member, "/v1/completions", {"model": model, "prompt": "Once upon", "max_tokens": tokens, "ignore_eos": True, **more})


class Stream(threading.Thread):
    """Reads a stream to its end, as fast as it comes."""

    def __init__(self, plant, model, tokens):
        super().__init__()
        body = {"model": model, "prompt": "Once upon", "max_tokens": tokens, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        request = urllib.request.Request(plant.api + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": "Bearer " + plant.member})
        self.response = urllib.request.urlopen(request, timeout=300)
        self.request_id, self.chunks = self.response.headers["x-request-id"], []
        self.first = json.loads(self.line())
        self.start()

    def line(self):
        while True:
            line = self.response.readline()
            assert line, "the stream was cut off"
            if line.startswith(b"data: "):
                return line[6:]

    def run(self):
        try:
            while (line := self.line().strip()) != b"[DONE]":
                self.chunks.append(json.loads(line))
        except AssertionError as e:
            self.chunks.append({"error": str(e)})
        finally:
            self.response.close()

    def ended(self, tokens):
        self.join(300)
        assert not any("error" in c for c in self.chunks), self.chunks[-1]
        fingerprints = {c["system_fingerprint"] for c in [self.first, *self.chunks]}
        assert len(fingerprints) == 1, "one answer, one model"
        usage = self.chunks[-1]["usage"]
        assert usage["completion_tokens"] == tokens
        return usage, fingerprints.pop()


def settled(plant, request_id):
    rows = [e for e in plant.entries(request_id) if e["type"].lower() == "settle"]
    assert len(rows) == 1
    return rows[0]


def rss(plant):
    return plant.metrics()["process_resident_memory_bytes"]


def test_streams_go_on_while_their_model_is_replaced_unloaded_and_reloaded(own):
    assert states(own) == [(NAME, "serving"), (SECOND, "not_loaded")]
    old = served(own, NAME)
    streams = [Stream(own, NAME, 300) for _ in range(3)]
    status, body = order(own, "POST", f"/admin/v1/models/{NAME}/replace", {"path": own.tiny})
    assert status == 200, body
    new = served(own, NAME)
    assert new["digest"] != old["digest"] and (NAME, "draining") in states(own)
    status, body, _ = answer(own, "default")
    assert status == 200 and body["system_fingerprint"] == new["system_fingerprint"]
    on_new = Stream(own, NAME, 400)
    assert order(own, "DELETE", f"/admin/v1/models/{NAME}")[0] == 200
    assert answer(own, NAME)[0] == 404 and get(own, own.member, "/v1/models")[1]["data"] == []
    assert urllib_status(own.admin + "/readyz") == 503
    assert own.metrics()["tokenworks_sequences_running"] >= 3, "what drains is counted"
    assert order(own, "POST", "/admin/v1/models", {"id": NAME})[0] == 200
    assert urllib_status(own.admin + "/readyz") == 200
    for stream in streams:
        usage, fingerprint = stream.ended(300)
        entry = settled(own, stream.request_id)
        assert (fingerprint, entry["model_digest"]) == (old["system_fingerprint"], old["digest"])
        assert entry["output_tokens"] == 300 and float(entry["amount"]) == pytest.approx(float(usage["cost"]), abs=1e-12)
    usage, fingerprint = on_new.ended(400)
    assert settled(own, on_new.request_id)["model_digest"] == new["digest"] and fingerprint == new["system_fingerprint"]
    assert served(own, NAME)["digest"] == old["digest"]
    assert eventually(lambda: ("draining" not in [s for _, s in states(own)])) and eventually(lambda: own.log_text().count("model_gone") >= 2)
    labels = [k for k in own.metrics() if k.startswith("tokenworks_tokens_total{") and 'model="other"' in k]
    assert labels == [], "tokens count under the name of their model, also of one that had left"
    assert own.verify()["ok"]


def urllib_status(url):
    try:
        return urllib.request.urlopen(url, timeout=30).status
    except urllib.error.HTTPError as e:
        return e.code


def test_a_second_model_is_loaded_named_and_taken_away_with_an_audit_row_each(own):
    before = len(books(own, "SELECT id FROM audit_events WHERE action LIKE 'model.%'"))
    assert answer(own, SECOND)[0] == 404
    run = lambda *arguments: json.loads(own.cli("models", *arguments, "--config", own.config, "--json").stdout)["data"]
    now = run("load", SECOND, "--set", "aliases=fast")
    assert [m["aliases"] for m in now if m["id"] == SECOND] == [["fast"]]
    status, body, _ = answer(own, "fast", 3)
    assert status == 200 and body["model"] == SECOND
    assert body["usage"]["cost"] == pytest.approx((2 * 3 + 3 * 5) / 1e6, abs=1e-12) or body["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert {m["id"] for m in get(own, own.member, "/v1/models")[1]["data"]} == {NAME, SECOND}
    run("alias", "default", SECOND)
    assert answer(own, "default")[1]["model"] == SECOND and answer(own, NAME)[1]["model"] == NAME
    run("alias", "default", NAME)
    assert answer(own, "default")[1]["model"] == NAME
    run("alias", "fast", "--remove")
    assert answer(own, "fast")[0] == 404
    run("replace", SECOND, "--set", "max_sequences=4")
    assert [s for i, s in states(own) if i == SECOND][0] == "serving"
    run("unload", SECOND)
    assert (SECOND, "not_loaded") in states(own)
    actions = [r[0] for r in books(own, "SELECT action FROM audit_events WHERE action LIKE 'model.%' ORDER BY id")][before:]
    assert actions == ["model.load", "model.alias", "model.alias", "model.alias", "model.replace", "model.unload"]
    hashes = books(own, "SELECT before_hash, after_hash FROM audit_events WHERE action LIKE 'model.%'")
    assert all(b != a and len(b) == len(a) == 64 for b, a in hashes)
    shown = own.cli("models", "status", "--config", own.config).stdout
    assert NAME in shown and "serving" in shown and "not_loaded" in shown


def test_mistakes_change_nothing_and_say_what_is_wrong(own):
    was = order(own, "GET", "/admin/v1/models")[1]
    for method, path, body, status, param in (
            ("POST", "/admin/v1/models", {"id": NAME}, 400, "id"), ("POST", "/admin/v1/models", {"id": "nobody"}, 400, "id"),
            ("POST", "/admin/v1/models", {}, 400, "id"), ("POST", "/admin/v1/models", {"id": SECOND, "kv_cash": "1GiB"}, 400, "kv_cash"),
            ("POST", "/admin/v1/models", {"id": SECOND, "path": "gone.gguf"}, 400, "path"),
            ("POST", "/admin/v1/models", {"id": SECOND, "path": own.config}, 400, "path"),
            ("POST", "/admin/v1/models", {"id": SECOND, "context_tokens": 8}, 400, "context_tokens"),
            ("POST", f"/admin/v1/models/{NAME}/replace", {"path": "/dev/null"}, 400, "path"),
            ("POST", f"/admin/v1/models/{SECOND}/replace", {}, 404, "id"), ("DELETE", f"/admin/v1/models/{SECOND}", None, 404, "id"),
            ("POST", "/admin/v1/aliases", {"alias": "x", "model": SECOND}, 404, "model"), ("POST", "/admin/v1/aliases", {"alias": NAME, "model": NAME}, 400, "alias"),
            ("DELETE", "/admin/v1/aliases/none", None, 404, "alias")):
        got, answered = order(own, method, path, body)
        assert (got, answered["error"]["param"]) == (status, param), (method, path, body, answered)
    assert order(own, "GET", "/admin/v1/models", key=own.member)[0] == 403
    assert order(own, "DELETE", f"/admin/v1/models/{NAME}", key=own.key(role="org_admin"))[0] == 403
    assert order(own, "GET", "/admin/v1/models")[1] == was
    assert own.cli("models", "alias", "x", "--config", own.config, check=False).returncode == 2
    assert own.cli("models", "load", SECOND, "--set", "novalue", "--config", own.config, check=False).returncode == 2


def test_a_reload_does_what_changed_in_the_file_and_drops_no_stream(own):
    text = pathlib.Path(own.config).read_text()
    count = lambda action: len(books(own, f"SELECT id FROM audit_events WHERE action = '{action}'"))

    def reload(changed, action="config.reload"):
        own.write("tokenworks.yaml", changed)
        before = count(action)
        own.send(signal.SIGHUP)
        assert eventually(lambda: count(action) == before + 1), own.log_text()[-2000:]

    old = served(own, NAME)
    stream = Stream(own, NAME, 300)
    loaded = text.replace("load: false", "load: true, aliases: [default]").replace("aliases: [default], context_tokens: 512", "context_tokens: 511")
    reload(loaded)
    assert eventually(lambda: (SECOND, "serving") in states(own)), "the audit row is there before the exchange is"
    assert served(own, SECOND)["aliases"] == ["default"] and served(own, NAME)["context_tokens"] == 511
    assert answer(own, "default")[1]["model"] == SECOND
    assert (NAME, "draining") in states(own)
    reload(loaded.replace(own.tiny, own.config), "config.reload.refused")
    assert served(own, SECOND)["aliases"] == ["default"] and answer(own, SECOND)[0] == 200
    status, body = order(own, "POST", "/admin/v1/reload")
    assert status == 400 and SECOND in body["error"]["message"], body
    reload(text)
    assert eventually(lambda: (SECOND, "not_loaded") in states(own)) and served(own, NAME)["context_tokens"] == 512
    usage, fingerprint = stream.ended(300)
    assert settled(own, stream.request_id)["model_digest"] == old["digest"]
    order(own, "POST", "/admin/v1/models", {"id": SECOND})
    reload(text.replace("drain: 10s", "drain: 11s"))
    assert (SECOND, "serving") in states(own), "it stands in the file as before"
    assert eventually(lambda: "limits.drain" in own.log_text().split("reload_needs_restart")[-1][:300])
    order(own, "DELETE", f"/admin/v1/models/{SECOND}")
    own.write("tokenworks.yaml", text)
    assert order(own, "POST", "/admin/v1/reload") == (200, {"ok": True, "restart_needed": []})


def test_memory_goes_back_under_changes_and_load(own):
    stop, failed = threading.Event(), []

    def client():
        while not stop.is_set():
            status, body, _ = answer(own, NAME, 4)
            if status != 200 or body["usage"]["completion_tokens"] != 4:
                failed.append(body)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for c in clients:
        c.start()
    base = rss(own)
    for _ in range(6):
        assert order(own, "POST", f"/admin/v1/models/{NAME}/replace", {})[0] == 200
        assert eventually(lambda: (NAME, "draining") not in states(own))
        assert eventually(lambda: rss(own) < 1.15 * base), (rss(own), base)
    stop.set()
    for c in clients:
        c.join()
    assert failed == []
    assert own.verify()["ok"] and eventually(lambda: own.metrics()["tokenworks_holds_open"] == 0)
