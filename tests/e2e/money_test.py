"""Prepaid credits, budgets and windows over HTTP: exact under sixty-four requests at once, through the CLI and the admin API,
and after kill -9."""
import decimal, json, re, threading, urllib.error, urllib.request

import openai
import pytest

from plant import NAME, Plant

PRICES = 'version: "2"\nmodels:\n  %s: {input: 0.10, cached_input: 0.10, output: 0.40}\n' % NAME
TENANTS = """plans:
  open: {models: ["*"]}
  seven: {models: ["*"], tokens_per_minute: %d, reserve_output_tokens: 8}
  places: {models: ["*"], concurrent_requests: 7}
  hourly: {models: ["*"], output_tokens_per_hour: 40, reserve_output_tokens: 16}
  tiny: {models: ["*"], input_tokens_per_minute: 3}
  many: {models: ["*"], requests_per_minute: 50, requests_per_day: 1000, output_tokens_per_hour: 5000, concurrent_requests: 9}
organizations:
  measure: {plan: open}
  prepaid: {plan: open}
  windows: {plan: seven}
  places: {plan: places}
  tiny: {plan: tiny}
  hourly: {plan: hourly}
  many: {plan: many}
  owing: {plan: open, credit_line: "%s"}
  acme: {plan: open, budget: {amount: "100", per: month}, projects: {search: {}}}
  team: {plan: open}
  orders: {plan: open}
  huge: {plan: open}
  stopped: {plan: open}
"""
MESSAGES = [{"role": "user", "content": "Say something."}]
FULL = {"max_tokens": 8, "extra_body": {"ignore_eos": True}}


def ask(plant, key, **options):
    return plant.openai(key).chat.completions.create(model=NAME, messages=MESSAGES, **{**FULL, **options})


