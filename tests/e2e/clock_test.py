"""A daemon whose wall clock is moved: days of 23 and 25 hours, midnights in a zone, a clock that is set back. No budget is renewed
early or twice, no credit comes back, and the windows of a minute do not care."""
import calendar, decimal, pathlib, struct, subprocess, time

import openai
import pytest

from money_test import ask, budget, credit, exact
from plant import NAME, Plant

PRICES = 'version: "2"\nmodels:\n  %s: {input: 0.10, cached_input: 0.10, output: 0.40}\n' % NAME
TENANTS = """plans:
  open: {models: ["*"]}
  few: {models: ["*"], requests_per_minute: 2}
organizations:
  measure: {plan: open}
  acme: {plan: open}
  prepaid: {plan: open}
  few: {plan: few}
"""
HERE = pathlib.Path(__file__).resolve().parent


class MovedPlant(Plant):
    def __init__(self, **options):
        super().__init__(**options)
        self.clock = self.folder + "/clock"
        pathlib.Path(self.clock).write_bytes(struct.pack("=q", 0))
        library = self.folder + "/moved_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(HERE / "moved_clock.c")], check=True)
        self.env.update(LD_PRELOAD=library, TOKENWORKS_TEST_CLOCK=self.clock)

    def set(self, utc):
        """The wall clock says this from now on, and runs."""
        wanted = calendar.timegm(time.strptime(utc, "%Y-%m-%dT%H:%M:%SZ")) * 10**9
        with open(self.clock, "r+b") as f:
            f.write(struct.pack("=q", wanted - time.time_ns()))


@pytest.fixture(scope="module")
def moved():
    plant = MovedPlant(tenants=TENANTS, prices=PRICES)
    plant.set("2026-03-28T12:00:00Z")
    with plant:
        prompt = ask(plant, plant.key("measure")).usage.prompt_tokens
        plant.nano = (prompt * 100_000 + 8 * 400_000 + 500) // 1000
        yield plant


def refused(plant, key):
    with pytest.raises(openai.RateLimitError) as e:
        ask(plant, key)
    assert e.value.code == "insufficient_quota"
    return e.value.message


def spent(plant):
    return decimal.Decimal(budget(plant, "list", "--organization", "acme")["data"][0]["spent"]) / decimal.Decimal(exact(plant.nano))


def test_a_day_of_23_hours_and_one_of_25_are_each_one_day(moved):
    key = moved.key("acme")
    made = budget(moved, "set", "--organization", "acme", "--id", "daily", "--amount", exact(2 * moved.nano), "--per", "day", "--timezone", "Europe/Berlin")
    assert made["period_start"].startswith("2026-03-27T23:00:00") and made["period_end"].startswith("2026-03-28T23:00:00")
    moved.set("2026-03-28T23:00:10Z")                 # 29 March begins; its night has no hour from two to three
    ask(moved, key), ask(moved, key)
    assert "renews at 2026-03-30T00:00:00+02:00" in refused(moved, key)
    moved.set("2026-03-29T21:59:30Z")
    refused(moved, key)
    moved.set("2026-03-29T22:00:05Z")                 # 23 hours later: the 30th
    ask(moved, key)
    assert spent(moved) == 1

    moved.set("2026-10-24T22:00:05Z")                 # 25 October begins, and has the hour from two to three twice
    ask(moved, key)
    moved.set("2026-10-25T00:30:00Z")                 # half past two, in summer
    ask(moved, key)
    moved.set("2026-10-25T01:30:00Z")                 # half past two, in winter
    refused(moved, key)
    moved.set("2026-10-25T22:30:00Z")                 # 24 hours and a half later: still the 25th
    assert "renews at 2026-10-26T00:00:00+01:00" in refused(moved, key)
    moved.kill()
    moved.start()
    assert spent(moved) == 2, "a restart in a long day knows all of it"
    refused(moved, key)
    moved.set("2026-10-25T23:00:05Z")
    ask(moved, key)
    assert spent(moved) == 1


def test_a_clock_that_is_set_back_opens_no_second_budget(moved):
    key = moved.key("acme")
    moved.set("2026-10-26T10:00:00Z")
    ask(moved, key)                                   # the second of the 26th
    moved.set("2026-10-25T12:00:00Z")                 # the 25th again, of which two were spent
    refused(moved, key)
    moved.set("2026-10-26T11:00:00Z")
    refused(moved, key)
    moved.set("2026-10-27T11:00:00Z")
    ask(moved, key)
    assert moved.verify()["ok"] and moved.verify()["open_holds"] == 0


def test_a_credit_expires_at_its_instant_and_does_not_come_back(moved):
    key = moved.key("prepaid")
    moved.set("2026-10-28T11:59:00Z")
    credit(moved, "add", "--organization", "prepaid", "--id", "a", "--amount", exact(2 * moved.nano), "--expires", "2026-10-28T12:00:00Z")
    ask(moved, key)
    moved.set("2026-10-28T12:00:01Z")
    refused(moved, key)
    assert credit(moved, "expire", "--organization", "prepaid")["balance"] == "0"
    moved.set("2026-10-28T11:00:00Z")
    refused(moved, key)
    moved.kill()
    moved.start()
    refused(moved, key)
    late = credit(moved, "add", "--organization", "prepaid", "--id", "b", "--amount", "1", "--expires", "2026-10-28T10:59:00Z", check=False)
    assert late.returncode == 2 and "in the past" in late.stderr
    # What was booked before it passed is still the same order, whenever it is repeated; another one under its id is not.
    moved.set("2026-10-29T11:00:00Z")
    again = credit(moved, "add", "--organization", "prepaid", "--id", "a", "--amount", exact(2 * moved.nano), "--expires", "2026-10-28T12:00:00Z")
    assert not again["created"] and again["balance"] == "0"
    other = credit(moved, "add", "--organization", "prepaid", "--id", "a", "--amount", "1", "--expires", "2026-10-28T12:00:00Z", check=False)
    assert other.returncode != 0 and "already used" in other.stderr
    assert moved.verify()["ok"]


def test_the_windows_of_a_minute_do_not_care_what_the_wall_says(moved):
    key = moved.key("few")
    begun = time.monotonic()
    ask(moved, key), ask(moved, key)
    for hour in (0, 23, 5):
        moved.set(f"2026-10-29T{hour:02}:00:00Z")
        if time.monotonic() - begun > 50:
            break                                     # a machine so slow that the window has moved on
        with pytest.raises(openai.RateLimitError) as e:
            ask(moved, key)
        assert e.value.code == "rate_limit_exceeded" and 0 < int(e.value.response.headers["retry-after-ms"]) <= 61_000
