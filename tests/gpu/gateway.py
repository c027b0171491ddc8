"""The daemon on top: 64 HTTP streams through a model of the 8B shape, the first token of an idle one, and a cold start."""
import http.client, json, os, pathlib, shutil, signal, statistics, subprocess, threading, time, urllib.parse

import synthetic_model

NAME = "synthetic"
PLANT = """plant: {{name: bench, region: test, jurisdiction: DE}}
listen: ["127.0.0.1:0"]
admin: {{listen: "127.0.0.1:0"}}
data_dir: ./data
models:
  - {{id: {name}, path: "{model}", backend: {backend}, compute: {compute}, context_tokens: {context}, kv_cache: {kv}, max_sequences: {sequences}, step_target: 15ms}}
prices: prices.yaml
tenants: tenants.yaml
"""
PRICES = "version: \"1\"\nmodels:\n  synthetic: {input: 0.10, cached_input: 0.05, output: 0.40}\n"
TENANTS = "plans:\n  open: {models: [\"*\"]}\norganizations:\n  acme: {plan: open}\n"


class Daemon:
    """One start of `tokenworks serve` on a model folder. `ready_s`: from the start of the process to its endpoints."""

    def __init__(self, program, env, folder, model, backend, deadline, compute="default", kv="4GiB", context=4096, sequences=64):
        self.program, self.env, self.folder = program, env, pathlib.Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        text = PLANT.format(name=NAME, model=pathlib.Path(model).resolve(), backend=backend, compute=compute, kv=kv, context=context, sequences=sequences)
        for name, body in (("tokenworks.yaml", text), ("prices.yaml", PRICES), ("tenants.yaml", TENANTS)):
            (self.folder / name).write_text(body)
        self.config = str(self.folder / "tokenworks.yaml")
        began = time.perf_counter()
        with open(self.folder / "daemon.log", "wb") as log:
            self.process = subprocess.Popen([*program, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        try:
            self.api = self._ready(deadline)
        except BaseException:
            self.process.kill()
            self.close()
            raise
        self.ready_s = time.perf_counter() - began

    def _ready(self, deadline):
        while time.monotonic() < deadline:
            try:
                endpoints = json.loads((self.folder / "data/endpoints.json").read_text())
                if endpoints["pid"] == self.process.pid:
                    return endpoints["api"][0]
            except (OSError, ValueError):
                pass
            if self.process.poll() is not None:
                raise RuntimeError("the daemon ended at start: " + self.last_words())
            time.sleep(0.005)
        raise RuntimeError("the daemon was not ready in time: " + self.last_words())

    def last_words(self):
        lines = (self.folder / "daemon.log").read_text(errors="replace").strip().splitlines()
        return " ".join(lines[-2:])[-400:]

    def log_of(self, event):
        """The fields of the last such line of the log."""
        for line in reversed((self.folder / "daemon.log").read_text(errors="replace").splitlines()):
            if event in line and line.startswith("{"):
                return json.loads(line)
        return {}

    def key(self):
        done = subprocess.run([*self.program, "keys", "create", "--config", self.config, "--organization", "acme", "--project", "default", "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError("no key: " + (done.stdout + done.stderr)[-300:])
        return json.loads(done.stdout)["key"]

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:      # held in the kernel by a driver that hangs: not worth the other numbers
                    pass

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and not issubclass(kind, Exception):   # the whole script is to end
            self.process.kill()
        self.close()


def stream(api, key, prompt, tokens, deadline):
    """One streamed completion: when each chunk came, and what usage says. Raises when it did not end well."""
    url = urllib.parse.urlparse(api)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=max(1.0, deadline - time.monotonic()))
    body = json.dumps({"model": NAME, "prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0,
                       "stream_options": {"include_usage": True}})
    began, marks, usage = time.perf_counter(), [], None
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json", "Authorization": "Bearer " + key})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {response.read(300)!r}")
        for raw in response:
            if not raw.startswith(b"data:") or raw[5:].strip() == b"[DONE]":
                continue
            event = json.loads(raw[5:])
            if event.get("error"):
                raise RuntimeError(str(event["error"])[:300])
            usage = event.get("usage") or usage
            if event.get("choices"):
                marks.append(time.perf_counter())
    finally:
        connection.close()
    if not usage or usage["completion_tokens"] != tokens or not marks:
        raise RuntimeError(f"asked for {tokens} tokens, usage says {usage}")
    return began, marks


def prompt_of(number, tokens):
    """As many bytes, and so tokens, of text that no other number has."""
    return (f"{number:06d} " + "water " * tokens)[:tokens]


def sync_ms(folder):
    """The median of a small write and its fdatasync."""
    times = []
    with open(pathlib.Path(folder) / "sync.probe", "wb", buffering=0) as file:
        for _ in range(20):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - began))
    os.unlink(pathlib.Path(folder) / "sync.probe")
    return statistics.median(times)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def streams(report, daemon, tiny, deadline):
    """First token on an idle model; 64 streams at once."""
    key = daemon.key()
    stream(daemon.api, key, prompt_of(0, 32), 4, deadline)             # the first step of everything
    prompt = 16 if tiny else 128
    first = []
    for i in range(3 if tiny else 15):
        began, marks = stream(daemon.api, key, prompt_of(i + 1, prompt), 4, deadline)
        first.append(1e3 * (marks[0] - began))
    report("first token, idle, prompt of %d" % prompt, {"ms": statistics.median(first), "ms_most": max(first), "sync_ms": sync_ms(daemon.folder)})
    count, tokens = (4, 6) if tiny else (64, 256)
    results, failures = [], []

    def one(i):
        try:
            results.append(stream(daemon.api, key, prompt_of(1000 + i, prompt), tokens, deadline))
        except Exception as e:
            failures.append(f"{type(e).__name__}: {e}")
    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise RuntimeError(f"{len(failures)} of {count} streams failed: {failures[0]}")
    seconds = max(m[-1] for _, m in results) - min(b for b, _ in results)
    gaps = [1e3 * (b - a) for _, m in results for a, b in zip(m, m[1:])] or [0.0]
    report(f"{count} streams, prompt {prompt}, {tokens} out",
           {"streams": count, "tok_s": count * tokens / seconds, "first_ms": statistics.median(1e3 * (m[0] - b) for b, m in results),
            "gap_ms": statistics.median(gaps), "gap_ms_p99": quantile(gaps, 0.99)})


def forget(path):
    """Out of the page cache, as far as it is clean; needs no rights."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def read_seconds(path):
    """What the disk gives a plain reader of a file that is not in the cache."""
    forget(path)
    buffer, began = bytearray(8 << 20), time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began


def cold_start(report, start, folder, shape, deadline):
    """`start` makes a ready Daemon of a model folder. The weights are read twice: by a plain reader, and by the start."""
    size = synthetic_model.write(folder, shape, deadline)
    weights = pathlib.Path(folder) / "model.safetensors"
    plain = read_seconds(weights)
    forget(weights)
    with start(folder) as daemon:
        report(f"cold start, {size / 1e9:.1f} GB of safetensors",
               {"seconds": daemon.ready_s, "gb_s": size / daemon.ready_s / 1e9, "disk_gb_s": size / plain / 1e9,
                "of_disk": plain / daemon.ready_s})