def crowd(plant, key, count=64):
    """How many full answers `count` requests at once got, and the errors of the others."""
    full, refused = [], []

    def one():
        try:
            full.append(ask(plant, key).usage)
        except openai.APIStatusError as e:
            refused.append(e)
    threads = [threading.Thread(target=one) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return full, refused


def credit(plant, *arguments, check=True):
    done = plant.cli("credit", *arguments[:1], "--config", plant.config, "--json", *arguments[1:], check=check)
    return json.loads(done.stdout) if check else done


def budget(plant, *arguments, check=True):
    done = plant.cli("budget", *arguments[:1], "--config", plant.config, "--json", *arguments[1:], check=check)
    return json.loads(done.stdout) if check else done


def call(plant, key, method, path, body=None):
    request = urllib.request.Request(plant.admin + path, json.dumps(body).encode() if body is not None else None,
                                     {"Authorization": "Bearer " + key, "Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


@pytest.fixture(scope="module")
def money():
    plant = Plant(tenants=TENANTS % (1000, "1"), prices=PRICES)
    with plant:
        prompt = ask(plant, plant.key("measure")).usage.prompt_tokens
        plant.stop()
        plant.nano = (prompt * 100_000 + 8 * 400_000 + 500) // 1000
        plant.write("tenants.yaml", TENANTS % (7 * (prompt + 8), exact(7 * plant.nano)))
        plant.start()
        yield plant


def exact(nano):
    return format(decimal.Decimal(nano).scaleb(-9), "f").rstrip("0").rstrip(".")


def test_sixty_four_at_once_on_a_prepaid_balance_for_seven(money):
    key = money.key("prepaid")
    booked = credit(money, "add", "--organization", "prepaid", "--id", "invoice-1", "--amount", exact(7 * money.nano + 5))
    assert booked["created"] and booked["balance"] == exact(7 * money.nano + 5)
    full, refused = crowd(money, key)
    assert len(full) == 7 and all(u.completion_tokens == 8 for u in full)
    assert len(refused) == 57
    for e in refused:
        assert e.status_code == 429 and e.code == "insufficient_quota" and e.response.headers["x-should-retry"] == "false"
    left = credit(money, "list", "--organization", "prepaid")
    assert left["balance"] == left["free"] == "0.000000005" and left["held"] == "0"
    assert left["data"][0]["remaining"] == "0.000000005" and left["data"][0]["id"] == "invoice-1"


def test_sixty_four_at_once_on_a_credit_line_for_seven(money):
    full, refused = crowd(money, money.key("owing"))
    assert len(full) == 7 and {e.code for e in refused} == {"insufficient_quota"} and len(refused) == 57
    owing = credit(money, "list", "--organization", "owing")
    assert decimal.Decimal(owing["balance"]) == -decimal.Decimal(exact(7 * money.nano)) and owing["free"] == "0"


def test_sixty_four_at_once_on_token_windows_for_seven(money):
    full, refused = crowd(money, money.key("windows"))
    assert len(full) == 7 and len(refused) == 57
    for e in refused:
        assert e.code == "rate_limit_exceeded"
        ms = int(e.response.headers["retry-after-ms"])
        assert 1 <= ms <= 61_000 and int(e.response.headers["retry-after"]) == (ms + 999) // 1000
        assert e.response.headers["x-ratelimit-remaining-tokens"] == "0"


def test_sixty_four_at_once_on_seven_places(money):
    key = money.key("places")
    codes, refused_all, done = [], threading.Event(), threading.Event()

    def one():
        try:
            stream = ask(money, key, max_tokens=1500, stream=True)
            next(iter(stream))
            codes.append("ok")
            refused_all.wait(60)
            stream.close()
        except openai.APIStatusError as e:
            codes.append(e.code)
            assert "retry-after-ms" in e.response.headers
            if sum(c != "ok" for c in codes) == 57:
                refused_all.set()
    threads = [threading.Thread(target=one) for _ in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert codes.count("ok") == 7 and codes.count("concurrency_limit_exceeded") == 57, codes
    for _ in range(100):                              # those that left give their places back
        try:
            ask(money, key)
            break
        except openai.RateLimitError:
            done.wait(0.05)
    else:
        raise AssertionError("no place came back")


def test_what_can_never_fit_is_not_to_be_retried(money):
    with pytest.raises(openai.RateLimitError) as e:
        ask(money, money.key("tiny"))
    assert e.value.code == "rate_limit_exceeded" and e.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in e.value.response.headers


def test_an_answer_ends_where_its_hour_ends_and_costs_what_was_made(money):
    answer = ask(money, money.key("hourly"), max_tokens=100)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 40
    nano = (answer.usage.prompt_tokens * 100_000 + 40 * 400_000 + 500) // 1000
    cost = sum(decimal.Decimal(str(u["cost"])) for u in money.usage() if u["organization"] == "hourly")
    assert cost == decimal.Decimal(nano).scaleb(-9)


def test_an_answer_that_its_balance_ends_says_so_and_costs_what_was_made(money):
    key, tokens, rest = money.key("stopped"), 150, 399   # nano-units; a token of output costs 400
    prompt = ask(money, money.key("measure")).usage.prompt_tokens
    nano = (prompt * 100_000 + tokens * 400_000 + 500) // 1000
    credit(money, "add", "--organization", "stopped", "--id", "whole", "--amount", exact(nano + rest))
    raw = money.openai(key).chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, **{**FULL, "max_tokens": 400})
    answer = raw.parse()
    assert raw.headers["x-tokenworks-stop"] == "budget" and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == tokens and decimal.Decimal(str(answer.usage.model_dump()["cost"])) == decimal.Decimal(nano).scaleb(-9)
    assert credit(money, "list", "--organization", "stopped")["balance"] == exact(rest)
    with pytest.raises(openai.RateLimitError) as e:
        ask(money, key)
    assert e.value.code == "insufficient_quota" and e.value.response.headers["x-should-retry"] == "false"

    credit(money, "add", "--organization", "stopped", "--id", "streamed", "--amount", exact(nano))
    chunks = list(ask(money, key, max_tokens=400, stream=True, stream_options={"include_usage": True}))
    finish = [c for c in chunks if c.choices and c.choices[0].finish_reason]
    assert [c.choices[0].finish_reason for c in finish] == ["length"] and finish[0].model_dump()["tokenworks"]["stop"] == "budget"
    assert chunks[-1].usage.completion_tokens == tokens
    left = credit(money, "list", "--organization", "stopped")
    assert left["balance"] == left["free"] == exact(rest) and left["held"] == "0"


def test_every_limit_is_told_as_a_named_policy(money):
    with_headers = money.openai(money.key("many")).chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, **FULL)
    policy, state = with_headers.headers["ratelimit-policy"], with_headers.headers["ratelimit"]
    assert '"requests-per-minute";q=50;qu="requests";w=60' in policy and '"requests-per-day";q=1000;qu="requests";w=86400' in policy
    assert '"output-tokens-per-hour";q=5000;qu="tokens";w=3600' in policy and '"concurrent-requests";q=9;qu="concurrent-requests"' in policy
    assert '"requests-per-minute";r=49;t=' in state and '"concurrent-requests";r=8' in state
    item = re.compile(r'"[a-z-]+"(;[a-z]+=("[a-z-]+"|\d+))+')   # RFC 9651: strings with integer and string parameters
    for field in (policy, state):
        assert all(item.fullmatch(part) for part in field.split(", ")), field
    assert with_headers.headers["x-ratelimit-limit-requests"] == "50"


def test_a_credit_is_booked_once_per_id_and_expires(money):
    first = credit(money, "add", "--organization", "team", "--id", "a-1", "--amount", "9007199.254740993", "--expires", "30d")
    again = credit(money, "add", "--organization", "team", "--id", "a-1", "--amount", "9007199.254740993", "--expires", "30d")
    assert first["created"] and not again["created"] and again["balance"] == "9007199.254740993"
    assert again["operation"] == first["operation"] and again["expires"] == first["expires"]
    other = credit(money, "add", "--organization", "team", "--id", "a-1", "--amount", "5", check=False)
    assert other.returncode != 0 and "already used" in other.stderr
    down = credit(money, "add", "--organization", "team", "--id", "fix-1", "--amount=-7.254740993", "--correction")
    assert down["balance"] == "9007192"
    too_much = credit(money, "add", "--organization", "team", "--id", "fix-2", "--amount=-9007193", "--correction", check=False)
    assert too_much.returncode == 2 and "9007192" in too_much.stderr
    credit(money, "add", "--organization", "team", "--id", "short", "--amount", "3", "--expires", "1s")
    threading.Event().wait(1.3)
    rows = credit(money, "expire", "--organization", "team")
    assert rows["balance"] == "9007192"
    short = [r for r in rows["data"] if r["id"] == "short"][0]
    assert short["remaining"] == "0" and short["expired"]
    assert money.verify()["ok"]


def test_one_id_at_once_from_everywhere_is_one_credit(money):
    operator, seen = money.operator_key(), []
    before = decimal.Decimal(credit(money, "list", "--organization", "orders")["balance"] or "0")

    def top_up(amount):
        seen.append(call(money, operator, "POST", "/admin/v1/organizations/orders/credits", {"id": "at-once", "amount": amount}))
    threads = [threading.Thread(target=top_up, args=("6" if i % 3 == 0 else "5",)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(status == 200 and body["created"] for status, body in seen) == 1 and {status for status, _ in seen} == {200, 422}
    booked = {body["amount"] for status, body in seen if status == 200}
    assert len(booked) == 1 and decimal.Decimal(credit(money, "list", "--organization", "orders")["balance"]) - before == decimal.Decimal(booked.pop())


def test_budgets_of_key_tag_and_model_hold_together_under_a_crowd(money):
    key, operator = money.key("team"), money.operator_key()
    budgets = {"crowd-key": {"key": key.split("-")[2], "amount": exact(7 * money.nano)}, "crowd-tag": {"tag": "crowd=red", "amount": exact(3 * money.nano)},
               "crowd-model": {"model": NAME, "key": key.split("-")[2], "amount": exact(9 * money.nano)}}
    for name, spec in budgets.items():
        assert call(money, operator, "POST", "/admin/v1/organizations/team/budgets", {"id": name, "per": "total", **spec})[0] == 200
    full = {"red": 0, "blue": 0}

    def one(tag):
        try:
            ask(money, key, metadata={"crowd": tag})
            full[tag] += 1
        except openai.RateLimitError as e:
            assert e.code == "insufficient_quota"
    threads = [threading.Thread(target=one, args=("red" if i % 2 else "blue",)) for i in range(48)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert full["red"] <= 3 and full["red"] + full["blue"] == 7, full
    spent = {b["id"]: b["spent"] for b in budget(money, "list", "--organization", "team")["data"]}
    assert spent["crowd-key"] == spent["crowd-model"] == exact(7 * money.nano)
    assert (spent["crowd-tag"] if full["red"] else "0") == exact(full["red"] * money.nano)
    for name in budgets:
        assert call(money, operator, "DELETE", "/admin/v1/organizations/team/budgets/" + name)[0] == 200


def test_more_than_the_books_can_count_is_a_400(money):
    operator, seen = money.operator_key(), []
    for i in range(3):
        seen.append(call(money, operator, "POST", "/admin/v1/organizations/huge/credits", {"id": f"huge-{i}", "amount": "1152921504.606846976"}))
    assert seen[0][0] == 200 and [(s, b["error"]["param"]) for s, b in seen[1:]] == [(400, "amount")] * 2
    assert credit(money, "list", "--organization", "huge")["balance"] == "1152921504.606846976" and money.verify()["ok"]


def test_budgets_of_the_api_are_in_force_at_once_and_after_kill(money):
    operator = money.operator_key()
    key = money.key("team")
    base = "/admin/v1/organizations/team/budgets"
    amount = exact(2 * money.nano)
    status, made = call(money, operator, "POST", base, {"id": "red", "amount": amount, "per": "total", "tag": "team=red"})
    assert status == 200 and made["spent"] == "0" and made["tag"] == "team=red"
    ask(money, key, metadata={"team": "red"})
    ask(money, key, metadata={"team": "blue"})
    money.kill()
    money.start()
    ask(money, key, metadata={"team": "red"})
    with pytest.raises(openai.RateLimitError) as e:
        ask(money, key, metadata={"team": "red"})
    assert e.value.code == "insufficient_quota" and "tag team=red" in e.value.message
    ask(money, key, metadata={"team": "blue"})
    # A budget that comes later knows what was spent before.
    status, late = call(money, operator, "POST", base, {"id": "blue", "amount": amount, "tag": "team=blue", "per": "total"})
    assert status == 200 and late["spent"] == exact(2 * money.nano)
    status, by_key = call(money, operator, "POST", base, {"id": "k", "amount": "50", "key": key.split("-")[2], "timezone": "Europe/Berlin"})
    assert status == 200 and by_key["spent"] == exact(4 * money.nano)
    with pytest.raises(openai.RateLimitError):
        ask(money, key, metadata={"team": "blue"})
    assert call(money, operator, "DELETE", base + "/blue")[0] == 200
    ask(money, key, metadata={"team": "blue"})
    assert [b["id"] for b in budget(money, "list", "--organization", "team")["data"]] == ["k", "red"]
    assert call(money, operator, "DELETE", base + "/blue")[0] == 404
    audit = json.loads(json.dumps(call(money, operator, "GET", "/admin/v1/audit_events?limit=50")[1]))["data"]
    assert {"budget.set", "budget.remove"} <= {row["action"] for row in audit}


def test_what_the_configuration_declares_the_api_leaves_alone(money):
    operator = money.operator_key()
    base = "/admin/v1/organizations/acme/budgets"
    rows = call(money, operator, "GET", base)[1]["data"]
    assert [r["id"] for r in rows] == ["config-organization-1"] and rows[0]["declared_in_config"]
    for method, path, body in (("POST", base, {"id": "config-organization-1", "amount": "5"}), ("DELETE", base + "/config-organization-1", None)):
        status, answer = call(money, operator, method, path, body)
        assert status == 409 and answer["error"]["code"] == "declared_in_config"
    done = budget(money, "remove", "--organization", "acme", "--id", "config-organization-1", check=False)
    assert done.returncode != 0 and "declared in the configuration" in done.stderr


def test_only_operators_move_money_and_an_organization_sees_its_own(money):
    for role in ("member", "org_admin", "billing"):
        key = money.key("acme", role=role)
        assert call(money, key, "POST", "/admin/v1/organizations/acme/credits", {"id": "x", "amount": "5"})[0] in (401, 403)
        assert call(money, key, "GET", "/admin/v1/organizations/acme/budgets")[0] in (401, 403)
    billing = money.key("prepaid", role="billing")
    for path, field in (("/v1/organization/credits", "balance"), ("/v1/organization/budgets", "data")):
        request = urllib.request.Request(money.api + path, headers={"Authorization": "Bearer " + billing})
        assert field in json.load(urllib.request.urlopen(request))
    member = urllib.request.Request(money.api + "/v1/organization/credits", headers={"Authorization": "Bearer " + money.key("prepaid")})
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(member)
    assert e.value.code == 403


@pytest.mark.parametrize("body, param", [
    ({"id": "x", "amount": 5}, "amount"), ({"id": "x", "amount": "-5"}, "amount"), ({"id": "x", "amount": "0"}, "amount"),
    ({"id": "x", "amount": "NaN"}, "amount"), ({"id": "x", "amount": "1.0000000000000000001"}, "amount"),
    ({"id": "x", "amount": "99999999999999999999"}, "amount"), ({"amount": "5"}, "id"),
    ({"id": "x", "amount": "5", "expires": "2001-01-01T00:00:00Z"}, "expires"), ({"id": "x", "amount": "5", "currency": "XXX"}, "currency")])
def test_a_bad_credit_names_its_field_and_books_nothing(money, body, param):
    before = credit(money, "list", "--organization", "prepaid")
    status, answer = call(money, money.operator_key(), "POST", "/admin/v1/organizations/prepaid/credits", body)
    assert status == 400 and answer["error"]["param"] == param
    assert credit(money, "list", "--organization", "prepaid") == before


def test_bad_money_on_the_command_line_books_nothing(money):
    before = credit(money, "list", "--organization", "prepaid")
    for bad in ("-5", "0", "NaN", "1e3", "1.0000000000000000001", "99999999999999999999", "5 USD", ""):
        done = credit(money, "add", "--organization", "prepaid", "--id", "bad", f"--amount={bad}", check=False)
        assert done.returncode == 2 and "amount" in done.stderr, bad
    done = credit(money, "add", "--organization", "prepaid", "--id", "bad", "--amount", "5", "--expires", "2001-01-01T00:00:00Z", check=False)
    assert done.returncode == 2 and "past" in done.stderr
    done = credit(money, "add", "--organization", "prepayd", "--id", "bad", "--amount", "5", check=False)
    assert done.returncode != 0 and "did you mean 'prepaid'" in done.stderr
    for flag, value in (("--requests-per-minute", "-1"), ("--tokens-per-day", "1.5"), ("--tokens-per-hour", "99999999999999999999")):
        done = money.cli("keys", "create", "--config", money.config, "--organization", "acme", f"{flag}={value}", check=False)
        assert done.returncode == 2 and flag[2:].replace("-", "_") in done.stderr, done.stderr
    assert credit(money, "list", "--organization", "prepaid") == before


def test_a_key_has_limits_of_its_own_that_outlive_a_restart(money):
    key = money.key("measure", **{"requests-per-day": "2"})
    ask(money, key)
    money.stop()
    money.start()
    ask(money, key)
    with pytest.raises(openai.RateLimitError) as e:
        ask(money, key)
    assert "requests per day" in e.value.message


def test_credits_and_budgets_without_a_daemon(money):
    money.stop()
    booked = credit(money, "add", "--organization", "acme", "--id", "offline", "--amount", "1.5")
    assert booked["created"]
    budget(money, "set", "--organization", "acme", "--id", "own", "--amount", "2", "--project", "search", "--warn-at", "50,80")
    money.start()
    assert credit(money, "list", "--organization", "acme")["balance"] == "1.5"
    own = [b for b in budget(money, "list", "--organization", "acme")["data"] if b["id"] == "own"][0]
    assert own["project"] == "search" and own["warn_at"] == [50, 80]
    assert money.verify()["ok"]
