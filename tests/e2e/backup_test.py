"""`ledger backup` beside sixteen running streams is one moment of the books, and `ledger restore` brings exactly that moment back
into another plant; what is no sound backup is refused and changes nothing."""
import hashlib, os, pathlib, random, shutil, sqlite3, subprocess, sys, threading, time

import pytest

from crash_test import STREAMS, Stream
from plant import Plant

CHECKER = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/verify_ledger.py"
PATIENCE = 300                                       # seconds; for a loaded machine: nothing here is a speed


class Load(threading.Thread):
    """One client that asks again and again until it is told to stop."""

    def __init__(self, plant, key, seed, stop):
        super().__init__(daemon=True)
        self.plant, self.key, self.rng, self.stop_now, self.done = plant, key, random.Random(seed), stop, []

    def run(self):
        while not self.stop_now.is_set():
            stream = Stream(self.plant, self.key, self.rng)
            stream.patience = PATIENCE
            stream.run()
            self.done.append(stream)


def read(path, sql):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def chain(path):
    return read(path, "SELECT id, hash FROM entries ORDER BY id")


def balances(entries):
    """{organization: nano-units} of the entries alone: topups and adjusts less settles."""
    sums = {}
    for organization, kind, amount in entries:
        if kind in (6, 7):
            sums[organization] = sums.get(organization, 0) + amount
        elif kind == 3:
            sums[organization] = sums.get(organization, 0) - amount
    return sums


ENTRIES = ("SELECT s.organization, e.type, e.amount FROM entries e JOIN contexts c ON c.id = e.context"
           " JOIN series s ON s.id = c.series ORDER BY e.id")


def accounts(path):
    """{organization: available + held} as stored; after a clean stop they include every entry."""
    sums = {}
    for organization, kind, debits, credits in read(
            path, "SELECT s.organization, a.kind, a.debits, a.credits FROM accounts a JOIN series s ON s.id = a.series"
            " WHERE a.kind IN ('available', 'held')"):
        sums[organization] = sums.get(organization, 0) + int.from_bytes(credits, "big") - int.from_bytes(debits, "big")
    return sums


