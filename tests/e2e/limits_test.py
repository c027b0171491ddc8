"""Limits and money over HTTP: exact, with the codes and headers official SDKs obey."""
import json, threading, urllib.error, urllib.request

import openai
import pytest

from plant import NAME, Plant

TENANTS = """plans:
  open: {models: ["*"]}
  few: {models: ["*"], requests_per_minute: 3}
  narrow: {models: ["*"], tokens_per_minute: 200, reserve_output_tokens: 16}
  roomy: {models: ["*"], tokens_per_minute: 400, reserve_output_tokens: 16}
  single: {models: ["*"], concurrent_requests: 1}
  closed: {models: ["*"]}
organizations:
  acme: {plan: open}
  few: {plan: few}
  narrow: {plan: narrow}
  roomy: {plan: roomy}
  single: {plan: single}
  seven: {plan: open, budget: {amount: "%s", per: month}}
  records: {plan: open, projects: {default: {}, patients: {data_class: health}, inside: {data_class: internal}}}
  abroad: {plan: open, residency: [FR]}
  asleep: {plan: open, access: [{days: [mon], from: "00:00", to: "00:01", timezone: UTC}, {days: [tue], from: "00:00", to: "00:01"}]}
"""
MESSAGES = [{"role": "user", "content": "Say something."}]


def ask(plant, key, **options):
    options.setdefault("max_tokens", 8)
    return plant.openai(key).chat.completions.create(model=NAME, messages=MESSAGES, **options)


@pytest.fixture(scope="module")
def limited():
    plant = Plant(tenants=TENANTS % "1.00")
    with plant:
        # A budget for exactly seven requests of this prompt: 8 output tokens, the prompt never cheaper from the cache.
        prompt = ask(plant, plant.key()).usage.prompt_tokens
        plant.stop()
        plant.write("prices.yaml", 'version: "2"\nmodels:\n  %s: {input: 0.10, cached_input: 0.10, output: 0.40}\n' % NAME)
        nano = (prompt * 100_000 + 8 * 400_000 + 500) // 1000
        plant.write("tenants.yaml", TENANTS % (f"0.{7 * nano:09d}"))
        plant.nano = nano
        plant.start()
        yield plant


def test_a_key_has_its_requests_per_minute_and_not_one_more(limited):
    key = limited.key("few")
    for _ in range(3):
        ask(limited, key)
    with pytest.raises(openai.RateLimitError) as e:
        ask(limited, key)
    assert e.value.code == "rate_limit_exceeded"
    headers = e.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 61 and 1 <= int(headers["retry-after-ms"]) <= 61_000


def test_tokens_per_minute_are_reserved_before_work(limited):
    key = limited.key("narrow")
    with pytest.raises(openai.RateLimitError) as e:
        for _ in range(20):
            ask(limited, key)
    assert e.value.code == "rate_limit_exceeded"
    used = sum(u["input_tokens"] + u["output_tokens"] for u in limited.usage() if u["organization"] == "narrow")
    assert used <= 200


def test_concurrency_is_exact(limited):
    key = limited.key("single")
    results = []

    def one():
        try:
            ask(limited, key, max_tokens=120, extra_body={"ignore_eos": True})
            results.append("ok")
        except openai.RateLimitError as e:
            results.append(e.code)
    crowd = [threading.Thread(target=one) for _ in range(8)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert results.count("ok") >= 1 and set(results) <= {"ok", "concurrency_limit_exceeded"}
    assert "concurrency_limit_exceeded" in results


def test_sixty_four_at_once_on_a_budget_for_seven_give_exactly_seven(limited):
    key = limited.key("seven")
    results = []

    def one():
        try:
            answer = ask(limited, key, extra_body={"ignore_eos": True})
            results.append(answer.usage.completion_tokens)
        except openai.RateLimitError as e:
            assert e.code == "insufficient_quota" and e.response.headers["x-should-retry"] == "false"
            results.append("refused")
    crowd = [threading.Thread(target=one) for _ in range(64)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert results.count(8) == 7 and results.count("refused") == 57, results
    row = [u for u in limited.usage() if u["organization"] == "seven"]
    assert sum(round(float(u["cost"]) * 1e9) for u in row) == 7 * limited.nano


def test_residency_and_access_times_are_enforced(limited):
    with pytest.raises(openai.PermissionDeniedError) as e:
        ask(limited, limited.key("abroad"))
    assert e.value.code == "residency_violation"
    with pytest.raises(openai.PermissionDeniedError) as e:
        ask(limited, limited.key("asleep"))
    assert e.value.code == "model_not_allowed_now"


def test_data_classes_are_enforced_and_booked(limited):
    # The model is for public and internal data: what a project or a request declares beyond that never reaches it.
    with pytest.raises(openai.PermissionDeniedError) as e:
        ask(limited, limited.key("records", "patients"))
    assert "health" in str(e.value)
    before = len(limited.usage())
    with pytest.raises(openai.PermissionDeniedError):
        ask(limited, limited.key("records"), extra_headers={"x-tokenworks-data-class": "secret"})
    assert len(limited.usage()) == before
    for key, named, booked in ((limited.key("records"), None, "public"), (limited.key("records", "inside"), None, "internal"),
                               (limited.key("records"), "internal", "internal")):
        answer = ask(limited, key, extra_headers={"x-tokenworks-data-class": named} if named else {})
        settle = [e for e in limited.entries(answer.usage.model_extra["tokenworks"]["request_id"]) if e["type"] == "settle"]
        assert [e["data_class"] for e in settle] == [booked]


def test_keys_expire_rotate_with_grace_and_are_revoked(limited):
    first = limited.key()
    key_id = first.split("-")[2]
    second = json.loads(limited.cli("keys", "rotate", "--config", limited.config, "--json", key_id).stdout)["key"]
    ask(limited, first), ask(limited, second)
    limited.cli("keys", "revoke", "--config", limited.config, key_id)
    with pytest.raises(openai.AuthenticationError):
        ask(limited, first)
    ask(limited, second)
    short = limited.key(expires="1s")
    import time
    time.sleep(1.1)
    with pytest.raises(openai.AuthenticationError):
        ask(limited, short)


def test_a_repeated_idempotency_key_is_answered_once_and_charged_once(limited):
    key = limited.key()
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "Idempotency-Key": "order-4711"}
    body = json.dumps({"model": NAME, "messages": MESSAGES, "max_tokens": 8}).encode()

    def post(data):
        request = urllib.request.Request(limited.api + "/v1/chat/completions", data, headers)
        with urllib.request.urlopen(request) as response:
            return dict(response.headers), json.load(response)
    before = sum(u["requests"] for u in limited.usage())
    _, answer = post(body)
    again, replay = post(body)
    assert again["x-idempotent-replayed"] == "true" and replay["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert sum(u["requests"] for u in limited.usage()) == before + 1
    with pytest.raises(urllib.error.HTTPError) as e:
        post(body.replace(b"8", b"9"))
    assert e.value.code == 422



def test_an_answer_longer_than_the_reservation_goes_on_in_chunks(limited):
    # 16 tokens are reserved at first; the window grows with the answer up to its limit of 400.
    key = limited.key("roomy")
    answer = ask(limited, key, max_tokens=60, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 60 and answer.choices[0].finish_reason == "length"
