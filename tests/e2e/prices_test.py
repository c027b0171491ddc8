"""Prices in a running plant: the book of the admission counts, a mistake keeps the old one, the past is not changed and stays
explained, and an amount that no double holds goes from the files to the books and back."""
import csv, decimal, io, json, pathlib, signal, socket, sqlite3, threading, time, urllib.error, urllib.request

import pytest

from plant import NAME, TENANTS, Plant

D = decimal.Decimal
ODD = "9007199.254740993"                             # 2^53 + 1 nano-units
MESSAGES = [{"role": "user", "content": "Say something."}]


def prices(version, output, more=""):
    return f'version: "{version}"\nmodels:\n  {NAME}: {{input: 0.10, cached_input: 0.05, output: {output}}}\n{more}'


def call(plant, key, method, path, body=None):
    request = urllib.request.Request(plant.admin + path, None if body is None else json.dumps(body).encode(), method=method,
                                     headers={"Content-Type": "application/json", "Authorization": "Bearer " + key})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read() or b"null", parse_float=D)
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read() or b"null")


@pytest.fixture(scope="module")
def plant():
    with Plant(prices=prices("one", "0.40")) as plant:
        plant.member, plant.operator = plant.key(), plant.operator_key()
        yield plant


def ask(plant, key=None):
    raw = plant.openai(key or plant.member).chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, max_tokens=8,
                                                                                      extra_body={"ignore_eos": True})
    return raw.headers["x-request-id"], json.loads(raw.text, parse_float=D)["usage"]


