"""Output tokens per second and time to first token, ours and the peer's, A B A B. Called by tests/bench/run."""
import argparse, json, os, pathlib, platform, signal, statistics, subprocess, sys, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from plant import MODEL, NAME, Plant  # noqa: E402


def load(options, url, clients, key=None, model=NAME):
    command = [sys.executable, str(options.peers / "load.py"), "--url", url, "--model", model, "--clients", str(clients), "--prompt-words", "96",
               "--out", "64", "--seconds", str(options.seconds)]
    done = subprocess.run(command + (["--key", key] if key else []), stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["errors"] == 0, result
    return result


class Peer:
    def __init__(self, options, quantize):
        command = ["bash", str(options.peers / "llama-server"), "--root", str(options.root), "--model", MODEL, "--threads", str(os.cpu_count()),
                   "--parallel", str(max(options.clients)), "--context", "512", "--port", "8099"]
        self.process = subprocess.Popen(command + (["--quantize", quantize] if quantize else []), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        deadline = time.monotonic() + 300
        while True:
            try:
                if urllib.request.urlopen("http://127.0.0.1:8099/health", timeout=2).status == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline and self.process.poll() is None, "the peer did not start"
            time.sleep(0.2)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=pathlib.Path, default=ROOT.parent / "shared/peers")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(os.path.expanduser("~/.cache/tokenworks/peer")))
    parser.add_argument("--clients", type=lambda s: [int(x) for x in s.split(",")], default=[1, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    version = subprocess.run(["bash", str(options.peers / "llama-server"), "--root", str(options.root), "--install"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True).stdout
    version = next((line for line in version.splitlines() if line.startswith("version")), "unknown version")
    found = {(side, n): [] for side in ("ours", "q4_1", "q4_0") for n in options.clients}
    for _ in range(options.rounds):
        for side in ("ours", "q4_1", "q4_0"):
            if side == "ours":
                with Plant(context=1024, kv="512MiB") as plant:
                    key = plant.key()
                    load(argparse.Namespace(**{**vars(options), "seconds": 2}), plant.api + "/v1", 2, key)
                    for n in options.clients:
                        found[side, n].append(load(options, plant.api + "/v1", n, key))
            else:
                peer = Peer(options, "q4_0" if side == "q4_0" else None)
                try:
                    load(argparse.Namespace(**{**vars(options), "seconds": 2}), "http://127.0.0.1:8099/v1", 2)
                    for n in options.clients:
                        found[side, n].append(load(options, "http://127.0.0.1:8099/v1", n))
                finally:
                    peer.stop()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    print(f"peer: llama.cpp {version}; {os.cpu_count()} cores, {cpu}; about 100 tokens in, 64 out, greedy, {options.rounds} rounds of {options.seconds:g} s\n")
    print("| clients | ours tok/s | peer Q4_1 | peer Q4_0 | ratio to the better | ours TTFT p50 ms | peer's (better) | ratio |\n|---|---|---|---|---|---|---|---|")
    for n in options.clients:
        speed = {s: statistics.median(r["output_tok_s"] for r in found[s, n]) for s in ("ours", "q4_1", "q4_0")}
        first = {s: statistics.median(r["ttft_ms"]["p50"] for r in found[s, n]) for s in ("ours", "q4_1", "q4_0")}
        best, soon = max(speed["q4_1"], speed["q4_0"]), min(first["q4_1"], first["q4_0"])
        print(f"| {n} | {speed['ours']:.0f} | {speed['q4_1']:.0f} | {speed['q4_0']:.0f} | {speed['ours'] / best:.2f} | {first['ours']:.0f} | {soon:.0f} | "
              f"{first['ours'] / soon:.2f} |")


main()
