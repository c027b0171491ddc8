"""A plant that is paid in yen, which has no coin below its unit: everything is counted in millionths of a yen, from the files
through requests, credits and budgets to the books and back; and what was counted in one currency is never read in another."""
import decimal, json, pathlib, subprocess, sys

import openai
import pytest

from money_test import ask, budget, call, credit
from plant import NAME, Plant

PRICES = 'version: "yen"\ncurrency: JPY\nmodels:\n  %s: {input: 15, cached_input: 15, output: 60}\ntiers: {priority: 2}\n' % NAME
TENANTS = """plans:
  open: {models: ["*"]}
organizations:
  acme: {plan: open, budget: {amount: "9007199254.740993", per: month, warn_at: [50]}}
  prepaid: {plan: open}
"""


@pytest.fixture(scope="module")
def yen():
    with Plant(tenants=TENANTS, prices=PRICES) as plant:
        yield plant


def exact(usage):
    """In millionths: 15 and 60 yen per million tokens are so many millionths each."""
    return format(decimal.Decimal(usage.prompt_tokens * 15 + usage.completion_tokens * 60).scaleb(-6).normalize(), "f")


def test_every_amount_is_in_millionths_of_a_yen(yen):
    answer = ask(yen, yen.key())
    cost = exact(answer.usage)
    assert decimal.Decimal(str(answer.usage.model_extra["cost"])) == decimal.Decimal(cost)
    assert answer.usage.model_extra["cost_details"]["currency"] == "JPY"
    entries = yen.entries(answer.usage.model_extra["tokenworks"]["request_id"])
    assert entries[-1]["amount"] == cost and entries[-1]["currency"] == "JPY"
    explained = json.loads(yen.cli("price", "--config", yen.config, "--model", NAME, "--input", str(answer.usage.prompt_tokens), "--output", "8", "--json").stdout)
    assert explained["total"] == cost
    assert [str(u["cost"]) for u in yen.usage()] == [cost]
    assert json.loads(yen.cli("usage", "--config", yen.config, "--json").stdout)["currency"] == "JPY"
    assert f",{cost},JPY" in yen.cli("usage", "--config", yen.config, "--csv").stdout
    rows = budget(yen, "list", "--organization", "acme")["data"]
    assert rows[0]["amount"] == "9007199254.740993" and rows[0]["spent"] == cost and rows[0]["currency"] == "JPY"
    assert yen.metrics()['tokenworks_charge_total{organization="acme",currency="JPY"}'] == pytest.approx(float(cost))


def test_credits_and_budgets_are_exact_to_the_millionth(yen):
    key = yen.key("prepaid")
    first = credit(yen, "add", "--organization", "prepaid", "--id", "a", "--amount", "1000000000.000001")
    assert first["balance"] == "1000000000.000001"
    for bad in ("0.0000001", "0.000000001", "99999999999999"):
        assert credit(yen, "add", "--organization", "prepaid", "--id", "b", "--amount", bad, check=False).returncode == 2
    answer = ask(yen, key)
    left = credit(yen, "list", "--organization", "prepaid")
    assert decimal.Decimal(left["balance"]) == decimal.Decimal("1000000000.000001") - decimal.Decimal(exact(answer.usage))
    made = budget(yen, "set", "--organization", "prepaid", "--id", "one", "--amount", exact(answer.usage), "--per", "total")
    assert made["amount"] == made["spent"] == exact(answer.usage)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(yen, key)
    assert f"{exact(answer.usage)} JPY in total" in refused.value.message and f"{exact(answer.usage)} is spent" in refused.value.message
    status, body = call(yen, yen.operator_key(), "POST", "/admin/v1/organizations/prepaid/credits", {"id": "c", "amount": "0.0000001"})
    assert status == 400 and body["error"]["param"] == "amount" and "more than 6 decimals" in body["error"]["message"]
    yen.kill()
    yen.start()
    assert credit(yen, "list", "--organization", "prepaid")["balance"] == left["balance"]
    assert budget(yen, "list", "--organization", "prepaid")["data"][0]["amount"] == exact(answer.usage)


def test_both_verifiers_print_the_same_sums(yen):
    ours = yen.verify()
    assert ours["ok"] and ours["debits"] == ours["credits"]
    checker = pathlib.Path(__file__).resolve().parents[1] / "golden/verify_ledger.py"
    done = subprocess.run([sys.executable, checker, yen.folder + "/data/ledger.sqlite"], stdout=subprocess.PIPE, text=True)
    assert json.loads(done.stdout) == ours


def test_books_of_one_currency_are_not_read_in_another(yen):
    yen.stop()
    yen.write("prices.yaml", PRICES.replace("JPY", "USD").replace('"yen"', '"dollars"'))
    yen.write("tenants.yaml", TENANTS.replace("9007199254.740993", "5"))
    checked = yen.cli("check", "--config", yen.config, check=False)
    assert checked.returncode == 2 and "prices.yaml:1: currency is USD, but the books in data_dir are kept in JPY" in checked.stderr
    with pytest.raises(AssertionError, match="the books in data_dir are kept in JPY"):
        yen.start()
    assert yen.process.wait(60) == 2 and "prices.yaml:1: " in yen.log_text()
    yen.write("prices.yaml", PRICES)
    yen.start()
    yen.write("prices.yaml", PRICES.replace("JPY", "USD").replace('"yen"', '"dollars"'))
    status, body = call(yen, yen.operator_key(), "POST", "/admin/v1/reload", {})
    assert status == 400 and "prices.yaml:1: currency is USD, but the books in data_dir are kept in JPY" in body["error"]["message"]
    yen.write("prices.yaml", PRICES.replace("JPY", "XYZ"))
    assert yen.cli("check", "--config", yen.config, check=False).returncode == 2
