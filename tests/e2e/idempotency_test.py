"""An Idempotency-Key never charges twice: not while the first request runs, not for a stream, not after kill -9, not for a request
that was refused before, whatever body comes with it; and a key that cost nothing is free again."""
import http.client, json, threading, time, urllib.error, urllib.parse, urllib.request

import pytest

from plant import NAME, PLANT, Plant

TENANTS = """plans:
  open: {models: ["*"]}
  one: {models: ["*"], concurrent_requests: 1}
organizations:
  acme: {plan: open, retention: standard}
  single: {plan: one}
  poor: {plan: open, budget: {amount: "0", per: total}}
"""
MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def plant():
    with Plant(tenants=TENANTS) as running:
        yield running


def send(plant, key, name, body=None, headers=None):
    """(status, body, headers) of a chat request with an Idempotency-Key; the body of a stream as text."""
    body = {"model": NAME, "messages": MESSAGES, "max_tokens": 8, "ignore_eos": True, **(body or {})}
    request = urllib.request.Request(plant.api + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + key, "Content-Type": "application/json", "Idempotency-Key": name, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            text = answer.read().decode()
            return answer.status, text if body.get("stream") else json.loads(text), answer.headers
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read()), e.headers


def charged(plant, organization="acme"):
    return sum(u["requests"] for u in plant.usage() if u["organization"] == organization)


