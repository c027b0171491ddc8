"""What the front door costs, beside two gateways that are proxies. Called by tests/bench/run --rows door.

Ours answers with a model of its own (one layer, 64 wide, a real vocabulary of 49,152): key, limits, budget, hold, engine, settle and
an fsync before the answer. The proxies (LiteLLM, Portkey) pass the same request to a server that answers at once, without keys,
limits or books: that is all they do here. One token out, closed loop, one load generator for all, the same two cores; nothing
runs beside it but what else the machine does (its load is printed). Rows of ours are CPU times of threads by their names, so they
hold on a busy machine better than the times do.

Streams are measured over a model that only sleeps (paced_runner.cpp): 512 of them, a token each every 20.37 ms, each token an event and a
write. The control is the least that a server can be (door_load paced), with the same client in the same run: what it misses is
not ours to explain.

door.py --tools BUILD [--seconds 5] [--rounds 3] [--no-peers] [--json FILE]"""
import argparse, json, os, pathlib, shutil, statistics, struct, subprocess, sys, tempfile, time, urllib.error, urllib.request

from servers import MODEL, NAME, PLANT, ROOT, Plant, machine
import plant as plants  # found where servers looks

TENANTS = """plans:
  open: {models: ["*"], requests_per_minute: 100000000, tokens_per_minute: 10000000000, concurrent_requests: 100000, budgets: [{amount: "1000000", per: month}]}
organizations:
  acme: {plan: open}
"""
CACHE = pathlib.Path(os.environ.get("TOKENWORKS_CACHE", pathlib.Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "tokenworks")))
DOOR = ("tw-io", "tw-ledger", "tw-checkpoint")
LITELLM, PORTKEY = "litellm[proxy]", "@portkey-ai/gateway"
LIMITS = {"CPU us per request, 16 connections": 120, "CPU us per request, 256 connections": 120, "user CPU us per streamed token": 3,
          "512 paced streams: gaps over 50 ms": 0}
# The kernel parts a thread's time into user and system by what it did at its ticks, every 4 ms. A pace of whole ticks meets the
# same few moments of every step and tells a share that is not there: this one passes through all of them.
PACED_STREAMS, PACED_TOKENS, PACE_MS, PACE_US = 512, 400, 20, 20_370


def tiny_model():
    path = CACHE / "models/random-tiny.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, ROOT / "tests/bench/random_model.py", MODEL, path, "--tiny"], check=True)
    return path


def request(path, body, key="", more=""):
    body = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            + (f"Authorization: Bearer {key}\r\n" if key else "") + more + "\r\n").encode() + body


def chat(tokens=1):
    return {"model": NAME, "messages": [{"role": "user", "content": "Say one word about the sea."}], "max_tokens": tokens, "temperature": 0, "ignore_eos": True}


class Tools:
    def __init__(self, build):
        self.load, self.paced = build / "door_load", build / "paced_daemon"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tokenworks-door-"))
        self.shim = self.folder / "sync_cost.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.shim, ROOT / "tests/bench/sync_cost.c", "-ldl"], check=True)

    def run(self, mode, port, connections, payload, *more):
        file = self.folder / "request"
        file.write_bytes(payload)
        arguments = [self.load, mode, "127.0.0.1", str(port), str(connections), *[str(m) for m in more], file]
        return json.loads(subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout)


class Threads:
    """CPU seconds of a process by thread name, and of its fsync calls; `since` gives the difference."""

    def __init__(self, pid, sync_file):
        self.cpu, self.user = {}, {}
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            try:
                name = (task / "comm").read_text().strip()
                ns = int((task / "schedstat").read_text().split()[0])
                fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            self.cpu[name] = self.cpu.get(name, 0) + ns / 1e9
            self.user[name] = self.user.get(name, 0) + int(fields[11]) / os.sysconf("SC_CLK_TCK")
        self.syncs = struct.unpack("qqq", sync_file.read_bytes()[:24])

    def since(self, before):
        cpu = {n: c - before.cpu.get(n, 0) for n, c in self.cpu.items()}
        user = {n: c - before.user.get(n, 0) for n, c in self.user.items()}
        return cpu, user, [a - b for a, b in zip(self.syncs, before.syncs)]


def daemon(**env):
    return Plant(tenants=TENANTS, context=1024, kv="512MiB",
                 plant=PLANT.replace("{model}", str(tiny_model())).replace("max_sequences: 64", "max_sequences: 512")
                 .replace("drain: {drain}", "drain: {drain}, queue_requests: 4096, queue_per_tenant: 4096") + "log: {{level: warn}}\n", env=env)


