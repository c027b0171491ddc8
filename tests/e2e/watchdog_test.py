"""A step that never returns, on the real daemon: its engine thread is frozen from outside, with ptrace, and nothing else of it.

Wherever it happens to be: in a kernel, where the plant ends its requests and itself in order, or with a lock in its hands (often
while it wakes an IO thread, on a busy machine), where nothing is left but to leave without an orderly end. Either way the process
is gone with code 70, and the books are whole at the next start."""
import json, os, subprocess, sys, threading, time, urllib.request

import pytest

from plant import NAME, Plant

# Freezes one thread of a process until that process is gone. Its own process: a tracer has to wait for what it traces.
FREEZER = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
thread = int(sys.argv[1])
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
if libc.ptrace(SEIZE, thread, None, None) != 0 or libc.ptrace(INTERRUPT, thread, None, None) != 0:
    print("cannot trace: " + os.strerror(ctypes.get_errno()), flush=True)
    sys.exit(1)
os.waitpid(thread, WALL)
print("frozen", flush=True)
while True:
    try:
        if os.WIFSIGNALED(os.waitpid(thread, WALL)[1]):
            break
    except ChildProcessError:
        break
"""


def engine_thread(pid):
    """The thread that runs the steps, by its name. A computing thread would not do: the one that waits for it does its work too."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        if open(f"/proc/{pid}/task/{thread}/comm").read().strip() == "tw-engine":
            return int(thread)
    raise AssertionError("the daemon has no thread called tw-engine")


class Stream(threading.Thread):
    def __init__(self, plant, key):
        super().__init__(daemon=True)
        self.plant, self.key, self.lines, self.began = plant, key, [], threading.Event()

    def run(self):
        body = {"model": NAME, "prompt": "A stream that will be cut", "max_tokens": 2000, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        request = urllib.request.Request(self.plant.api + "/v1/completions", json.dumps(body).encode(),
                                         {"authorization": "Bearer " + self.key, "content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                self.request_id = answer.headers["x-request-id"]
                for line in answer:
                    if line.startswith(b"data: "):
                        self.lines.append(line[6:].strip())
                        self.began.set()
        except OSError:
            pass


def test_a_step_that_never_returns_drops_readiness_ends_its_streams_and_the_process_exits_with_70():
    with Plant(progress="step") as plant:                 # a client gets nothing that is not committed: exact, wherever it ends
        key = plant.key()
        stream = Stream(plant, key)
        stream.start()
        assert stream.began.wait(60)
        assert plant.readiness() == 200
        freezer = subprocess.Popen([sys.executable, "-c", FREEZER, str(engine_thread(plant.process.pid))], stdout=subprocess.PIPE, text=True)
        said = freezer.stdout.readline().strip()
        try:
            if said != "frozen":
                pytest.skip(f"this machine does not let one process trace another: {said}")
            began = time.monotonic()
            while plant.readiness() == 200:
                assert time.monotonic() < began + 120, "still ready"
                time.sleep(0.1)
            assert plant.process.wait(180) == 70
            stream.join(60)
            assert not stream.is_alive()
            log = plant.log_text()
            assert "device_lost" in log
        finally:
            freezer.kill()
            freezer.wait()
        plant.start()                                     # the books: the request was settled with what its client got, once
        entries = plant.entries(stream.request_id)
        assert [e["type"] for e in entries] == ["hold", "settle"], entries
        chunks = [json.loads(line) for line in stream.lines if line.startswith(b"{")]
        pieces = sum(1 for c in chunks if c.get("choices") and c["choices"][0].get("text"))
        assert entries[-1]["output_tokens"] >= pieces >= 1    # a chunk holds a token at least
        assert plant.verify()["ok"] is True
