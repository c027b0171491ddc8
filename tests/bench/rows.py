"""What is measured: each function runs one session of servers and leaves its figures in `found[(row, side)]`, a list with one
entry a round. `run` in serving.py alternates the sides and prints the medians."""
import statistics, subprocess, threading, time, urllib.error, urllib.request

from servers import NAME, Ours, Peer, rss_mib
from streams import Busy, Stream, load, throughput_until, words

CLIENTS = (1, 8, 16, 32)


def pct(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p / 100 * len(values)))]


def side_of(server):
    return "ours" if isinstance(server, Ours) else "peer"


def serve(options, side, ours, peer):
    return Ours(options, **ours) if side == "ours" else Peer(options, **peer)


def chat(options, found, side, quantize="q4_0"):
    """Throughput, first tokens, one long prompt, start and memory, on the demo model."""
    server = serve(options, side, {"context": 1024, "kv": "512MiB"}, {"context": 640, "parallel": max(options.clients), "quantize": quantize})
    name = side if quantize else "peer_q4_1"
    try:
        load(options, server, 2, seconds=1.5)
        for n in options.clients:
            result = load(options, server, n)
            found[f"output tok/s, {n} clients", name].append(result["output_tok_s"])
            found[f"TTFT p50 ms, {n} clients", name].append(result["ttft_ms"]["p50"])
            if n == 1:
                found["decode step ms, 1 client", name].append(result["gap_ms"]["p50"])
        for _ in range(2 if options.short else 4):
            stream = Stream(server, words(510), 1).run()
            found["prefill tok/s, one 512-token prompt", name].append(stream.usage["prompt_tokens"] / stream.ttft_s)
    finally:
        server.stop()


def start_and_memory(options, found, side):
    """Ready from a warm page cache; RSS when 32 sequences have each filled 512 tokens of a cache made for just that."""
    server = serve(options, side, {"context": 512, "kv": "361MiB"}, {"context": 512, "parallel": 32})
    try:
        found["ready after start, s", side].append(server.ready_s)
        streams = [Stream(server, words(440), 60) for _ in range(32)]
        threads = [threading.Thread(target=s.run) for s in streams]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert all(s.usage for s in streams), [s.error for s in streams]
        found["RSS MiB, 32 sequences of 512", side].append(rss_mib(server.pid))
    finally:
        server.stop()


def mixed(options, found, side):
    """Gaps between tokens of 16 clients while prompts of 4k tokens arrive one after another."""
    server = serve(options, side, {"context": 4608, "kv": "2GiB"}, {"context": 4608, "parallel": 18})
    stop, lock, gaps, long_ttft = threading.Event(), threading.Lock(), [], []

    def client():
        while not stop.is_set():
            stream = Stream(server, "Write about these things: " + words(96), 64, stop=stop).run()
            with lock:
                gaps.extend(stream.gaps_s)

    def prompts():
        while not stop.is_set():
            stream = Stream(server, words(4000), 8, stop=stop).run()
            if stream.ttft_s is not None:
                long_ttft.append(stream.ttft_s)

    try:
        threads = [threading.Thread(target=client) for _ in range(16)] + [threading.Thread(target=prompts)]
        for t in threads:
            t.start()
        time.sleep(8 if options.short else 20)
        stop.set()
        for t in threads:
            t.join()
        found["p99 gap ms, 16 clients, 4k prompts arriving", side].append(pct(gaps, 99) * 1e3)
        found["p50 gap ms, the same", side].append(pct(gaps, 50) * 1e3)
        if long_ttft:
            found["TTFT p50 s of the 4k prompts, the same", side].append(statistics.median(long_ttft))
    finally:
        server.stop()


def contexts(options, found, side):
    """One client far into its context."""
    server = serve(options, side, {"context": 8192, "kv": "512MiB"}, {"context": 8192, "parallel": 1})
    try:
        for tokens in (2000, 8000):
            stream = Stream(server, words(tokens - 10), 48).run()
            assert stream.usage, stream.error
            found[f"prefill tok/s, prompt of {tokens}", side].append(stream.usage["prompt_tokens"] / stream.ttft_s)
            found[f"decode tok/s, 1 client at {tokens}", side].append(1 / statistics.median(stream.gaps_s))
    finally:
        server.stop()