def ours(tools, options, found):
    sync_file = tools.folder / "syncs"
    sync_file.write_bytes(bytes(4096))
    plant = daemon(LD_PRELOAD=str(tools.shim), DOOR_SYNC_FILE=str(sync_file))
    with plant:
        port, key, pid = int(plant.api.rsplit(":", 1)[1]), plant.key(), plant.process.pid
        snapshot = lambda: Threads(pid, sync_file)
        tools.run("load", port, 16, request("/v1/chat/completions", chat(), key), 1)
        for connections in (16, 256):
            before = snapshot()
            result = tools.run("load", port, connections, request("/v1/chat/completions", chat(), key), options.seconds)
            cpu, _, (calls, sync_cpu, sync_wall) = snapshot().since(before)
            assert result["bad"] == 0, result
            n = result["requests"]
            at = f", {connections} connections"
            put(found, "CPU us per request" + at, sum(cpu.get(t, 0) for t in DOOR) * 1e6 / n)
            put(found, "  of it IO thread" + at, cpu.get("tw-io", 0) * 1e6 / n)
            put(found, "  of it ledger thread" + at, (cpu.get("tw-ledger", 0) + cpu.get("tw-checkpoint", 0)) * 1e6 / n)
            put(found, "  of it inside fsync" + at, sync_cpu / 1e3 / n)
            put(found, "  requests per fsync" + at, n / max(calls, 1))
            put(found, "  ms per fsync, waiting included" + at, sync_wall / 1e6 / max(calls, 1))
            put(found, "  engine and kernels beside it" + at, sum(c for t, c in cpu.items() if t not in DOOR) * 1e6 / n)
            put(found, f"requests/s{at}", result["per_s"])
            put(found, f"p99 ms{at}", result["p99_ms"])
        usage = plant.usage()
        assert plant.verify()["ok"] and sum(r["output_tokens"] for r in usage) > 0


def paced(tools, found):
    """Streams by the clock: ours, then the control."""
    sync_file = tools.folder / "syncs"
    usual, plants.BIN = plants.BIN, str(tools.paced)
    try:
        plant = daemon(TOKENWORKS_TEST_PACE_US=str(PACE_US))
        with plant:
            port, pid = int(plant.api.rsplit(":", 1)[1]), plant.process.pid
            stream = {"model": NAME, "prompt": "Say", "max_tokens": PACED_TOKENS, "temperature": 0, "ignore_eos": True, "stream": True}
            payload = request("/v1/completions", stream, plant.key())
            tools.run("streams", port, 16, payload)
            before = Threads(pid, sync_file)
            result = tools.run("streams", port, PACED_STREAMS, payload)
            cpu, user, _ = Threads(pid, sync_file).since(before)
            tokens = PACED_STREAMS * PACED_TOKENS
            assert result["bad"] == 0 and plant.verify()["ok"]
    finally:
        plants.BIN = usual
    put(found, "user CPU us per streamed token", user.get("tw-io", 0) * 1e6 / tokens)
    put(found, "  with the send", cpu.get("tw-io", 0) * 1e6 / tokens)
    put(found, "  of the ledger thread beside it", (cpu.get("tw-ledger", 0) + cpu.get("tw-checkpoint", 0)) * 1e6 / tokens)
    put(found, "  of the engine thread beside it", cpu.get("tw-engine", 0) * 1e6 / tokens)
    put(found, "  tokens per event", tokens / result["events"])
    put(found, "  events per read of the client", result["events"] / result["reads"])
    gaps(found, "512 paced streams", result)
    control = subprocess.Popen([tools.load, "paced", "8094", str(PACE_MS), str(PACED_TOKENS)])
    try:
        time.sleep(0.2)
        result = tools.run("streams", 8094, PACED_STREAMS, payload)
        times = os.times()
    finally:
        control.terminate()
        control.wait()
    after = os.times()
    gaps(found, "control, a trivial paced server", result)
    put(found, "control: CPU us per event, user and send", (after.children_user + after.children_system - times.children_user - times.children_system) * 1e6 / tokens)


