"""Can one tenant tell by time what another has in its prefix cache? Two samples of 200 probes each, Mann-Whitney's U.

Usage: tests/bench/run --timing [PROBES]. Before every probe the other side sends a prompt: in one sample the very prompt that is then
probed, in the other one of the same length that is not. Between tenants the samples must not be told apart (p > 0.01);
within one tenant the same test must tell them (p < 1e-6), or it proves nothing. Prints one line each; exit code 1 if not so.
"""
import json, math, random, sys, time, http.client, urllib.parse

from servers import NAME, Plant, machine

WORDS = 160


def mann_whitney(a, b):
    """Two-sided p by the normal approximation; ties are as good as absent in times."""
    ranks = sorted([(x, 0) for x in a] + [(x, 1) for x in b])
    rank_sum = sum(i + 1 for i, (_, side) in enumerate(ranks) if side == 0)
    u = rank_sum - len(a) * (len(a) + 1) / 2
    mean, deviation = len(a) * len(b) / 2, math.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    return math.erfc(abs(u - mean) / deviation / math.sqrt(2))


class Client:
    def __init__(self, plant, key):
        self.connection = http.client.HTTPConnection(urllib.parse.urlparse(plant.api).netloc, timeout=60)
        self.key = key

    def ask(self, prompt):
        """(seconds until the one token is there, prompt tokens from the cache)"""
        body = json.dumps({"model": NAME, "prompt": prompt, "max_tokens": 1, "temperature": 0})
        began = time.perf_counter()
        self.connection.request("POST", "/v1/completions", body, {"authorization": "Bearer " + self.key, "content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - began
        assert answer.status == 200, text
        return took, json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"]


def sample(victim, prober, probes, chance):
    times, cached = {True: [], False: []}, {True: 0, False: 0}
    same_or_not = [True, False] * (probes // 2)
    chance.shuffle(same_or_not)
    words = ["plant", "token", "meter", "main", "bill", "ledger", "step", "block", "tier", "hold", "usage", "price"]
    for same in same_or_not:
        probe, other = (" ".join(chance.choice(words) for _ in range(WORDS)) for _ in range(2))
        victim.ask(probe if same else other)
        took, hit = prober.ask(probe)
        times[same].append(took)
        cached[same] += hit
    return times, cached


def main():
    print(machine(), flush=True)
    probes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    chance, good = random.Random(1), True
    with Plant(context=1024) as plant:
        keys = {name: plant.key(name) for name in ("acme", "beta")}
        for what, prober, must_tell in (("another tenant's prefix", "beta", False), ("one's own prefix", "acme", True)):
            victim, client = Client(plant, keys["acme"]), Client(plant, keys[prober])
            for _ in range(4):
                client.ask("warm " + str(chance.random()) * 40)
            times, cached = sample(victim, client, probes, chance)
            p = mann_whitney(times[True], times[False])
            median = {same: sorted(t)[len(t) // 2] * 1e3 for same, t in times.items()}
            ok = p < 1e-6 if must_tell else p > 0.01 and cached[True] == 0
            good = good and ok
            print(f"{what}: {probes} probes, median {median[True]:.1f} ms cached there, {median[False]:.1f} ms not, p = {p:.2g}, "
                  f"{cached[True]} tokens from the cache: {'as it must be' if ok else 'NOT as it must be'}")
    sys.exit(0 if good else 1)


main()