def nano(usage, output_micro):
    """What it must cost, in nano-units, from the counts: prices in micro-units per million tokens."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    pico = (usage["prompt_tokens"] - cached) * 100_000 + cached * 50_000 + usage["completion_tokens"] * output_micro
    return (2 * pico + 1000) // 2000


def settled(plant, request):
    return [e for e in plant.entries(request) if e["type"] == "settle"][0]


def price(plant, *arguments, check=True):
    done = plant.cli("price", "--config", plant.config, "--model", NAME, "--json", *arguments, check=check)
    return json.loads(done.stdout) if check else done


def reload(plant, text):
    plant.write("prices.yaml", text)
    return call(plant, plant.operator, "POST", "/admin/v1/reload", {})


def hangup(plant, text, wanted):
    """SIGHUP; waits until the reload has ended as wanted (1 good, 0 kept)."""
    before = plant.log_text().count('"reload')
    plant.write("prices.yaml", text)
    plant.send(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while plant.log_text().count('"reload') == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert plant.metrics()["tokenworks_config_last_reload_success"] == wanted, plant.log_text()[-2000:]


BAD = [("output: 0.40", "output: forty", 3), ("output: 0.40", "output: -0.40", 3), ("output: 0.40", "output: NaN", 3),
       ("output: 0.40", "output: 0.4000000000000000001", 3), ("output: 0.40", "output: 99999999999999999999", 3),
       ('version: "one"', 'version: "one"\ncurrency: XYZ', 2),
       ("output: 0.40", "output: 0.40, bands: [{over: 2k, input: 1}, {over: 2k, input: 2}]", 3),
       ("output: 0.40", "output: 0.50", 1), ("tiers: {}", "versions: [{version: past, from: 2020-01-01, models: {%s: {input: 1, output: 1}}}]" % NAME, 4)]


@pytest.mark.parametrize("good, bad, line", BAD)
def test_a_reload_with_a_mistake_keeps_the_old_book_and_everything_else(plant, good, bad, line):
    whole = prices("one", "0.40", "tiers: {}\n")
    plant.write("tenants.yaml", TENANTS + "  gamma: {plan: open}\n")
    hangup(plant, whole.replace(good, bad), 0)
    assert f"prices.yaml:{line}: " in plant.log_text().rsplit("reload_failed", 1)[1]
    _, usage = ask(plant)
    assert D(str(usage["cost"])) * 10**9 == nano(usage, 400_000)
    assert call(plant, plant.operator, "POST", "/admin/v1/keys", {"organization": "gamma"})[0] >= 400, "the tenants came in alone"
    assert call(plant, plant.operator, "POST", "/admin/v1/ledger/verify", {})[1]["ok"]
    plant.write("tenants.yaml", TENANTS)


def test_the_price_at_admission_counts_and_the_past_stays_explained(plant):
    hangup(plant, prices("one", "0.40"), 1)
    first, first_usage = ask(plant)
    between = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stream = plant.openai(plant.member).chat.completions.with_raw_response.create(
        model=NAME, messages=MESSAGES, max_tokens=400, stream=True, stream_options={"include_usage": True}, extra_body={"ignore_eos": True})
    parts = iter(stream.parse())
    next(parts)
    while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) == between:
        time.sleep(0.05)                              # the next second, so that `between` is before the reload
    hangup(plant, prices("two", "0.80"), 1)
    last = [p for p in parts][-1].to_dict()["usage"]
    assert last["completion_tokens"] == 400
    running = stream.headers["x-request-id"]
    after, after_usage = ask(plant)
    for request, usage, output, version in ((first, first_usage, 400_000, "one"), (running, last, 400_000, "one"), (after, after_usage, 800_000, "two")):
        entry = settled(plant, request)
        assert entry["price_version"] == version and D(entry["amount"]) * 10**9 == nano(usage, output)
        explained = price(plant, "--version-hash", entry["price_hash"], "--input", str(usage["prompt_tokens"]),
                          "--cached", str(usage["prompt_tokens_details"]["cached_tokens"]), "--output", str(usage["completion_tokens"]))
        assert explained["total"] == entry["amount"] and explained["version_hash"] == entry["price_hash"] and explained["version"] == version
    size = ("--input", "1000", "--output", "1000")
    assert price(plant, *size, "--at", between)["total"] == "0.0005"
    assert price(plant, *size)["total"] == "0.0009"
    assert price(plant, *size, "--at", "2100-01-01")["total"] == "0.0009"
    assert price(plant, *size, "--version-hash", "00000000", check=False).returncode != 0
    with sqlite3.connect(f"file:{plant.folder}/data/ledger.sqlite?mode=ro", uri=True) as books:
        assert {v for v, in books.execute("SELECT version FROM price_books")} >= {"one", "two"}


def test_of_a_refused_reload_and_a_refused_start_no_version_of_prices_stays_behind(plant):
    """Refused for another reason than the prices: the same version may come with other prices, and no past is told of it."""
    assert reload(plant, prices("before", "0.40"))[0] == 200
    good, own = TENANTS, pathlib.Path(plant.config).read_text()
    reasons = [("prices.yaml", prices("V", "0.50").replace("models:", "currency: EUR\nmodels:", 1), None),
               ("tenants.yaml", good.replace("acme: {plan: open,", "acme: {plan: open, budget: {amount: 1, tag: a=b, model: %s}," % NAME), good),
               ("tokenworks.yaml", own.replace(".gguf", ".none"), own)]
    for number, (name, bad, mended) in enumerate(reasons):
        version = f"refused-{number}"
        plant.write("prices.yaml", prices(version, "0.50"))
        plant.write(name, bad.replace('"V"', f'"{version}"'))
        assert call(plant, plant.operator, "POST", "/admin/v1/reload", {})[0] == 400, name
        assert plant.cli("check", "--config", plant.config, check=False).returncode == 2
        if mended:
            plant.write(name, mended)
        status, body = reload(plant, prices(version, "0.60"))
        assert status == 200, body
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
        while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) <= moment:
            time.sleep(0.05)
        now = price(plant, "--input", "0", "--output", "1000000", "--at", moment)
        assert now["total"] == "0.6" and now["version"] == version
    plant.stop()
    plant.write("prices.yaml", prices("at-start", "0.50").replace("models:", "currency: EUR\nmodels:", 1))
    with pytest.raises(AssertionError, match="the books in data_dir are kept in USD"):
        plant.start()
    own = pathlib.Path(plant.config).read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = 'listen: ["127.0.0.1:%d"]' % taken.getsockname()[1]
        plant.write("tokenworks.yaml", own.replace('listen: ["127.0.0.1:0"]', address, 1))
        plant.write("prices.yaml", prices("at-start", "0.50"))
        with pytest.raises(AssertionError, match="in use"):
            plant.start()
    plant.write("tokenworks.yaml", own)
    plant.write("prices.yaml", prices("at-start", "0.60"))
    plant.start()
    with sqlite3.connect(f"file:{plant.folder}/data/ledger.sqlite?mode=ro", uri=True) as books:
        texts = [json.loads(t) for t, in books.execute("SELECT text FROM price_books")]
    assert all(t["currency"] == "USD" for t in texts)
    done = [row["action"] for row in call(plant, plant.operator, "GET", "/admin/v1/audit_events?limit=8")[1]["data"]]
    assert done.count("config.reload") == 4 and done.count("config.reload.refused") == 3 and done.count("plant.start") == 1, done


def test_what_was_in_force_is_not_changed_by_a_reload_or_a_restart(plant):
    status, body = reload(plant, prices("two", "0.80"))
    assert status == 200
    status, body = reload(plant, prices("one", "0.41"))
    assert status == 400 and "prices.yaml:1: version 'one' has been in force with other prices" in body["error"]["message"]
    later = "versions:\n  - {version: three, from: %s, models: {" + NAME + ": {input: 1, output: 1}}}\n"
    status, body = reload(plant, prices("two", "0.80", later % "2020-01-01"))
    assert status == 400 and "prices.yaml:5: version 'three' would begin in the past" in body["error"]["message"]
    assert reload(plant, prices("two", "0.80", later % "2099-01-01"))[0] == 200
    assert reload(plant, prices("two", "0.80", later % "2098-01-01"))[0] == 200, "what is still to come may change"
    plant.write("prices.yaml", prices("one", "0.41"))
    for running in (True, False):                     # check says it beforehand, beside the daemon and without one
        done = plant.cli("check", "--config", plant.config, check=False)
        assert done.returncode == 2 and "prices.yaml:1: version 'one' has been in force with other prices" in done.stderr
        if running:
            plant.stop()
    with pytest.raises(AssertionError, match="has been in force with other prices"):
        plant.start()
    assert plant.process.wait(60) == 2
    plant.write("prices.yaml", prices("two", "0.80"))
    plant.start()


def test_an_amount_that_no_double_holds_goes_through_everything(plant):
    plant.write("tenants.yaml", f"""plans:
  open: {{models: ["*"]}}