def sound(path):
    done = subprocess.run([sys.executable, CHECKER, path], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def copies():
    """(the plant, stopped; its backups, oldest first; the answers its clients were told; their key)"""
    plant = Plant(kv="128MiB")
    try:
        plant.start()
        key = plant.key()
        plant.cli("credit", "add", "--config", plant.config, "--organization", "acme", "--id", "invoice-1", "--amount", "1000")
        stop = threading.Event()
        load = [Load(plant, key, seed, stop) for seed in range(STREAMS)]
        for client in load:
            client.start()
        backups = []
        for n in range(3):
            deadline = time.monotonic() + PATIENCE
            while sum(len(client.done) for client in load) < 4 * (n + 1) or plant.metrics()["tokenworks_holds_open"] < 8:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            backups.append(plant.folder + f"/backup-{n}.sqlite")
            plant.cli("ledger", "backup", "--config", plant.config, backups[-1])
        stop.set()
        for client in load:
            client.join(PATIENCE)
        plant.stop()
        yield plant, backups, [stream for client in load for stream in client.done], key
    finally:
        plant.close()


def test_a_backup_under_load_is_a_prefix_of_the_books(copies):
    plant, backups, answers, _ = copies
    whole, entries = chain(plant.folder + "/data/ledger.sqlite"), read(plant.folder + "/data/ledger.sqlite", ENTRIES)
    assert all(answer.usage for answer in answers), "a backup disturbed a stream"
    before = 0
    for backup in backups:
        part = chain(backup)
        assert before < len(part) <= len(whole) and part == whole[:len(part)]
        before = len(part)
        assert balances(read(backup, ENTRIES)) == balances(entries[:len(part)])
        assert read(backup, "SELECT count(*) FROM open_holds")[0][0] >= 1, "taken while requests ran"
        sound(backup)


def test_a_restored_backup_is_the_moment_it_was_taken_and_goes_on(copies):
    original, backups, _, key = copies
    entries = read(original.folder + "/data/ledger.sqlite", ENTRIES)
    other = Plant(kv="128MiB")
    try:
        os.mkdir(other.folder + "/data")
        other.cli("ledger", "restore", "--config", other.config, backups[1])
        store = other.folder + "/data/ledger.sqlite"
        assert chain(store) == chain(backups[1])
        count = len(chain(store))
        then = balances(entries[:count])["acme"]
        report = other.verify()
        assert report["ok"] and report["entries"] == count and report["open_holds"] >= 1
        # The restored plant serves at once, with the key that was minted before; what ran then is ended by recovery, once.
        other.start()
        report = other.verify()
        assert report["ok"] and report["open_holds"] == 0
        now = read(store, ENTRIES)
        assert now[:count] == entries[:count]
        assert sum(1 for row in read(store, "SELECT finish_reason FROM entries") if row[0] == "crash") == len(now) - count > 0
        stream = Stream(other, key, random.Random(1))
        stream.patience = PATIENCE
        stream.run()
        assert stream.usage is not None
        assert other.entries(stream.request_id)[-1]["output_tokens"] == stream.usage["completion_tokens"]
        other.stop()
        sound(store)
        after = balances(read(store, ENTRIES))["acme"]
        assert after == accounts(store)["acme"] < then
    finally:
        other.close()


def test_what_is_no_sound_backup_is_refused_and_changes_nothing(copies):
    _, backups, _, _ = copies
    other = Plant(kv="128MiB")
    try:
        os.mkdir(other.folder + "/data")
        store = other.folder + "/data/ledger.sqlite"

        def spoiled(name, change):
            path = f"{other.folder}/{name}.sqlite"
            shutil.copy(backups[0], path)
            change(path)
            return path

        def sql(text):
            def change(path):
                connection = sqlite3.connect(path)
                connection.executescript(text)
                connection.close()
            return change

        def cut(path):
            os.truncate(path, os.path.getsize(path) // 2)

        def write(text):
            return lambda path: pathlib.Path(path).write_bytes(text)

        bad = {
            "missing": other.folder + "/missing.sqlite",
            "a folder": other.folder,
            "empty": spoiled("empty", write(b"")),
            "text": spoiled("text", write(b"not a database" * 1000)),
            "half": spoiled("half", cut),
            "another database": spoiled("another", lambda path: (os.unlink(path), sql("CREATE TABLE t(a);")(path))),
            "a changed amount": spoiled("amount", sql("UPDATE entries SET amount = amount + 1 WHERE id = (SELECT max(id) FROM entries);")),
            "a changed balance": spoiled("balance", sql("UPDATE accounts SET credits = zeroblob(16) WHERE kind = 'available';")),
            "a missing entry": spoiled("cutoff", sql("DELETE FROM entries WHERE id = (SELECT min(id) FROM entries);")),
            "a newer version": spoiled("newer", sql("PRAGMA user_version = 99;")),
        }
        for what, path in bad.items():
            done = other.cli("ledger", "restore", "--config", other.config, path, check=False)
            assert done.returncode != 0 and done.stderr.strip(), what
            assert "terminate" not in done.stderr, (what, done.stderr)
            assert not os.path.exists(store), what
        # A ledger in place is replaced only when asked, never under a daemon, and stays as it is when the backup is bad.
        other.cli("ledger", "restore", "--config", other.config, backups[0])
        digest = hashlib.sha256(pathlib.Path(store).read_bytes()).hexdigest()
        done = other.cli("ledger", "restore", "--config", other.config, backups[1], check=False)
        assert done.returncode != 0 and "exists" in done.stderr
        done = other.cli("ledger", "restore", "--config", other.config, "--replace", bad["a changed amount"], check=False)
        assert done.returncode != 0
        assert hashlib.sha256(pathlib.Path(store).read_bytes()).hexdigest() == digest
        other.start()
        done = other.cli("ledger", "restore", "--config", other.config, "--replace", backups[1], check=False)
        assert done.returncode != 0 and "daemon" in done.stderr
        other.stop()
        other.cli("ledger", "restore", "--config", other.config, "--replace", backups[1])
        assert chain(store) == chain(backups[1])
        # A backup never overwrites, and leaves nothing half written behind.
        done = other.cli("ledger", "backup", "--config", other.config, backups[0], check=False)
        assert done.returncode != 0 and "exists" in done.stderr
        done = other.cli("ledger", "backup", "--config", other.config, other.folder + "/no/such/folder.sqlite", check=False)
        assert done.returncode != 0
        assert not list(pathlib.Path(other.folder).glob("**/*.partial*"))
    finally:
        other.close()
