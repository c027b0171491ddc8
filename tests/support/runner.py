"""Builds the tests, computes reference expectations, runs everything, counts. Called by tests/run."""
import argparse, concurrent.futures, hashlib, json, os, pathlib, re, resource, subprocess, sys, tempfile, time
import xml.etree.ElementTree as xml

import cuda_resources

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Test programs of the sanitizer passes: the rooms with coroutines, threads or bytes from outside.
SANITIZED = {
    "address": ["base", "engine", "engine_overlapped", "ledger", "admission", "jobs", "http", "tenancy", "billing", "fuzz"],
    "thread": ["base", "engine", "engine_overlapped", "ledger", "admission", "jobs", "http", "backend"],
}
SANITIZED_LONG = ["scheduler", "backend", "formats", "tokenizer", "grammar"]   # long to build or to run
# Hours under a sanitizer and nothing in them that other tests do not run: left to the plain build, and to --long.
SANITIZED_WITHOUT = {"thread": {"ledger": "Simulation/PlantedFault.*:PowerCut.*:Month.*:Migration.*"}, "address": {}}
SANITIZED_SEEDS = {"thread": "1-20", "address": "1-60"}                    # of the ledger's simulated lives

# End-to-end tests that wait for a timer most of their time: they run beside the others.
MOSTLY_WAITING = ["full_disk", "jwks", "pull", "watchdog", "webhooks"]

# Tests that may be skipped, by name, each with the reason. Any other skip is a failure.
SKIPS_ALLOWED = dict(line.split(maxsplit=1) for line in (ROOT / "tests/skips.txt").read_text().splitlines()
                     if line and not line.startswith("#"))


def run(command, **kwargs):
    return subprocess.run(command, cwd=ROOT, **kwargs)


def build(folder, sanitize, targets):
    began = time.monotonic()
    if not (folder / "build.ninja").exists():
        done = run(["cmake", "-S", ".", "-B", str(folder), "-G", "Ninja", f"-DTOKENWORKS_SANITIZE={sanitize}"],
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + "\ncmake failed")
    done = run(["ninja", "-C", str(folder), *targets])
    if done.returncode != 0:
        sys.exit("the build failed")
    print(f"built {folder.name} in {time.monotonic() - began:.0f} s", flush=True)


def goldens():
    """Reference expectations, from packages we did not write; one folder per script, kept until the script changes."""
    out_root = ROOT / "build/golden"
    env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", PYTHONHASHSEED="0")
    requirements = (ROOT / "tests/requirements.txt").read_bytes()
    for script in sorted((ROOT / "tests/golden").glob("*.py")):
        text = script.read_text()
        if "OUTDIR" not in text:
            continue  # a tool that tests call, not a maker of expectations
        out = out_root / script.stem
        inputs = sorted(p for p in (ROOT / "tests/golden" / script.stem).glob("*") if p.is_file())
        stamp = hashlib.sha256(text.encode() + requirements + b"".join(p.read_bytes() for p in inputs)).hexdigest()
        if (out / ".stamp").exists() and (out / ".stamp").read_text() == stamp:
            continue
        began = time.monotonic()
        subprocess.run(["rm", "-rf", str(out)])
        out.mkdir(parents=True)
        done = subprocess.run([sys.executable, str(script), str(out)], cwd=ROOT, env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            print(done.stdout[-4000:])
            sys.exit(f"tests/golden/{script.name} failed")
        (out / ".stamp").write_text(stamp)
        print(f"reference expectations: {script.stem} in {time.monotonic() - began:.0f} s", flush=True)


def readable(output):
    """What a failed program said, without the log lines of the code under test when they would bury it."""
    if len(output) > 12000:
        output = "\n".join(line for line in output.splitlines() if not line.startswith('{"time"'))
    return output[-12000:]


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def skip(self, name):
        if any(re.fullmatch(pattern, name) for pattern in SKIPS_ALLOWED):
            self.skipped.append(name)
        else:
            self.failed.append(name + " (skipped, but not in tests/skips.txt)")


def google_tests(binary, options, env, tally):
    name = binary.name.removeprefix("test_")
    chosen = "*"
    if options.sanitize and not options.long:
        left_out = SANITIZED_WITHOUT[options.sanitize].get(name)
        chosen = f"*-{left_out}" if left_out else "*"
    if options.filter and not re.search(options.filter, name):
        listed = subprocess.run([str(binary), "--gtest_list_tests"], stdout=subprocess.PIPE, text=True, env=env).stdout
        suite, tests = "", []
        for line in listed.splitlines():
            if line.startswith("  "):
                full = suite + line.split("#")[0].strip()
                if re.search(options.filter, full) or re.search(options.filter, f"{name}/{full}"):
                    tests.append(full)
            elif line.endswith(".") or "." in line:
                suite = line.split("#")[0].strip()
        if not tests:
            return
        chosen = ":".join(tests)
    if options.list:
        print(name, chosen)
        return
    report = tempfile.NamedTemporaryFile(suffix=".json", delete=False).name
    began = time.monotonic()
    try:
        done = subprocess.run([str(binary), f"--gtest_output=json:{report}", "--gtest_brief=1", f"--gtest_filter={chosen}"],
                              cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=options.timeout)
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as e:
        output, code = (e.stdout or b"").decode(errors="replace") + f"\nno end after {options.timeout} s", 124
    failed_before = len(tally.failed)
    passed_before = tally.passed
    try:
        suites = json.load(open(report))["testsuites"]
    except (OSError, ValueError):
        suites = []
    for suite in suites:
        for test in suite["testsuite"]:
            full = f"{name}/{suite['name']}.{test['name']}"
            if test.get("failures"):
                tally.failed.append(full)
            elif test.get("result") == "SKIPPED":
                tally.skip(full)
            elif test.get("status") == "RUN":
                tally.passed += 1
    pathlib.Path(report).unlink(missing_ok=True)
    if code != 0 and len(tally.failed) == failed_before:
        tally.failed.append(f"{name} (ended with code {code})")
    ok = len(tally.failed) == failed_before
    line = f"{'ok  ' if ok else 'FAIL'} {name}: {tally.passed - passed_before} passed in {time.monotonic() - began:.1f} s\n"
    sys.stdout.write(line if ok else line + readable(output) + "\n")   # at once: another program may end now
    sys.stdout.flush()


def chosen(options):
    return ["-k", options.filter.removeprefix("e2e/") or "test"] if options.filter and options.filter != "e2e" else []


def pytest_run(files, options, env):
    """(report file, exit code, output, seconds) of the end-to-end tests in some files."""
    report = tempfile.NamedTemporaryFile(suffix=".xml", delete=False).name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files, *chosen(options)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return report, done.returncode, done.stdout, time.monotonic() - began


def python_tests(options, env, tally):
    files = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests/e2e").glob("*_test.py"))
    if options.list:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "tests/e2e", *chosen(options)], cwd=ROOT, env=env)
        return
    waiting = [f for f in files if pathlib.Path(f).stem.removesuffix("_test") in MOSTLY_WAITING]
    lanes = [[f for f in files if f not in waiting], waiting]
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        results = list(pool.map(lambda lane: pytest_run(lane, options, env), lanes))
    for report, code, output, seconds in results:
        passed_before, failed_before = tally.passed, len(tally.failed)
        try:
            cases = list(xml.parse(report).getroot().iter("testcase"))
        except (OSError, xml.ParseError):
            cases = []
        for case in cases:
            full = f"e2e/{case.get('classname', '').split('.')[-1]}.{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                tally.failed.append(full)
            elif case.find("skipped") is not None:
                tally.skip(full)
            else:
                tally.passed += 1
        pathlib.Path(report).unlink(missing_ok=True)
        if code not in (0, 5) and len(tally.failed) == failed_before:
            tally.failed.append(f"e2e (pytest ended with code {code})")
        ok = len(tally.failed) == failed_before
        print(f"{'ok  ' if ok else 'FAIL'} e2e: {tally.passed - passed_before} passed in {seconds:.1f} s", flush=True)
        if not ok:
            print(output[-30000:], flush=True)