organizations:
  acme: {{plan: open, budget: {{amount: "{ODD}", per: total}}}}
  beta: {{plan: open, credit_line: "{ODD}"}}
""")
    status, body = reload(plant, f'version: "odd"\nmodels:\n  {NAME}: {{input: 0, output: 0, per_request: {ODD}}}\ntiers: {{priority: 1, batch: 1}}\n')
    assert status == 200, body
    assert call(plant, plant.operator, "GET", "/admin/v1/organizations/acme/budgets")[1]["data"][0]["amount"] == ODD
    # beta: a credit line of exactly one request; the second finds nothing.
    beta = plant.key("beta")
    request, usage = ask(plant, beta)
    assert str(usage["cost"]) == ODD
    assert settled(plant, request)["amount"] == ODD
    with pytest.raises(Exception, match="does not cover this request: 9007199.254740993 is unpaid"):
        ask(plant, beta)
    row = [u for u in json.loads(plant.cli("usage", "--config", plant.config, "--json").stdout, parse_float=D)["data"] if u["organization"] == "beta"]
    assert [str(u["cost"]) for u in row] == [ODD]
    table = csv.DictReader(io.StringIO(plant.cli("usage", "--config", plant.config, "--csv").stdout))
    listed = [r["cost"] for r in table if r["organization"] == "beta"]
    assert listed == [ODD]                            # and back: what the CSV says is what pays for it
    status, booked = call(plant, plant.operator, "POST", "/admin/v1/organizations/beta/credits", {"id": "odd", "amount": listed[0]})
    assert status == 200 and booked["balance"] == "0"
    status, credits = call(plant, plant.operator, "GET", "/admin/v1/organizations/beta/credits")
    assert credits["data"][0]["amount"] == ODD and credits["credit_line"] == ODD
    with sqlite3.connect(f"file:{plant.folder}/data/ledger.sqlite?mode=ro", uri=True) as books:
        amounts = [a for a, in books.execute("SELECT amount FROM ledger_entries WHERE organization = 'beta' AND type IN ('settle', 'topup')")]
    assert amounts == [9007199254740993, 9007199254740993]
    start = int(time.time()) - 86400
    costs = call(plant, plant.operator, "GET", f"/v1/organization/costs?start_time={start}&group_by=project_id")[1]
    values = [str(r["amount"]["value"]) for b in costs["data"] for r in b["results"]]
    assert ODD in values, costs
    assert price(plant, "--input", "5", "--output", "5")["total"] == ODD
    assert plant.verify()["ok"]
