"""A daemon whose disk is full, or fails its syncs, goes on without a restart when the disk works again: running streams go on,
their final chunks wait, admission stops with 503, and afterwards every answer is finished and booked once."""
import http.client, json, os, pathlib, random, subprocess, sys, time, urllib.error, urllib.parse, urllib.request

import pytest

from crash_test import Stream
from plant import NAME, Plant

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAMS, TOKENS = 8, 300
PATIENCE = 300                                       # seconds; for a loaded machine: nothing here is a speed


class Client(Stream):
    patience = PATIENCE

    def __init__(self, plant, key, seed):
        super().__init__(plant, key, random.Random(seed))
        self.body["max_tokens"] = TOKENS


class FullDisk:
    """A file system of 24 MiB of its own, filled to the last byte."""
    message = "full"

    def __init__(self, plant):
        self.data = plant.folder + "/data"
        self.ballast = self.data + "/ballast"
        os.mkdir(self.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.data], check=True)

    def fail(self):
        with open(self.ballast, "ab", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass

    def mend(self):
        os.unlink(self.ballast)

    def close(self):
        subprocess.run(["umount", "-l", self.data], check=True)


class FailingSync:
    """The system's own syncs answer EIO."""
    message = "I/O"

    def __init__(self, plant):
        library = plant.folder + "/failing_sync.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(ROOT / "tests/e2e/failing_sync.c")], check=True)
        self.flag = plant.folder + "/failing"
        plant.env.update(LD_PRELOAD=library, TOKENWORKS_FAIL_SYNC=self.flag)

    def fail(self):
        pathlib.Path(self.flag).touch()

    def mend(self):
        os.unlink(self.flag)

    def close(self):
        pass


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain for: " + what
        time.sleep(0.05)


def ask(plant, key):
    """(status, body, headers) of a short request."""
    url = urllib.parse.urlparse(plant.api)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    connection.request("POST", "/v1/chat/completions",
                       json.dumps({"model": NAME, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello."}]}),
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.headers


def credit(plant, name, amount, *more):
    return ["credit", "add", "--config", plant.config, "--json", "--organization", "beta", "--id", name, "--amount=" + amount, *more]


def balance(plant):
    return json.loads(plant.cli("credit", "list", "--config", plant.config, "--json", "--organization", "beta").stdout)["balance"]


def ready(plant):
    try:
        return urllib.request.urlopen(plant.admin + "/readyz?verbose", timeout=10).status, ""
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def alert_fires(name, plant):
    """Whether an alert of the shape `series > number` holds now; the rule is read from the file operators use."""
    lines = (ROOT / "deploy/prometheus/alerts.yml").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("alert: " + name))
    series, above, limit = lines[at + 1].split("expr: ")[1].split()
    assert above == ">"
    return plant.metrics()[series] > float(limit)


def scenario(disk_type):
    plant = Plant()
    disk = disk_type(plant)
    try:
        plant.start()
        key, leaving = plant.key(), plant.key()
        assert ask(plant, key)[0] == 200
        plant.cli(*credit(plant, "invoice-0", "5"))
        top_up, correction = credit(plant, "invoice-1", "5"), credit(plant, "fix-1", "-2", "--correction")
        clients = [Client(plant, key, seed) for seed in range(STREAMS)]
        for client in clients:
            client.start()
        wait_for("streams", lambda: all(client.chunks >= 3 for client in clients))
        disk.fail()
        failed_at = time.monotonic()
        early = Client(plant, key, 99)               # admitted before two seconds are over: its hold cannot be committed
        early.body["max_tokens"] = 4
        early.start()

        # Streams go on to their last token, and only their final chunk waits.
        wait_for("the streams' last tokens", lambda: plant.metrics()["tokenworks_sequences_running"] == 0)
        wait_for("an old settlement", lambda: alert_fires("TokenworksAdmissionStopped", plant))
        for client in clients:
            assert [t for t in client.times if t > failed_at], "a stream stood still"
            assert client.is_alive() and client.usage is None, "a final chunk was sent without its commit"
        assert early.chunks == 0 and early.usage is None, "a byte left before its hold was durable"

        # Nothing is admitted, and an operator can see why.
        for _ in range(3):
            status, body, headers = ask(plant, key)
            assert status == 503 and body["error"]["code"] == "ledger_unavailable", body
            assert int(headers["retry-after-ms"]) > 0
            time.sleep(0.3)
        status, text = ready(plant)
        assert status == 503 and "ledger" in text and disk.message in text, text
        metrics = plant.metrics()
        assert metrics["tokenworks_ledger_failures_total"] > 0 and metrics["tokenworks_ledger_queued_records"] >= STREAMS
        assert "ledger.commit_failed" in plant.log_text() and disk.message in plant.log_text()

        # Money does not wait for ever either: its fate is open, and the same id may be asked for again.
        for order in (top_up, correction):
            done = plant.cli(*order, check=False)
            assert done.returncode != 0 and "same id" in done.stderr, done

        # So do keys: the answer says whether nothing was changed or whether that is open.
        done = plant.cli("keys", "revoke", "--config", plant.config, leaving.split("-")[2], check=False)
        assert done.returncode != 0 and ("nothing was changed" in done.stderr or "may still take effect" in done.stderr), done

        # Space again: the same process finishes every answer and serves.
        pid = plant.process.pid
        disk.mend()
        for client in [*clients, early]:
            client.join(PATIENCE)
            assert client.usage is not None, "an answer was never finished"
        wait_for("service", lambda: ask(plant, key)[0] == 200)
        assert ready(plant)[0] == 200
        assert plant.metrics()["tokenworks_ledger_oldest_settle_seconds"] == 0
        assert plant.process.poll() is None and plant.process.pid == pid

        def revoked():
            rows = json.loads(plant.cli("keys", "list", "--config", plant.config, "--json").stdout)["data"]
            return [row["revoked"] is not None for row in rows if row["id"] == leaving.split("-")[2]][0]
        wait_for("a key that is in force exactly if the books say so", lambda: revoked() == (ask(plant, leaving)[0] == 401))
        assert balance(plant) == "8", "what was asked for while the disk failed is booked and free, once"
        for order in (top_up, correction):
            assert json.loads(plant.cli(*order).stdout)["created"] is False
        assert balance(plant) == "8"

        # What clients were told survives a kill, each once, and both verifiers agree.
        plant.kill()
        plant.start()
        assert balance(plant) == "8"
        report = plant.verify()
        assert report["ok"] and report["open_holds"] == 0, report
        checker = subprocess.run([sys.executable, ROOT / "tests/golden/verify_ledger.py", plant.folder + "/data/ledger.sqlite"],
                                 stdout=subprocess.PIPE, text=True)
        assert checker.returncode == 0, checker.stdout
        for client in [*clients, early]:
            entries = plant.entries(client.request_id)
            assert [e["type"] for e in entries] == ["hold", "settle"], entries
            assert entries[-1]["output_tokens"] == client.usage["completion_tokens"] == client.body["max_tokens"]
            assert entries[-1]["input_tokens"] == client.usage["prompt_tokens"]

        # A daemon that dies while the disk fails comes back when it works, and settles what ran from its last progress.
        cut = [Client(plant, key, seed) for seed in range(STREAMS)]
        for client in cut:
            client.start()
        wait_for("streams", lambda: all(client.chunks >= 3 for client in cut))
        disk.fail()
        plant.kill()
        disk.mend()
        plant.start()
        report = plant.verify()
        assert report["ok"] and report["open_holds"] == 0, report
        for client in cut:
            client.join(PATIENCE)
            # Settled from its last progress; released when the disk failed before the first one. Ended once either way.
            types = [e["type"] for e in plant.entries(client.request_id)]
            assert types in (["hold", "settle"], ["hold", "release"]), types
        assert ask(plant, plant.key())[0] == 200
    finally:
        plant.close() if plant.process is None else plant.kill()
        disk.close()
        plant.close()


def test_a_full_disk_is_survived_without_a_restart():
    """In a mount namespace of its own, so that nothing stays behind; as root or where users may make namespaces."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("needs root or user namespaces to mount a small file system")
    done = subprocess.run([*namespace, sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_failing_syncs_are_survived_without_a_restart():
    scenario(FailingSync)


if __name__ == "__main__":
    scenario(FullDisk)