def fuzzers(options, env, tally):
    """libFuzzer with clang's sanitizers, three minutes a target: only with --long, since building it takes longer than running it."""
    if options.list:
        print("libFuzzer tests/fuzz/run")
        return
    done = subprocess.run(["tests/fuzz/run", "--seconds", "180"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    targets = re.findall(r"^(ok  |FAIL) (\w+)", done.stdout, re.MULTILINE)
    tally.passed += sum(verdict == "ok  " for verdict, _ in targets)
    tally.failed += [f"fuzz/{target}" for verdict, target in targets if verdict != "ok  "]
    if done.returncode != 0 and all(verdict == "ok  " for verdict, _ in targets):
        tally.failed.append("fuzz (tests/fuzz/run failed)")
    print(done.stdout[-8000:], flush=True)


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)   # 1,024 for a user who logs in: too few for hundreds of connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))
    parser = argparse.ArgumentParser()
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--filter", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.timeout = 7200 if options.long else 900
    folder = ROOT / "build" / {"": "release", "address": "asan", "thread": "tsan"}[options.sanitize]
    rooms = SANITIZED.get(options.sanitize, []) + (SANITIZED_LONG if options.sanitize and options.long else [])
    build(folder, options.sanitize, [f"test_{r}" for r in rooms] if options.sanitize else [])
    env = dict(os.environ, TOKENWORKS_GOLDEN=str(ROOT / "build/golden"), TOKENWORKS_BIN=str(folder / "tokenworks"),
               ASAN_OPTIONS="detect_leaks=1:abort_on_error=0", UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS="halt_on_error=1",
               TOKENWORKS_SANITIZED=options.sanitize)
    if options.long:
        env["TOKENWORKS_LONG"] = "1"
    elif options.sanitize:
        env.setdefault("TOKENWORKS_SEEDS", SANITIZED_SEEDS[options.sanitize])
    if not options.list:
        goldens()
    tally = Tally()
    binaries = [b for b in sorted((folder / "tests").glob("test_*")) if os.access(b, os.X_OK) and b.is_file()
                and not (options.sanitize and b.name.removeprefix("test_") not in rooms)]

    def one(binary):
        part = Tally()
        google_tests(binary, options, env, part)
        return part
    # Two at a time: most programs have one busy thread.
    with concurrent.futures.ThreadPoolExecutor(1 if options.list else 2) as pool:
        for part in pool.map(one, binaries):
            tally.passed += part.passed
            tally.failed += part.failed
            tally.skipped += part.skipped
    if not options.sanitize and not options.list and (not options.filter or re.search(options.filter, "cuda")):
        wrong = cuda_resources.check(folder)
        tally.failed += wrong
        tally.passed += not wrong and bool(cuda_resources.kernels(folder))
    if not options.sanitize and not options.quick and any((ROOT / "tests/e2e").glob("*_test.py")):
        python_tests(options, env, tally)
    if options.long and not options.sanitize and (not options.filter or re.search(options.filter, "fuzz")):
        fuzzers(options, env, tally)
    if options.list:
        return
    for name in tally.failed:
        print("failed:", name)
    for name in tally.skipped:
        print("skipped:", name)
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    sys.exit(1 if tally.failed or tally.passed == 0 else 0)


main()
