"""Ours beside llama.cpp's server: every row with both sides, ratio and limit. Called by tests/bench/run; --help lists the flags.

A row is the median over rounds; sides alternate session by session. The peer serves its own Q4_0 of the same weights, its fastest
(its Q4_1 is measured once in a full run). Exit status 1 when a row misses its first gate."""
import argparse, collections, json, os, pathlib, statistics, subprocess, sys, time

import rows
from servers import MODEL, ROOT, machine, peer_version

# row: (first gate, goal); "ratio": ours / peer, "time ratio": the same where less is better, "ours": a figure of ours alone
LIMITS = {
    "output tok/s, 1 clients": ("ratio", ">=", 1.4, 2), "output tok/s, 8 clients": ("ratio", ">=", 2.2, 3.5),
    "output tok/s, 16 clients": ("ratio", ">=", 2.5, 4), "output tok/s, 32 clients": ("ratio", ">=", 2.5, 4),
    "prefill tok/s, one 512-token prompt": ("ratio", ">=", 2, 3), "TTFT p50 ms, 16 clients": ("ratio", "<=", 0.4, 0.25),
    "p99 gap ms, 16 clients, 4k prompts arriving": ("ratio", "<=", 0.5, 0.25), "ready after start, s": ("ours", "<=", 1.0, 0.4),
    "RSS MiB, 32 sequences of 512": ("ratio", "<=", 1.3, 1.0), "throughput kept beside one busy process, 16 clients": ("ours", ">=", 0.55, None),
    "/livez p99 ms under full load": ("ours", "<=", 20, None), "401 p99 ms under full load": ("ours", "<=", 20, None),
    "first token after a cached 1k prefix, times sooner": ("ours", ">=", 10, None),
    "another tenant's first token on that prefix, times sooner": ("ours", "<=", 2, None),
}
SESSIONS = {                                         # name: takes both sides
    "chat": True, "start": True, "mixed": True, "contexts": True, "q8_0": True, "f16": True, "larger": True, "busy": True, "latency": False,
    "prefix": False, "limits": False}


def run_session(options, found, name, side):
    if name == "chat":
        rows.chat(options, found, side)
    elif name == "start":
        rows.start_and_memory(options, found, side)
    elif name == "mixed":
        rows.mixed(options, found, side)
    elif name == "contexts":
        rows.contexts(options, found, side)
    elif name in ("q8_0", "f16"):
        rows.sources(options, found, side, name)
    elif name == "larger":
        rows.larger(options, found, side)
    elif name == "busy":
        rows.busy_neighbour(options, found, side)
    elif name == "latency":
        rows.latencies(options, found)
    elif name == "prefix":
        rows.prefix_cache(options, found)


