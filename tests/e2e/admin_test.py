"""Operators: roles on every admin route, reload, drain, the audit trail, health."""
import json, pathlib, signal, threading, time, urllib.error, urllib.request

import openai
import pytest

from plant import NAME, PRICES, Plant


def call(url, key=None, method="GET", data=None):
    request = urllib.request.Request(url, None if data is None else json.dumps(data).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", "Bearer " + key)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read() or b"null")


@pytest.fixture(scope="module")
def own():
    with Plant() as plant:
        plant.member, plant.operator = plant.key(), plant.operator_key()
        plant.billing = plant.key(role="billing")
        yield plant


def test_probes_and_metrics_are_open_and_everything_else_asks_for_a_role(own):
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert urllib.request.urlopen(own.admin + path).status == 200
    for method, path in (("GET", "/admin/v1/keys"), ("POST", "/admin/v1/keys"), ("POST", "/admin/v1/reload"), ("GET", "/admin/v1/audit_events"),
                         ("POST", "/admin/v1/ledger/verify"), ("GET", "/v1/organization/usage/completions?start_time=0"),
                         ("GET", "/v1/organization/costs?start_time=0")):
        assert call(own.admin + path, None, method)[0] == 401, path
        status, body = call(own.admin + path, own.member, method)
        assert status == 403 and body["error"]["code"] == "insufficient_permissions", path
    assert call(own.admin + "/admin/v1/keys", own.operator)[0] == 200
    assert call(own.api + "/admin/v1/keys", own.operator)[0] == 404


def test_usage_and_costs_in_openais_shape(own):
    own.openai(own.member).chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    start = int(time.time()) - 3600
    for base, key in ((own.admin, own.operator), (own.api, own.billing)):
        status, page = call(f"{base}/v1/organization/usage/completions?start_time={start}&bucket_width=1h&group_by=model", key)
        assert status == 200 and page["object"] == "page"
        results = [r for bucket in page["data"] for r in bucket["results"]]
        assert results and results[-1]["num_model_requests"] >= 1 and results[-1]["output_tokens"] >= 1
        status, page = call(f"{base}/v1/organization/costs?start_time={start - 86400}", key)
        amounts = [r["amount"] for bucket in page["data"] for r in bucket["results"]]
        assert status == 200 and amounts and amounts[-1]["currency"] == "usd" and amounts[-1]["value"] > 0
    assert call(f"{own.api}/v1/organization/costs?start_time={start}", own.member)[0] == 403


def test_a_reload_with_a_mistake_keeps_everything_and_a_good_one_changes_prices_under_streams(own):
    before = own.metrics()["tokenworks_config_last_reload_success"]
    assert before == 1
    own.write("prices.yaml", PRICES.replace("0.40", "forty"))
    status, body = call(own.admin + "/admin/v1/reload", own.operator, "POST")
    assert status == 400 and "prices.yaml:3" in body["error"]["message"]
    assert own.metrics()["tokenworks_config_last_reload_success"] == 0
    answers = []

    def stream():
        parts = own.openai(own.member).chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Tell a story"}], max_tokens=150,
                                                                stream=True, stream_options={"include_usage": True}, extra_body={"ignore_eos": True})
        answers.append([p.to_dict() for p in parts][-1]["usage"])
    thread = threading.Thread(target=stream)
    thread.start()
    time.sleep(0.3)
    own.write("prices.yaml", PRICES.replace("0.40", "0.80").replace("test-1", "test-2"))
    own.send(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while own.metrics()["tokenworks_config_last_reload_success"] != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    thread.join()
    assert answers[0]["completion_tokens"] == 150
    after = own.openai(own.member).chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    raw = after.to_dict()
    settle = own.entries(raw["usage"].get("tokenworks", raw.get("tokenworks"))["request_id"])[-1]
    assert settle["price_version"] == "test-2"


def test_every_mutation_leaves_an_audit_row(own):
    _, issued = call(own.admin + "/admin/v1/keys", own.operator, "POST", {"organization": "acme"})
    call(own.admin + "/admin/v1/keys/" + issued["id"], own.operator, "DELETE")
    _, events = call(own.admin + "/admin/v1/audit_events", own.operator)
    actions = [(e["action"], e["object"]) for e in events["data"]]
    assert ("key.create", issued["id"]) in actions and ("key.revoke", issued["id"]) in actions and any(a == "config.reload" for a, _ in actions)
    assert issued["key"] not in json.dumps(events)


def test_neither_prompts_nor_keys_are_in_the_log_or_on_disk(own):
    secret = "xyzzy-plugh-frobnicate"
    client = own.openai(own.member)
    client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": secret}], max_tokens=4)
    for misplaced in (secret, own.member):           # where a model's name belongs
        for ask in (lambda: client.chat.completions.create(model=misplaced, messages=[{"role": "user", "content": "hi"}], max_tokens=4),
                    lambda: client.embeddings.create(model=misplaced, input="hi"), lambda: client.models.retrieve(misplaced)):
            with pytest.raises(openai.NotFoundError):
                ask()
    assert secret not in own.log_text() and own.member not in own.log_text()
    for path in pathlib.Path(own.folder, "data").iterdir():
        if path.is_file():
            data = path.read_bytes()
            assert secret.encode() not in data and own.member.encode() not in data, path
    for line in own.log_text().splitlines():
        if line.startswith("{"):
            json.loads(line)


def test_sigterm_drains_a_running_stream_and_leaves_nothing_behind():
    with Plant() as plant:
        client, got = plant.openai(plant.key()), []

        def stream():
            parts = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Tell a story"}], max_tokens=200,
                                                   stream=True, stream_options={"include_usage": True}, extra_body={"ignore_eos": True})
            for part in parts:
                got.append(part)
        thread = threading.Thread(target=stream)
        thread.start()
        while not got:
            time.sleep(0.01)
        assert plant.stop(signal.SIGTERM) == 0
        thread.join()
        assert got[-1].usage.completion_tokens == 200
        assert not pathlib.Path(plant.folder, "data/endpoints.json").exists()
        assert plant.verify()["open_holds"] == 0


def test_a_second_daemon_on_the_same_folder_is_refused_and_check_names_mistakes(own):
    done = own.cli("serve", "--config", own.config, check=False)
    assert done.returncode == 2 and "another tokenworks process" in done.stderr
    bad = Plant()
    bad.write("tenants.yaml", "plans: {a: {modles: [x]}}\norganizations: {b: {plan: c}}\n")
    done = bad.cli("check", "--config", bad.config, check=False)
    bad.close()
    assert done.returncode == 2
    assert "tenants.yaml:1: unknown key 'plans.a.modles'; did you mean 'models'?" in done.stderr and "plan 'c'" in done.stderr
