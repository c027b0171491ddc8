"""Two tenants on one daemon: what the metrics say about their shares, queues that are bounded, deadlines that are refused in time."""
import json, threading, time, urllib.error, urllib.request

import pytest

from plant import NAME, PLANT, Plant

TENANTS = """plans:
  one: {models: ["*"], weight: 1}
  three: {models: ["*"], weight: 3}
  sold: {models: ["*"], weight: 1, reserved_tokens_per_second: 1000000}
  first: {models: ["*"], weight: 1, tier: priority}
  last: {models: ["*"], weight: 1, tier: batch}
organizations:
  acme: {plan: one}
  beta: {plan: three}
  gamma: {plan: sold}
  swift: {plan: first}
  slow: {plan: last}
"""
SMALL = PLANT.replace("max_sequences: 64", "max_sequences: 8").replace("limits: {{", "limits: {{queue_per_tenant: 12, ")


def complete(plant, key, prompt, tokens, timeout=None):
    """(status, answer, headers)"""
    body = {"model": NAME, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
    if timeout:
        headers["x-request-timeout"] = str(timeout)
    request = urllib.request.Request(plant.api + "/v1/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


class Flood:
    """`clients` threads of one tenant, each asking again as soon as it has its answer."""
    def __init__(self, plant, key, clients, prompt, tokens):
        self.refused, self.stop = [], threading.Event()
        self.asking, self.lock = 0, threading.Lock()      # requests on their way, but for those that sleep off a refusal
        self.threads = [threading.Thread(target=self.run, args=(plant, key, f"{prompt} {n}", tokens)) for n in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, plant, key, prompt, tokens):
        turn = 0
        while not self.stop.is_set():
            turn += 1
            with self.lock:
                self.asking += 1
            status, answer, headers = complete(plant, key, f"{turn} {prompt}", tokens)
            with self.lock:
                self.asking -= 1
            if status != 200:
                self.refused.append((status, answer, headers))
                time.sleep(0.2)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()


@pytest.fixture(scope="module")
def plant():
    with Plant(tenants=TENANTS, plant=SMALL) as plant:
        plant.keys = {name: plant.key(name) for name in ("acme", "beta", "gamma", "swift", "slow")}
        yield plant


def billed(metrics, organization):
    return sum(value for name, value in metrics.items()
               if name.startswith("tokenworks_tokens_total{") and f'organization="{organization}"' in name and 'class="output"' in name)


def flooded(plant, names, enough):
    """Output tokens of each organization while all of them ask for more than all slots, until each has `enough`; and the metrics seen."""
    floods = [Flood(plant, plant.keys[name], 18, "The plant turns capacity into tokens, and every token is counted where it is made", 24)
              for name in names]
    time.sleep(3)
    seen, before, got = [], None, [0] * len(names)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and min(got) < enough:       # counts, not seconds, end it
        backlogged = min(f.asking for f in floods) > 8             # more of either than all the slots there are
        seen.append(plant.metrics())
        now = [billed(seen[-1], name) for name in names] if backlogged else None
        if now and before:
            got = [g + n - b for g, n, b in zip(got, now, before)]
        before = now
        time.sleep(0.25)
    for f in floods:
        f.end()
    print("output tokens of", names, "while all were backlogged:", got)
    assert min(got) >= enough
    assert all(m["tokenworks_fairness_gap_units"] <= m["tokenworks_fairness_bound_units"] for m in seen)
    return got, seen


def test_two_tenants_that_flood_share_the_slots_by_weight_and_the_metrics_keep_the_bound(plant):
    got, seen = flooded(plant, ("acme", "beta"), 24 * 40)
    assert 3 * 0.8 <= got[1] / got[0] <= 3 * 1.2, got
    assert max(m["tokenworks_fairness_bound_units"] for m in seen) > 0
    # Autoscaling looks at these: busy under the flood, and quiet after it.
    assert max(m["tokenworks_sequences_running"] for m in seen) == 8
    assert min(m["tokenworks_sequences_waiting"] for m in seen[len(seen) // 4:]) > 0
    assert min(m["tokenworks_predicted_wait_seconds"] for m in seen[len(seen) // 4:]) > 0
    after = plant.metrics()
    assert after["tokenworks_sequences_running"] == after["tokenworks_sequences_waiting"] == after["tokenworks_predicted_wait_seconds"] == 0


def test_prompts_that_want_more_than_a_step_leave_a_gap_that_a_scrape_after_them_still_shows(plant):
    # Short prompts all fit into a step on a quick machine: only slots are scarce then, and the gap is truly 0. Four of these do not.
    long = " ".join(f"{n} tokens are counted where they are made," for n in range(150))
    got = []
    asked = [threading.Thread(target=lambda key=plant.keys[name], turn=turn: got.append(complete(plant, key, f"{turn} {long}", 2)[0]))
             for name in ("acme", "beta") for turn in range(2)]
    for t in asked:
        t.start()
    for t in asked:
        t.join()
    assert got == [200] * 4
    after = plant.metrics()                            # the largest of the last half to whole minute, not that of the last step
    assert 0 < after["tokenworks_fairness_gap_units"] <= after["tokenworks_fairness_bound_units"]


def test_tiers_share_sixteen_to_four_to_one_and_batch_work_goes_on(plant):
    got, _ = flooded(plant, ("swift", "acme", "slow"), 24 * 8)
    shares = [g / sum(got) for g in got]
    assert abs(shares[0] - 0.76) < 0.1 and abs(shares[1] - 0.19) < 0.08 and 0.025 <= shares[2] <= 0.1, shares


def test_who_has_bought_more_than_the_plant_can_do_gets_four_fifths_of_it_and_others_go_on(plant):
    got, _ = flooded(plant, ("gamma", "beta"), 24 * 16)            # by weights alone it would be 1 : 3
    assert 0.7 <= got[0] / sum(got) <= 0.95, got


def test_a_full_queue_of_ones_own_is_a_429_and_no_one_elses_business(plant):
    flood = Flood(plant, plant.keys["acme"], 40, "A meter, a main, a bill", 48)
    deadline = time.monotonic() + 60
    while not flood.refused and time.monotonic() < deadline:
        time.sleep(0.05)
    status, answer, _ = complete(plant, plant.keys["beta"], "Another tenant asks", 4)
    ready = urllib.request.urlopen(plant.admin + "/readyz", timeout=10).status
    flood.end()
    assert status == 200 and answer["usage"]["completion_tokens"] == 4
    assert ready == 200                                   # a full queue is no reason to take the plant out of service
    assert flood.refused
    for status, answer, headers in flood.refused:
        assert status == 429 and answer["error"]["code"] == "rate_limit_exceeded", answer
        assert int(headers["retry-after"]) >= 1


def test_who_cannot_be_in_time_is_told_at_once_when_to_come_again(plant):
    flood = Flood(plant, plant.keys["acme"], 19, "The quick brown fox jumps over the lazy dog, again and again", 120)
    refused = []
    deadline = time.monotonic() + 120
    while not refused and time.monotonic() < deadline:
        began = time.monotonic()
        status, answer, headers = complete(plant, plant.keys["acme"], "Quickly now", 100, timeout=1)
        if status == 503:
            refused.append((time.monotonic() - began, answer, headers))
        else:
            assert status in (200, 429, 504), answer      # in time after all, its queue is full, or before anything was known
    flood.end()
    assert refused
    _, answer, headers = refused[0]
    assert answer["error"]["code"] == "server_is_overloaded"
    assert int(headers["retry-after"]) >= 1