def limits_of_the_machine(options, found):
    """int8 peak and read bandwidth measured on the spot, and what whole steps in this process make of them."""
    probe = json.loads(subprocess.run([options.build / "bench_kernels", "--benchmark_filter=Int8Peak|ReadBandwidth", "--benchmark_format=json",
                                       "--benchmark_min_time=0.3"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    figures = {b["name"]: b.get("GOP/s") or b.get("GB/s") for b in probe["benchmarks"]}
    peak, bandwidth = figures.get("Int8Peak/threads:2/real_time"), figures["ReadBandwidth/MiB:90/threads:2/real_time"]
    steps = [json.loads(l) for l in subprocess.run([options.build / "bench_steps", MODEL, "--json", "--rounds", "3"], stdout=subprocess.PIPE,
                                                   check=True, text=True).stdout.splitlines()]
    at = {s["what"]: s for s in steps}
    linear_ops, weights_gb = 2 * 134.5e6 - 2 * 49152 * 576, 0.0968   # per prompt token without the head; read per decode step
    put = lambda row, value: found[row, "ours"].append(value)
    if peak:
        put("int8 peak GOP/s, probe", peak)
        put("share of the int8 peak, prefill of 512, %", 100 * at["prefill 512 by 256"]["tokens_per_s"] * linear_ops / (peak * 1e9))
    put("read bandwidth GB/s, probe", bandwidth)
    put("share of the read bandwidth, decode of 1, %", 100 * weights_gb / (at["decode 1 x 128"]["ms"] * 1e-3) / bandwidth)
    for what in ("decode 1 x 128", "decode 16 x 128", "decode 16 x 2048", "decode 1 x 8192", "prefill 512 by 256", "prefill 8192 by 256"):
        if what in at:
            put(f"step in process: {what}, tok/s", at[what]["tokens_per_s"])
            put(f"step in process: {what}, ms outside kernels", at[what]["outside_kernels_ms"])
    put("step outside the backend, 1 client, ms (HTTP step less the one in process)",
        max(0.0, statistics.median(found["decode step ms, 1 client", "ours"]) - at["decode 1 x 128"]["ms"])
        if found["decode step ms, 1 client", "ours"] else float("nan"))


def table(found):
    missed = []
    print("| work | ours | peer | ratio | first gate | goal | |\n|---|---|---|---|---|---|---|")
    show = lambda v: "" if v is None else f"{v:.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"
    for row in dict.fromkeys(r for r, _ in found):
        side = {s: statistics.median(found[row, s]) for s in ("ours", "peer", "peer_q4_1") if found.get((row, s))}
        ours, peer = side.get("ours"), side.get("peer")
        if row.startswith("output") and "peer_q4_1" in side:
            peer = max(peer or 0, side["peer_q4_1"])
        ratio = ours / peer if ours is not None and peer else None
        kind, sign, gate, goal = LIMITS.get(row, (None, "", None, None))
        value = ratio if kind == "ratio" else ours if kind else None
        verdict = ""
        if value is not None:
            met = lambda limit: limit is not None and (value >= limit if sign == ">=" else value <= limit)
            verdict = "goal" if met(goal) else "met" if met(gate) else "MISSED"
            if verdict == "MISSED":
                missed.append(row)
        limit = lambda v: "" if v is None else f"{sign} {v}"
        print(f"| {row} | {show(ours)} | {show(peer)} | {show(ratio)} | {limit(gate)} | {limit(goal)} | {verdict} |")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=pathlib.Path, default=ROOT.parent / "shared/peers", help="folder with llama-server and load.py")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(os.path.expanduser("~/.cache/tokenworks/peer")),
                        help="chroot of the peer; made on first use (700 MB, needs root)")
    parser.add_argument("--clients", type=lambda s: [int(x) for x in s.split(",")], default=list(rows.CLIENTS))
    parser.add_argument("--seconds", type=float, default=12, help="of one throughput measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="two rounds of 5 s, everything under 12 minutes")
    parser.add_argument("--rows", type=lambda s: s.split(","), default=list(SESSIONS), help="sessions: " + ",".join(SESSIONS))
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="where bench_kernels and bench_steps are")
    parser.add_argument("--json", type=pathlib.Path, help="write every single figure there")
    options = parser.parse_args()
    if options.short:
        options.seconds, options.rounds = 5, 2
    options.demo = pathlib.Path(MODEL)
    print(f"peer: {peer_version(options)}; {machine()}; about 100 tokens in, 64 out, greedy, {options.rounds} rounds of {options.seconds:g} s\n", flush=True)
    if "larger" in options.rows:
        options.random_model = options.demo.with_name("random-560m.Q4_0.gguf")
        if not options.random_model.exists():
            subprocess.run([sys.executable, ROOT / "tests/bench/random_model.py", MODEL, options.random_model], check=True)
    found = collections.defaultdict(list)
    begin = time.monotonic()
    for name in options.rows:
        for turn in range(options.rounds if name in ("chat", "start", "mixed", "busy") else 1):
            for side in ("ours", "peer") if SESSIONS[name] else ("ours",):
                if name == "limits":
                    limits_of_the_machine(options, found)
                else:
                    run_session(options, found, name, side)
        print(f"[{time.monotonic() - begin:.0f} s] {name} done", file=sys.stderr, flush=True)
    if "chat" in options.rows and not options.short:
        rows.chat(options, found, "peer", quantize=None)
    missed = table(found)
    if options.json:
        options.json.write_text(json.dumps([{"row": r, "side": s, "values": v} for (r, s), v in found.items() if v], indent=1))
    if missed:
        print("\nbelow the first gate: " + "; ".join(missed))
    sys.exit(1 if missed else 0)


main()
