"""kill -9 in the middle of 16 streams loses nothing a client was told."""
import decimal, http.client, json, os, random, threading, time, urllib.parse, urllib.request

import pytest

from plant import NAME, Plant

CYCLES = 200 if os.environ.get("TOKENWORKS_LONG") == "1" else 20
STREAMS = 16


class Stream(threading.Thread):
    """One client: remembers every token count it saw and the final usage, if it got one."""
    patience = 60

    def __init__(self, plant, key, rng):
        super().__init__(daemon=True)
        self.url, self.key = urllib.parse.urlparse(plant.api), key
        self.body = {"model": NAME, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": rng.randint(4, 120),
                     "ignore_eos": True, "temperature": 1, "seed": rng.randint(0, 1 << 30),
                     "messages": [{"role": "user", "content": "Tell me about " + rng.choice(["rivers", "stone", "lanterns", "trains"])}]}
        self.request_id, self.chunks, self.usage, self.status, self.times = None, 0, None, None, []

    def run(self):
        try:
            connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=self.patience)
            connection.request("POST", "/v1/chat/completions", json.dumps(self.body),
                               {"Authorization": "Bearer " + self.key, "Content-Type": "application/json"})
            response = connection.getresponse()
            self.status, self.request_id = response.status, response.headers["x-request-id"]
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if event.get("usage"):
                    self.usage = event["usage"]
                elif event.get("choices") and event["choices"][0]["delta"].get("content"):
                    self.chunks += 1
                    self.times.append(time.monotonic())
        except (OSError, http.client.HTTPException, ValueError):
            pass


@pytest.mark.parametrize("progress", ["100ms", "step"])
def test_kill_nine_in_the_middle_of_sixteen_streams(progress):
    seed = int(os.environ.get("TOKENWORKS_SEED", random.SystemRandom().randint(0, 1 << 30)))
    print("seed", seed)
    rng = random.Random(seed)
    plant = Plant(progress=progress, kv="128MiB")
    try:
        plant.start()
        key = plant.key()
        told, cut = [], []
        for _ in range(CYCLES):
            streams = [Stream(plant, key, rng) for _ in range(STREAMS)]
            for stream in streams:
                stream.start()
            time.sleep(rng.uniform(0.05, 1.5))
            killed_at = time.monotonic()
            plant.kill()
            for stream in streams:
                stream.join(60)
                stream.killed_at = killed_at
            plant.start()
            report = plant.verify()
            assert report["ok"], (seed, report)
            assert report["open_holds"] == 0, (seed, report)
            for stream in streams:
                if stream.request_id and stream.status == 200:
                    (told if stream.usage else cut).append((stream, plant.entries(stream.request_id)))
        assert told or cut
        for stream, entries in told:
            settle = entries[-1]
            assert settle["type"] == "settle", (seed, stream.request_id)
            assert settle["output_tokens"] == stream.usage["completion_tokens"], (seed, stream.request_id)
            assert settle["input_tokens"] == stream.usage["prompt_tokens"]
            assert float(settle["amount"]) == stream.usage["cost"]
        for stream, entries in cut:
            ends = [e for e in entries if e["type"] in ("settle", "release", "expire")]
            assert len(ends) == 1, (seed, stream.request_id, entries)
            booked = ends[0]["output_tokens"]
            assert booked <= stream.body["max_tokens"]
            if progress == "step":
                # received <= booked: a chunk carries at least one token, and is sent only after its commit.
                assert booked >= stream.chunks, (seed, stream.request_id, booked, stream.chunks)
            else:
                # At most one cadence (100 ms) below what was received; the rest of the allowance is a slow disk's commit.
                before = sum(1 for t in stream.times if t < stream.killed_at - 0.1 - 0.4)
                assert booked >= before, (seed, stream.request_id, booked, before, stream.chunks)
        print(f"{len(told)} answers finished, {len(cut)} cut")
    finally:
        plant.close()


def test_top_ups_under_kill_nine_are_booked_once_each():
    """Four threads top up without a pause; what was acknowledged is there, and asking again for all of it makes each of them one."""
    rng = random.Random(int(os.environ.get("TOKENWORKS_SEED", "7")))
    with Plant() as plant:
        operator, asked, acknowledged = plant.operator_key(), [], []

        def top_up(name):
            request = urllib.request.Request(plant.admin + "/admin/v1/organizations/acme/credits", json.dumps({"id": name, "amount": "0.000000001"}).encode(),
                                             {"Authorization": "Bearer " + operator, "Content-Type": "application/json"}, method="POST")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["created"]

        def customer(number, cycle, stop):
            while not stop.is_set():
                name = f"order-{cycle}-{number}-{len(asked)}"
                asked.append(name)
                try:
                    assert top_up(name)
                    acknowledged.append(name)
                except (OSError, http.client.HTTPException, ValueError):
                    pass

        for cycle in range(CYCLES // 5):
            stop = threading.Event()
            customers = [threading.Thread(target=customer, args=(n, cycle, stop)) for n in range(4)]
            for c in customers:
                c.start()
            time.sleep(rng.uniform(0.02, 0.4))
            plant.kill()
            stop.set()
            for c in customers:
                c.join()
            plant.start()
        again = [name for name in asked if top_up(name)]
        assert not set(again) & set(acknowledged), "what was acknowledged was lost"
        listed = json.loads(plant.cli("credit", "list", "--config", plant.config, "--json", "--organization", "acme").stdout)
        assert listed["balance"] == format(decimal.Decimal(len(asked)).scaleb(-9).normalize(), "f")
        assert sorted(row["id"] for row in listed["data"]) == sorted(asked), "each under its own name, once"
        report = plant.verify()
        assert report["ok"] and report["open_holds"] == 0
