"""Connections that do nothing and readers that stall cost a bounded buffer each. 1,000 and 200 here, 10,000 and 2,000 with
TOKENWORKS_LONG=1. The client is another process; both raise their descriptor limit to the hard one (said in the output)."""
import json, os, pathlib, resource, socket, subprocess, sys, threading, time, urllib.error, urllib.request

import pytest

from front_test import eventually
from models_test import tiny  # noqa: F401: a fixture
from plant import NAME, PLANT, Plant

LONG = os.environ.get("TOKENWORKS_LONG") == "1"
IDLE, STALLED, TOKENS = (10_000, 2_000, 160) if LONG else (1_000, 200, 60)
PATIENT = "limits: {{drain: {drain}, read_timeout: 10m, idle_timeout: 10m, write_timeout: 10m, queue_requests: 4096, queue_per_tenant: 4096}}\nlog: {{level: warn}}"
IDLE_BYTES = 8 << 10                                 # of one connection in the daemon, kernel buffers aside
STALLED_BYTES = 64 << 10                             # of one stream that ended and was not read, likewise


class Held:
    def __init__(self, plant, mode, count, request):
        url = plant.api.removeprefix("http://").split(":")
        path = pathlib.Path(plant.folder, mode + ".http")
        path.write_bytes(request)
        script = pathlib.Path(__file__).with_name("held_client.py")
        self.process = subprocess.Popen([sys.executable, script, *url, mode, str(count), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print("descriptors of the client, soft and hard:", self.heard()["descriptors"])

    def heard(self):
        line = self.process.stdout.readline()
        assert line, "the client ended"
        return json.loads(line)

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)


class Pulse(threading.Thread):
    """Asks /livez all the time."""

    def __init__(self, plant):
        super().__init__()
        self.url, self.stop, self.seconds = plant.admin + "/livez", threading.Event(), []
        self.start()

    def run(self):
        while not self.stop.wait(0.05):
            begin = time.monotonic()
            assert urllib.request.urlopen(self.url, timeout=60).status == 200
            self.seconds.append(time.monotonic() - begin)

    def worst(self):
        self.stop.set()
        self.join()
        return max(self.seconds)


@pytest.fixture(scope="module")
def plant(tiny):  # noqa: F811
    text = PLANT.replace("limits: {{drain: {drain}}}", PATIENT).replace("{model}", str(tiny))
    with Plant(plant=text, context=512, kv="256MiB") as running:
        running.secret = running.key()
        yield running


def rss(plant):
    return plant.metrics()["process_resident_memory_bytes"]


def whole_request(method, path, key, body=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_idle_connections_cost_little_and_go_on_working(plant):
    need = IDLE + 100
    limits = pathlib.Path(f"/proc/{plant.process.pid}/limits").read_text()
    hard = next(int(l.split()[4]) for l in limits.splitlines() if l.startswith("Max open files"))
    assert hard > need, f"this machine's hard descriptor limit of {hard} is too low for {IDLE} connections"
    ask = whole_request("GET", "/v1/models", plant.secret)
    with Held(plant, "idle", 50, ask) as warm:
        assert warm.heard() == {"held": 50}
    assert eventually(lambda: plant.metrics()["process_open_fds"] < 60)
    before, pulse = rss(plant), Pulse(plant)
    with Held(plant, "idle", IDLE, ask) as held:
        assert held.heard() == {"held": IDLE}
        assert plant.metrics()["process_open_fds"] > IDLE
        first = rss(plant)
        print(f"{IDLE} idle connections: {(first - before) / IDLE:.0f} bytes each")
        assert (first - before) / IDLE <= IDLE_BYTES
        held.go_on()
        assert held.heard() == {"ok": IDLE}, "each of them is still there for its next request"
        assert rss(plant) - first <= 0.1 * first, "and holds no more than before it"
    print(f"/livez meanwhile: at most {pulse.worst() * 1e3:.0f} ms")
    assert eventually(lambda: plant.metrics()["process_open_fds"] < 60)


def test_streams_whose_readers_stall_end_are_booked_and_wait(plant):
    body = json.dumps({"model": NAME, "prompt": "Once", "max_tokens": TOKENS, "ignore_eos": True, "stream": True, "logprobs": 5,
                       "stream_options": {"include_usage": True}}).encode()
    ask = whole_request("POST", "/v1/completions", plant.secret, body)
    counted = lambda: sum(r["output_tokens"] for r in plant.usage())
    with Held(plant, "stalled", 100, ask) as warm:   # what the engine touches once, its cache and its queues, is no stream's
        assert warm.heard() == {"held": 100}
        warm.go_on()
        assert warm.heard() == {"whole": 100}
    assert eventually(lambda: plant.metrics()["tokenworks_holds_open"] == 0)
    before, base, pulse = rss(plant), counted(), Pulse(plant)
    with Held(plant, "stalled", STALLED, ask) as held:
        assert held.heard() == {"held": STALLED}
        running = lambda m: m["tokenworks_sequences_running"] + m["tokenworks_sequences_waiting"]
        assert eventually(lambda: plant.metrics()["process_open_fds"] > STALLED and running(plant.metrics()) == 0, 600)
        full = rss(plant)
        print(f"{STALLED} stalled streams of {TOKENS} tokens: {(full - before) / STALLED:.0f} bytes each")
        assert (full - before) / STALLED <= STALLED_BYTES
        for _ in range(20 if not LONG else 100):
            assert urllib.request.urlopen(plant.admin + "/livez", timeout=60).status == 200
        assert rss(plant) <= full + (1 << 20), "nothing grows while they wait"
        held.go_on()
        assert held.heard() == {"whole": STALLED}, "every one of them gets all of it when it reads at last"
    assert eventually(lambda: plant.metrics()["tokenworks_holds_open"] == 0)
    assert counted() - base == STALLED * TOKENS
    assert plant.verify()["ok"]
    print(f"/livez meanwhile: at most {pulse.worst() * 1e3:.0f} ms")


def test_who_only_connects_leaves_descriptors_for_probes_and_books(tiny):  # noqa: F811
    plant = Plant(plant=PLANT.replace("{model}", str(tiny)), context=512, kv="32MiB")
    held = []
    try:
        plant.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160)))
        assert '"event":"connections_lowered"' in plant.log_text() and '"connections":32' in plant.log_text()
        host, port = plant.api.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
        assert plant.readiness() == 200 and plant.metrics()["process_open_fds"] < 160
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(plant.api + "/v1/models", timeout=10)
        assert refused.value.code == 503
        for one in held:
            one.close()
        assert eventually(lambda: plant.metrics()["process_open_fds"] < 60)
        answer = plant.openai(plant.key()).completions.create(model=NAME, prompt="hi", max_tokens=1)
        assert answer.usage.completion_tokens == 1 and plant.verify()["ok"]
        assert "accept_failed" not in plant.log_text()
    finally:
        for one in held:
            one.close()
        plant.close()
