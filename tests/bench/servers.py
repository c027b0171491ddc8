"""The two sides of a comparison, started and stopped alike: .url, .key, .pid, .ready_s. Both run on the same cores."""
import os, pathlib, signal, subprocess, sys, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from plant import MODEL, NAME, PLANT, Plant  # noqa: E402

PEER_PORT = 8099


class Ours:
    """The daemon with everything on: authentication, limits, ledger. Keys of two organizations that share nothing."""

    def __init__(self, options, context=1024, kv="512MiB", model=None):
        self.plant = Plant(context=context, kv=kv, plant=PLANT.replace("{model}", str(model)) if model else PLANT)
        begin = time.monotonic()
        self.plant.start()
        while urllib.request.urlopen(self.plant.admin + "/readyz", timeout=5).status != 200:
            time.sleep(0.005)
        self.ready_s = time.monotonic() - begin
        self.url, self.pid = self.plant.api + "/v1", self.plant.process.pid
        self.key, self.other_key = self.plant.key(), self.plant.key(organization="beta")

    def stop(self):
        self.plant.close()


class Peer:
    """llama.cpp's server through the start script: `parallel` slots of `context` tokens."""

    key = None

    def __init__(self, options, context=640, parallel=32, model=None, quantize="q4_0"):
        command = ["bash", str(options.peers / "llama-server"), "--root", str(options.root), "--model", str(model or MODEL), "--threads",
                   str(os.cpu_count()), "--parallel", str(parallel), "--context", str(context), "--port", str(PEER_PORT)]
        begin = time.monotonic()
        self.process = subprocess.Popen(command + (["--quantize", quantize] if quantize else []), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        self.pid, self.url = self.process.pid, f"http://127.0.0.1:{PEER_PORT}/v1"
        deadline = begin + 600
        while True:
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{PEER_PORT}/health", timeout=2).status == 200:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline and self.process.poll() is None, "the peer did not start"
            time.sleep(0.01)
        self.ready_s = time.monotonic() - begin

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def peer_version(options):
    out = subprocess.run(["bash", str(options.peers / "llama-server"), "--root", str(options.root), "--install"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True).stdout
    return "llama.cpp " + next((line for line in out.splitlines() if line.startswith("version")), "of unknown version")


def rss_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def machine():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown processor")
    vnni = "AVX-512 VNNI" if "avx512_vnni" in open("/proc/cpuinfo").read() else "no AVX-512 VNNI"
    return f"{os.cpu_count()} cores of {cpu}, {vnni}; load before the run {os.getloadavg()[0]:.1f}"
