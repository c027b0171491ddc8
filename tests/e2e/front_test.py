"""What operators and clients meet at the front: who may use what, counts that agree, reloads that leave a trace."""
import csv, io, json, os, signal, sqlite3, subprocess, time, urllib.error, urllib.request
from decimal import Decimal

import pytest

from plant import BIN, MODEL, NAME, PLANT, Plant

SECOND = "second-model"
TWO = PLANT.replace("prices: prices.yaml", '  - {{id: ' + SECOND + ', path: "{model}", context_tokens: 256, kv_cache: 32MiB, data_classes: [public]}}\nprices: prices.yaml')
# One output token costs what no double can say.
PRICES = f"""version: "front-1"
models:
  {NAME}: {{input: 0.10, cached_input: 0.05, output: 0.40}}
  {SECOND}: {{input: 0, cached_input: 0, output: "9007199254740.993"}}
tiers: {{priority: 1, standard: 1, batch: 1}}
"""
TENANTS = f"""plans:
  open: {{models: ["*"]}}
  first: {{models: [{NAME}]}}
organizations:
  acme: {{plan: open, projects: {{default: {{}}, search: {{models: [{NAME}]}}, secret: {{data_class: secret}}}}}}
  beta: {{plan: first}}
  gamma: {{plan: open, residency: [FR]}}
  kept: {{plan: open, retention: standard}}
"""


def post(plant, key, path, body, headers=(), timeout=120):
    request = urllib.request.Request(plant.api + path, json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": "Bearer " + key, **dict(headers)})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, json.loads(response.read()), dict(response.headers)
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read()), dict(e.headers)