def sources(options, found, side, quantize):
    """The demo weights as the peer's own tool writes them in another type."""
    model = options.root / "root" / f"{quantize}-{options.demo.name}"
    if not model.exists():                           # the peer's start script makes it
        Peer(options, context=512, parallel=1, quantize=quantize).stop()
    server = serve(options, side, {"context": 1024, "kv": "256MiB", "model": model}, {"context": 640, "parallel": 16, "quantize": quantize})
    try:
        load(options, server, 1, seconds=1)
        for n in (1, 16):
            found[f"{quantize.upper()} source, output tok/s, {n} clients", side].append(load(options, server, n, seconds=options.seconds)["output_tok_s"])
    finally:
        server.stop()


def larger(options, found, side):
    """A model of 560 M parameters with random weights (tests/bench/random_model.py)."""
    server = serve(options, side, {"context": 1024, "kv": "512MiB", "model": options.random_model},
                   {"context": 640, "parallel": 8, "model": options.random_model, "quantize": None})
    try:
        for n in (1, 8):
            found[f"560M Q4_0 random, output tok/s, {n} clients", side].append(
                throughput_until(server, n, 6 if options.short else 15, out=48))
        stream = Stream(server, words(510), 1).run()
        found["560M Q4_0 random, prefill tok/s of 512", side].append(stream.usage["prompt_tokens"] / stream.ttft_s)
    finally:
        server.stop()


def busy_neighbour(options, found, side):
    server = serve(options, side, {"context": 1024, "kv": "512MiB"}, {"context": 640, "parallel": 16})
    try:
        seconds = 5 if options.short else 12
        load(options, server, 2, seconds=1)
        alone = throughput_until(server, 16, seconds)
        time.sleep(2)
        with Busy():
            beside = throughput_until(server, 16, seconds)
        found["output tok/s alone, 16 clients", side].append(alone)
        found["output tok/s beside one busy process, 16 clients", side].append(beside)
        found["throughput kept beside one busy process, 16 clients", side].append(beside / alone)
    finally:
        server.stop()


def latencies(options, found):
    """/livez and a 401 every 20 ms while 32 clients keep the machine full."""
    server = Ours(options)
    try:
        loader = threading.Thread(target=load, args=(options, server, 32), kwargs={"seconds": 6})
        loader.start()
        time.sleep(1)
        times = {"/livez": [], "401": []}
        while loader.is_alive():
            for name in times:
                request = urllib.request.Request(server.plant.admin + "/livez") if name == "/livez" else urllib.request.Request(
                    server.url + "/models", headers={"Authorization": "Bearer twk_wrong"})
                begin = time.perf_counter()
                try:
                    status = urllib.request.urlopen(request, timeout=10).status
                except urllib.error.HTTPError as e:
                    status = e.code
                assert status == (200 if name == "/livez" else 401), status
                times[name].append(time.perf_counter() - begin)
            time.sleep(0.02)
        loader.join()
        for name, values in times.items():
            found[f"{name} p99 ms under full load", "ours"].append(pct(values, 99) * 1e3)
    finally:
        server.stop()


def prefix_cache(options, found):
    """The same 1k prefix twice from one tenant, then from another one."""
    server = Ours(options, context=2048)
    try:
        Stream(server, words(64), 4).run()
        for _ in range(3):
            prefix = words(1024)
            cold = Stream(server, prefix + " first", 1).run()
            warm = Stream(server, prefix + " second", 1).run()
            other = Stream(server, prefix + " third", 1, key=server.other_key).run()
            cached = lambda s: (s.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            assert cached(warm) >= 1000 and cached(other) == 0, (warm.usage, other.usage)
            found["first token after a cached 1k prefix, times sooner", "ours"].append(cold.ttft_s / warm.ttft_s)
            found["another tenant's first token on that prefix, times sooner", "ours"].append(cold.ttft_s / other.ttft_s)
    finally:
        server.stop()