def gaps(found, who, result):
    put(found, who + ": gaps over 50 ms", result["over_50_ms"])
    put(found, "  of so many gaps", result["reads"] - result["streams"])
    for key, words in (("gap_p50_ms", "gap p50 ms"), ("gap_p99_ms", "gap p99 ms"), ("gap_max_ms", "longest gap ms"), ("late_max_ms", "the client's own lateness, most ms")):
        put(found, f"  {words}: {who}", result[key])


def put(found, row, value):
    found.setdefault(row, []).append(value)


def wait_for(port, process, payload_path="/"):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, "a gateway did not start"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{payload_path}", timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("a gateway did not become ready")


class Gateway:
    """LiteLLM's proxy or Portkey's gateway, installed from its registry on first use, in front of the instant upstream."""

    def __init__(self, name, tools, upstream):
        self.name, self.port = name, 8097 if name == "litellm" else 8096
        home = CACHE / "door" / name
        home.mkdir(parents=True, exist_ok=True)
        self.headers = ""
        log = open(tools.folder / (name + ".log"), "w")
        if name == "litellm":
            if not (home / "bin/litellm").exists():
                subprocess.run(["python3", "-m", "venv", home], check=True)
                subprocess.run([home / "bin/pip", "-q", "install", LITELLM], check=True)
            config = tools.folder / "litellm.yaml"
            config.write_text(f"model_list:\n  - model_name: {NAME}\n    litellm_params: {{model: openai/tiny, api_base: 'http://127.0.0.1:{upstream}/v1', api_key: none}}\n")
            command = [home / "bin/litellm", "--config", config, "--port", str(self.port), "--num_workers", "1"]
            self.version = subprocess.run([home / "bin/pip", "show", "litellm"], stdout=subprocess.PIPE, text=True).stdout.split("Version: ")[1].split()[0]
        else:
            if not (home / "node_modules/@portkey-ai/gateway").exists():
                subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", PORTKEY], cwd=home, check=True)
            package = home / "node_modules/@portkey-ai/gateway"
            self.version = json.loads((package / "package.json").read_text())["version"]
            command = ["node", package / "build/start-server.js", f"--port={self.port}", "--headless"]
            self.headers = f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{upstream}/v1\r\n"
        # Without a key of its own, as measured here, it asks to be told that this is meant.
        environment = dict(os.environ, LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            wait_for(self.port, self.process, "/health/liveliness" if name == "litellm" else "/")
        except AssertionError:
            print(pathlib.Path(log.name).read_text()[-2000:], file=sys.stderr)
            self.process.kill()
            raise

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def gateways(tools, options, found):
    upstream = 8095
    server = subprocess.Popen([tools.load, "upstream", str(upstream)])
    versions = []
    try:
        for name in ("litellm", "portkey"):
            gateway = Gateway(name, tools, upstream)
            try:
                payload = request("/v1/chat/completions", chat(), "none", gateway.headers)
                tools.run("load", gateway.port, 16, payload, 2)
                result = tools.run("load", gateway.port, 16, payload, options.seconds)
                assert result["bad"] == 0, (name, result)
                put(found, f"{name}: requests/s, 16 connections", result["per_s"])
                put(found, f"{name}: p99 ms, 16 connections", result["p99_ms"])
                versions.append(f"{name} {gateway.version}")
            finally:
                gateway.stop()
        result = tools.run("load", upstream, 16, request("/v1/chat/completions", chat()), 1)
        put(found, "the instant upstream alone: requests/s, 16 connections", result["per_s"])
    finally:
        server.terminate()
        server.wait()
    return versions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, default=ROOT / "build/release", help="build folder with door_load")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    subprocess.run(["ninja", "-C", options.tools, "door_load", "paced_daemon"], stdout=subprocess.DEVNULL, check=True)
    tools, found, versions = Tools(options.tools), {}, []
    try:
        for _ in range(options.rounds):
            ours(tools, options, found)
            paced(tools, found)
            if not options.no_peers:
                versions = gateways(tools, options, found)
    finally:
        shutil.rmtree(tools.folder, ignore_errors=True)
    print(f"{machine()}; {options.rounds} rounds of {options.seconds:g} s; {', '.join(versions)}; load average {os.getloadavg()[0]:.1f}\n")
    print("| row | median | limit | |\n|---|---|---|---|")
    missed = []
    for row, values in found.items():
        value, limit = statistics.median(values), LIMITS.get(row)
        verdict = "" if limit is None else "met" if value <= limit else "MISSED"
        missed += [row] if verdict == "MISSED" else []
        print(f"| {row} | {value:.2f} | {'' if limit is None else limit} | {verdict} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