def get(plant, key, path):
    request = urllib.request.Request(plant.api + path, headers={"Authorization": "Bearer " + key})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def eventually(true, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return bool(true())


def books(plant, sql):
    with sqlite3.connect(f"file:{plant.folder}/data/ledger.sqlite?mode=ro", uri=True, timeout=30) as store:
        return store.execute(sql).fetchall()


@pytest.fixture(scope="module")
def own():
    with Plant(tenants=TENANTS, prices=PRICES, plant=TWO) as plant:
        plant.member = plant.key()
        yield plant


def ask(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **more}


def test_a_model_that_is_not_allowed_is_403_and_one_that_is_not_there_404(own):
    beta, search, narrow = own.key("beta"), own.key("acme", "search"), own.key("acme", models=NAME)
    for key in (beta, search, narrow):
        status, body, _ = post(own, key, "/v1/chat/completions", ask(SECOND))
        assert (status, body["error"]["code"]) == (403, "model_not_allowed"), body
        assert get(own, key, "/v1/models/" + SECOND)[0] == 403
        assert get(own, key, "/v1/models/nowhere")[0] == 404
        assert [m["id"] for m in get(own, key, "/v1/models")[1]["data"]] == [NAME]
        status, body, _ = post(own, key, "/v1/chat/completions", ask("nowhere"))
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert post(own, key, "/v1/chat/completions", ask(NAME))[0] == 200
    status, body, _ = post(own, own.key("gamma"), "/v1/chat/completions", ask(NAME))
    assert (status, body["error"]["code"]) == (403, "residency_violation"), body
    status, body, _ = post(own, own.key("acme", "secret"), "/v1/chat/completions", ask(NAME))
    assert (status, body["error"]["code"]) == (403, "model_not_allowed") and "secret" in body["error"]["message"]
    refused = [v for k, v in own.metrics().items() if k.startswith("tokenworks_requests_total{") and all(
        f'{label}="{value}"' in k for label, value in (("organization", "beta"), ("model", SECOND), ("status", "403")))]
    assert refused == [1]


def test_money_is_the_same_text_everywhere_and_usage_shows_what_was_grouped_by(own):
    key = own.key("kept")
    assert post(own, key, "/v1/chat/completions", ask(SECOND))[0] == 200
    done = own.cli("usage", "--config", own.config, "--organization", "kept", "--csv", "--group-by", "key,day", text=False).stdout
    assert done.count(b"\r\n") == 2 and done.count(b"\n") == 2
    rows = list(csv.DictReader(io.StringIO(done.decode())))
    assert list(rows[0]) == ["from", "organization", "key", "requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost", "currency"]
    assert rows[0]["cost"] == "9007199.254740993" and rows[0]["currency"] == "USD" and rows[0]["key"] == key.split("-")[2]
    assert rows[0]["from"].endswith("T00:00:00Z") and rows[0]["organization"] == "kept" and rows[0]["requests"] == "1"
    text = own.cli("usage", "--config", own.config, "--organization", "kept", "--group-by", "key,day").stdout.splitlines()
    assert text[0].split()[:4] == ["from", "(UTC)", "organization", "key"] and "9007199.254740993" in text[1] and rows[0]["key"] in text[1]
    assert "project" not in text[0] and "tier" not in text[0]
    assert own.cli("usage", "--config", own.config, "--csv", "--json", check=False).returncode == 2


def test_metrics_log_and_books_agree_to_the_token_when_clients_drop_and_deadlines_pass(own):
    key, url = own.key("beta"), own.api + "/v1/chat/completions"
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "Tell a long story"}], "max_tokens": 300, "stream": True, "ignore_eos": True}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key}
    for lines in (3, 9, 15):
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as response:
            for _ in range(lines):
                response.readline()
    whole = {"model": NAME, "messages": [{"role": "user", "content": "Tell a long story"}], "max_tokens": 1500, "ignore_eos": True}
    status, answer, _ = post(own, key, "/v1/chat/completions", whole, {"x-request-timeout": "0.7"})
    assert status == 504 and answer["error"]["code"] == "deadline_exceeded", answer
    late = urllib.request.Request(url, json.dumps({**whole, "stream": True}).encode(), {**headers, "x-request-timeout": "0.7"})
    try:
        with urllib.request.urlopen(late, timeout=60) as response:
            last = [line for line in response if line.startswith(b"data: ")][-1][6:]
    except urllib.error.HTTPError as refused:        # a machine so slow that the time was over before the first byte
        last = refused.read()
    assert json.loads(last)["error"]["code"] == "deadline_exceeded", last
    assert eventually(lambda: own.metrics()["tokenworks_holds_open"] == 0)
    finished = lambda: [json.loads(l) for l in own.log_text().splitlines() if l.startswith("{") and '"event":"request"' in l.replace(" ", "") and '"beta"' in l]
    assert eventually(lambda: sum(r["status"] == 499 for r in finished()) == 3)
    usage = [r for r in own.usage() if r["organization"] == "beta"]
    metrics = own.metrics()
    tokens = lambda c: sum(v for k, v in metrics.items() if k.startswith("tokenworks_tokens_total{") and 'organization="beta"' in k and f'class="{c}"' in k)
    assert tokens("output") == sum(r["output_tokens"] for r in usage) > 3
    assert tokens("input") + tokens("cached_input") == sum(r["input_tokens"] for r in usage)
    assert tokens("cached_input") == sum(r["cached_input_tokens"] for r in usage)
    charge = next(v for k, v in metrics.items() if k.startswith("tokenworks_charge_total{") and 'organization="beta"' in k)
    assert Decimal(repr(charge)) == sum(Decimal(str(r["cost"])) for r in usage)
    assert sum(r["output_tokens"] for r in finished()) == sum(r["output_tokens"] for r in usage)
    assert sum(Decimal(r["cost"]) for r in finished()) == sum(Decimal(str(r["cost"])) for r in usage)


def test_every_reload_leaves_an_audit_row_and_says_what_needs_a_restart(own):
    reloads = lambda: [r[0] for r in books(own, "SELECT action FROM audit_events WHERE action LIKE 'config.reload%' ORDER BY id")]
    before = len(reloads())
    own.write("tenants.yaml", TENANTS.replace("gamma: {plan: open,", "gamma: {plan: first,"))
    own.send(signal.SIGHUP)
    assert eventually(lambda: len(reloads()) == before + 1) and reloads()[-1] == "config.reload"
    own.write("tenants.yaml", TENANTS.replace("plan: first}", "plan: fist}"))
    own.send(signal.SIGHUP)
    assert eventually(lambda: len(reloads()) == before + 2) and reloads()[-1] == "config.reload.refused"
    own.write("tenants.yaml", TENANTS)
    plant_file = own.folder + "/tokenworks.yaml"
    text = open(plant_file).read()
    open(plant_file, "w").write(text.replace("drain: 10s", "drain: 11s"))
    own.send(signal.SIGHUP)
    assert eventually(lambda: len(reloads()) == before + 3) and reloads()[-1] == "config.reload"
    assert eventually(lambda: "reload_needs_restart" in own.log_text())
    assert "limits.drain" in own.log_text()
    request = urllib.request.Request(own.admin + "/admin/v1/reload", b"", {"Authorization": "Bearer " + own.operator_key()}, method="POST")
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer == {"ok": True, "restart_needed": ["limits.drain"]}
    open(plant_file, "w").write(text)
    hashes = books(own, "SELECT before_hash, after_hash FROM audit_events WHERE action = 'config.reload' ORDER BY id")
    assert all(before and after for before, after in hashes) and len({after for _, after in hashes}) > 1