def open_stream(plant, key, name, tokens):
    url = urllib.parse.urlparse(plant.api)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=300)
    body = {"model": NAME, "messages": MESSAGES, "max_tokens": tokens, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json", "Idempotency-Key": name})
    response = connection.getresponse()
    for _ in range(6):
        response.readline()
    return response, {"max_tokens": tokens, "stream": True}


def test_thirty_two_at_once_with_one_key_are_one_request(plant):
    key, before, seen = plant.key(), charged(plant), []
    threads = [threading.Thread(target=lambda: seen.append(send(plant, key, "crowd", {"max_tokens": 40}))) for _ in range(32)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    answers = [s for s in seen if s[0] == 200]
    busy = [s for s in seen if s[0] == 409]
    assert len(answers) + len(busy) == 32 and answers
    assert all(b["error"]["code"] == "idempotency_in_progress" and int(h["retry-after-ms"]) > 0 for _, b, h in busy)
    assert len({a["id"] for _, a, _ in answers}) == 1 and sum("x-idempotent-replayed" not in h for _, _, h in answers) == 1
    assert charged(plant) == before + 1


def test_a_stream_is_replayed_byte_for_byte_and_another_body_is_refused_also_while_it_runs(plant):
    key, before = plant.key(), charged(plant)
    running, body = open_stream(plant, key, "stream", 300)
    assert send(plant, key, "stream", body)[1]["error"]["code"] == "idempotency_in_progress"
    status, mismatch, _ = send(plant, key, "stream", {**body, "max_tokens": 299})
    assert status == 422 and mismatch["error"]["code"] == "idempotency_mismatch"
    running.read()
    status, first, headers = send(plant, key, "again", {"stream": True})
    assert status == 200 and "x-idempotent-replayed" not in headers
    status, second, headers = send(plant, key, "again", {"stream": True})
    assert headers["x-idempotent-replayed"] == "true" and headers["content-type"].startswith("text/event-stream") and second == first
    assert charged(plant) == before + 2


def test_a_client_that_leaves_and_asks_again_is_told_what_it_cost(plant):
    key, before = plant.key(), charged(plant)
    running, body = open_stream(plant, key, "left", 1500)
    request = running.headers["x-request-id"]
    running.close()
    status = 409
    while status == 409:
        status, answer, headers = send(plant, key, "left", body)
        time.sleep(0.02)
    settle = plant.entries(request)[-1]
    assert settle["type"] == "settle" and settle["finish_reason"] == "cancelled" and 0 < settle["output_tokens"] < 1500
    assert status == 500 and headers["x-should-retry"] == "false" and headers["x-idempotent-replayed"] == "true"
    assert f"{settle['input_tokens']} input and {settle['output_tokens']} output tokens" in answer["error"]["message"]
    assert charged(plant) == before + 1


def test_what_was_cut_off_by_kill_nine_is_not_charged_again(plant):
    key, before = plant.key(), charged(plant)
    running, body = open_stream(plant, key, "killed", 1500)
    request = running.headers["x-request-id"]
    deadline = time.monotonic() + 120
    while not [k for k in plant.metrics() if k.startswith("tokenworks_ledger_")] and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(60):                               # longer than a cadence: some of it is booked
        running.readline()
    time.sleep(0.3)
    refused = plant.key("poor")
    assert send(plant, refused, "refused")[1]["error"]["code"] == "insufficient_quota"
    plant.kill()
    plant.write("tenants.yaml", TENANTS.replace('amount: "0"', 'amount: "5"'))
    plant.start()
    settle = plant.entries(request)[-1]
    assert settle["type"] == "settle" and settle["finish_reason"] == "crash"
    for _ in range(2):
        status, answer, headers = send(plant, key, "killed", body)
        assert status == 500 and headers["x-should-retry"] == "false", answer
        assert f"{settle['output_tokens']} output tokens" in answer["error"]["message"]
    assert send(plant, key, "killed", {**body, "max_tokens": 2})[0] == 422
    assert charged(plant) == before + 1
    # What was refused cost nothing, so its key is free, also after a restart.
    status, _, headers = send(plant, refused, "refused")
    assert status == 200 and "x-idempotent-replayed" not in headers
    assert send(plant, refused, "refused")[2]["x-idempotent-replayed"] == "true"
    assert plant.verify()["ok"]


def test_beyond_the_bound_of_bytes_a_repeat_gets_its_usage_alone_and_is_not_charged():
    small = PLANT.replace("limits: {{drain: {drain}}}", "limits: {{drain: {drain}, idempotency_per_tenant: 2KiB}}")
    with Plant(tenants=TENANTS, plant=small) as plant:
        key, first = plant.key(), {}
        for name in ("one", "two", "three", "four"):
            status, first[name], _ = send(plant, key, name)
            assert status == 200
        for _ in range(2):
            replays = {name: send(plant, key, name) for name in first}
            assert all(s == 200 and h["x-idempotent-replayed"] == "true" for s, _, h in replays.values())
            whole = [name for name, (_, body, _) in replays.items() if body == first[name]]
            assert whole == list(first)[-len(whole):] and 0 < len(whole) < 4, "the youngest are whole"
            for name in set(first) - set(whole):
                body = replays[name][1]
                assert body["usage"]["tokenworks"]["replay"] == "usage_only"
                assert body["usage"]["completion_tokens"] == first[name]["usage"]["completion_tokens"] and body["usage"]["cost"] == first[name]["usage"]["cost"]
            assert charged(plant) == 4
            plant.stop()
            plant.start()


def test_retries_of_sdks_are_recorded_and_nonsense_is_not(plant):
    key = plant.key()
    for said, recorded in (("0", 0), ("3", 3), ("-1", 0), ("99999999999999999999", 0), ("2; DROP", 0)):
        _, answer, _ = send(plant, key, "retry" + said[:5].replace(";", ""), headers={"x-stainless-retry-count": said})
        assert {e["retry_count"] for e in plant.entries(answer["usage"]["tokenworks"]["request_id"])} == {recorded}, said


def test_the_time_a_refusal_names_is_enough(plant):
    key = plant.key("single")
    running, _ = open_stream(plant, key, "place", 1500)
    status, answer, headers = send(plant, key, "busy", headers={"x-stainless-retry-count": "1"})
    assert status == 429 and answer["error"]["code"] == "concurrency_limit_exceeded" and int(headers["retry-after-ms"]) > 0
    assert '"concurrent-requests";r=0' in headers["ratelimit"]
    running.close()
    status, deadline = 429, time.monotonic() + 60
    while status == 429 and time.monotonic() < deadline:
        status = send(plant, key, "busy")[0]           # its refusal left the key free
    assert status == 200