def test_an_echoed_prompt_has_log_probabilities_and_offsets(own):
    prompt = "The capital of France is Paris. Zürich is"
    made = post(own, own.member, "/v1/completions", {"model": NAME, "prompt": prompt, "max_tokens": 6, "temperature": 0, "logprobs": 2, "ignore_eos": True})[1]
    plain = made["choices"][0]
    status, echoed, _ = post(own, own.member, "/v1/completions",
                             {"model": NAME, "prompt": prompt + plain["text"], "max_tokens": 1, "temperature": 0, "logprobs": 2, "echo": True})
    assert status == 200, echoed
    whole, probs = echoed["choices"][0]["text"], echoed["choices"][0]["logprobs"]
    assert whole.startswith(prompt + plain["text"])
    assert probs["token_logprobs"][0] is None and probs["top_logprobs"][0] is None
    assert all(p is not None and p <= 0 for p in probs["token_logprobs"][1:])
    assert len({len(probs[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}) == 1
    assert len(probs["tokens"]) == echoed["usage"]["prompt_tokens"] + echoed["usage"]["completion_tokens"]
    assert echoed["usage"]["completion_tokens"] == 1
    # Offsets count characters, and the text at an offset is the token (but for halves of a character).
    for token, offset in zip(probs["tokens"], probs["text_offset"]):
        if "\ufffd" not in token:
            assert whole[offset:].startswith(token), (token, offset)
    # What the model said while it generated is what it says of the same tokens in a prompt.
    if probs["tokens"][-1 - len(plain["logprobs"]["tokens"]):-1] == plain["logprobs"]["tokens"]:
        for a, b in zip(probs["token_logprobs"][-1 - len(plain["logprobs"]["tokens"]):-1], plain["logprobs"]["token_logprobs"]):
            assert abs(a - b) < 1e-3, (a, b)
    offset = made["choices"][0]["logprobs"]["text_offset"][0]
    assert offset == 0, "without echo the text begins at the answer"
    # Streamed, with two choices: the same arrays in pieces.
    body = {"model": NAME, "prompt": prompt, "max_tokens": 2, "temperature": 0, "logprobs": 0, "echo": True, "n": 2, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(own.api + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": "Bearer " + own.member})
    texts, offsets, values = {0: "", 1: ""}, {0: [], 1: []}, {0: [], 1: []}
    for line in urllib.request.urlopen(request, timeout=120):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                texts[choice["index"]] += choice["text"]
                if choice["logprobs"]:
                    offsets[choice["index"]] += choice["logprobs"]["text_offset"]
                    values[choice["index"]] += choice["logprobs"]["token_logprobs"]
    assert texts[0] == texts[1] and texts[0].startswith(prompt) and offsets[0] == offsets[1] == sorted(offsets[0])
    assert values[0] == values[1] and values[0][0] is None and len(values[0]) == len(offsets[0])


def test_a_replay_without_content_has_the_models_id_and_every_choice(own):
    for path, more in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}), ("/v1/completions", {"prompt": ["a", "b"]})):
        body = {"model": "default", "max_tokens": 2, "n": 2, **more}
        headers = {"Idempotency-Key": "k" + path}
        first = post(own, own.member, path, body, headers)[1]
        status, again, got = post(own, own.member, path, body, headers)
        assert status == 200 and got["x-idempotent-replayed"] == "true"
        assert again["model"] == first["model"] == NAME and again["usage"]["completion_tokens"] == first["usage"]["completion_tokens"]
        assert [c["index"] for c in again["choices"]] == [c["index"] for c in first["choices"]]
        assert all((c.get("text", "") or c.get("message", {}).get("content", "")) == "" for c in again["choices"])
        assert again["usage"]["tokenworks"]["replay"] == "usage_only" and again["usage"]["cost"] == first["usage"]["cost"]
        assert again["usage"]["tokenworks"]["request_id"] == first["usage"]["tokenworks"]["request_id"]
    kept = own.key("kept")
    first = post(own, kept, "/v1/chat/completions", ask("default"), {"Idempotency-Key": "whole"})[1]
    assert post(own, kept, "/v1/chat/completions", ask("default"), {"Idempotency-Key": "whole"})[1] == first


def test_what_is_named_wrongly_on_the_command_line_is_said_and_ends_with_2(own):
    flag = ("--config", own.config)

    def refused(*arguments, code=2):
        done = own.cli(*arguments, check=False)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stderr

    assert "there is no key with the id 'nokey000'" in refused("keys", "revoke", "nokey000", *flag)
    assert "there is no key with the id 'nokey000'" in refused("keys", "rotate", "nokey000", *flag)
    whole = own.key()
    assert whole not in refused("keys", "revoke", whole + "x", *flag)
    refused("keys", "revoke", "../keys?x=1", *flag)
    assert "did you mean 'acme'?" in refused("keys", "list", "--organization", "acmee", *flag)
    # A variable that was not set, in a script: what it should have said would have narrowed the key.
    for empty in ("--models", "--expires", "--tokens-per-day", "--project"):
        assert f"{empty} is empty" in refused("keys", "create", "--organization", "acme", empty, "", *flag)
    assert "--organization is empty" in refused("keys", "create", "--organization", "", "--role", "auditor", *flag)
    assert "give --organization" in refused("keys", "create", "--project", "default", "--role", "auditor", *flag)
    assert "there is no model ','" in refused("keys", "create", "--organization", "acme", "--models", ",", *flag)
    assert "did you mean 'usage'?" in refused("usge", *flag) and "Commands: " in refused("bogus")
    assert "did you mean 'create'?" in refused("keys", "crate")
    assert "usage: there is no option '--confg'; did you mean '--config'?" in refused("usage", "--confg=x")
    assert "there is no option '--bogus'" in refused("--bogus") and "there is no option" not in refused("usage")
    folder = refused("check", "--config", own.folder)
    assert "it is a directory" in folder and folder.count("\n") <= 2 and "tokenworks.yaml" in folder
    assert ":0:" not in refused("check", "--config", "/dev/null")
    found = json.loads(own.cli("doctor", "--json", *flag).stdout)
    assert found["ok"] is True and {"build", "cores", "configuration", "disk"} <= {c["name"] for c in found["checks"]}
    assert json.loads(own.cli("check", "--json", *flag).stdout) == {"ok": True, "mistakes": []}
    copy = os.path.join(own.folder, "copy.sqlite")
    assert json.loads(own.cli("ledger", "backup", copy, "--json", *flag).stdout) == {"ok": True, "path": copy} and os.path.exists(copy)


def test_what_is_no_text_is_said_and_ends_with_2(own):
    def refused(*arguments, given=None, says="is not UTF-8", **env):
        done = subprocess.run([BIN, *arguments, "--config", own.config], input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(own.env, **env), timeout=60)
        assert done.returncode == 2 and says in done.stderr.decode(), (arguments, done)

    latin1 = "caf\u00e9".encode("latin1")
    refused("keys", "create", "--organization", latin1)
    refused("keys", "create", "--organization", "acme", "--principal", latin1)
    refused("credit", "add", "--organization", "acme", "--id", latin1, "--amount", "1")
    refused("ledger", "erase", "--organization", latin1)
    refused("models", "load", latin1)
    before = len(own.usage())
    refused("chat", latin1, TOKENWORKS_API_KEY=own.key())
    refused("chat", "-", given=latin1, TOKENWORKS_API_KEY=own.key())
    refused("chat", given=b"", says="the message is empty", TOKENWORKS_API_KEY=own.key())
    refused("chat", "hello", "--key-file", "/none", says="/none cannot be read")
    assert len(own.usage()) == before


def test_names_are_erased_with_and_without_a_daemon_and_only_of_those_there_are():
    with Plant() as plant:
        for organization in ("acme", "beta"):
            plant.openai(plant.key(organization)).chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": "hi"}], max_tokens=2, user="anna-" + organization, metadata={"team": "red"})
        left = lambda: sorted({r[0] for r in books(plant, "SELECT organization FROM annotations")})
        assert eventually(lambda: left() == ["acme", "beta"])
        erase = lambda name: plant.cli("ledger", "erase", "--config", plant.config, "--organization", name, check=False)
        assert erase("acme").returncode == 0 and left() == ["beta"]
        unknown = erase("nobody")
        assert unknown.returncode == 2 and "there is no organization 'nobody'" in unknown.stderr
        assert plant.verify()["ok"]
        plant.write("tenants.yaml", "plans: {open: {}}\norganizations: {acme: {plan: open}}\n")   # beta has left
        plant.stop()
        assert erase("nobody").returncode == 2
        assert erase("beta").returncode == 0 and left() == []
        rows = books(plant, "SELECT object FROM audit_events WHERE action = 'ledger.erase' ORDER BY id")
        assert rows == [("acme",), ("beta",)] and plant.verify()["ok"]


def test_before_the_first_run_there_are_no_books_and_it_is_said():
    plant = Plant()
    try:
        for command in (("usage",), ("ledger", "verify"), ("ledger", "verify", "--json")):
            done = plant.cli(*command, "--config", plant.config, check=False)
            assert done.returncode == 1 and "there are no books yet" in done.stderr and done.stdout == "", command
    finally:
        plant.close()


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_check_finds_at_once_what_serve_would_refuse():
    plant = Plant()
    try:
        for name in ("one", "two"):
            openssl(plant.folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".crt")
        data = open(MODEL, "rb").read(2_000_000)
        for name, content in (("cut.gguf", data), ("text.gguf", b"no model at all, just some text\n" * 100)):
            open(plant.folder + "/" + name, "wb").write(content)
        prices = "version: a\nmodels:\n" + "".join(f"  m{i}: {{input: 1, output: 1}}\n" for i in range(5))
        plant.write("prices.yaml", prices)

        def config(tls):
            plant.write("tokenworks.yaml", f"""listen: ["127.0.0.1:0"]
admin: {{listen: "127.0.0.1:0"}}
data_dir: ./data
prices: prices.yaml
tenants: tenants.yaml
models:
  - id: m0
    path: cut.gguf
  - id: m1
    path: text.gguf
  - id: m2
    path: "{MODEL}"
    kv_cache: 1MiB
  - id: m3
    path: "{MODEL}"
    backend: cuda
  - id: m4
    path: missing.gguf
tls:
{tls}""")

        def both():
            results = [plant.cli(command, "--config", plant.config, check=False) for command in ("check", "serve")]
            assert [r.returncode for r in results] == [2, 2], results
            assert results[0].stderr == results[1].stderr, "one list, one code"
            return results[0].stderr
        config("  certificate: one.crt\n  private_key: two.key\n")
        said = both()
        at = lambda line: [l for l in said.splitlines() if f"tokenworks.yaml:{line}: " in l]
        assert any("model 'm0'" in l and "cut.gguf" in l for l in at(8)), said
        assert any("model 'm1'" in l and "text.gguf" in l for l in at(10)), said
        assert any("kv_cache" in l and "raise kv_cache" in l for l in at(13)), said
        if not any("backend: cuda cannot be had" in l for l in at(16)):
            assert "models run on GPU" in plant.cli("doctor").stdout, said
        assert "missing.gguf" in said
        assert any("does not belong to the certificate" in l for l in at(21)), said
        config("  certificate: one.key\n  private_key: one.crt\n")
        said = both()
        assert said.count("swapped?") == 2
        config("  certificate: none.crt\n  private_key: none.key\n")
        plant_text = open(plant.config).read()
        said = both()
        assert "none.crt" in said and "none.key" in said and said.count("no such file") >= 2
        plant.write("tokenworks.yaml", plant_text.replace("backend: cuda", "backend: gpu"))
        said = both()
        assert said.count("gpu") == 1 and "models[3].backend is 'gpu'" in said, said   # once, by whoever read it
    finally:
        plant.close()


def test_the_environment_is_checked_as_the_files_are():
    plant = Plant(env={"TOKENWORKS_LIMITS_DRAIN": "soon", "TOKENWORKS_LEDGER_PROGRES": "step"})
    try:
        done = plant.cli("check", "--config", plant.config, check=False)
        assert done.returncode == 2 and "environment variable TOKENWORKS_LIMITS_DRAIN" in done.stderr
        assert "did you mean 'TOKENWORKS_LEDGER_PROGRESS'?" in done.stderr and "tokenworks.yaml:" not in done.stderr
        told = plant.cli("check", "--config", plant.config, "--json", check=False)
        assert told.returncode == 2 and json.loads(told.stdout) == {"ok": False, "mistakes": done.stderr.splitlines()}
    finally:
        plant.close()
