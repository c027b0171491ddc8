"""tests/gpu/run --dry-run: every step of the GPU suite on the emulator at toy sizes; the numbers it has survive what fails."""
import json, os, pathlib, subprocess, sys, time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["TOKENWORKS_BIN"]).resolve().parent

if not (BUILD / "tests/gpu_bench_emulated").exists():
    if os.environ.get("TOKENWORKS_SANITIZED"):
        pytestmark = pytest.mark.skip(reason="a sanitizer build has no emulator")

sys.path.insert(0, str(ROOT / "tests/gpu"))
import gateway  # noqa: E402
import synthetic_model  # noqa: E402


def run(out, *arguments, build=BUILD):
    done = subprocess.run([sys.executable, str(ROOT / "tests/gpu/run"), "--dry-run", "--build", str(build), "--out", str(out), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600)
    return done, json.loads((out / "results.json").read_text())


def programs(tmp_path, bench, tests):
    """A build folder whose programs are these scripts."""
    folder = tmp_path / "build/tests"
    folder.mkdir(parents=True)
    for name, text in [("gpu_bench_emulated", bench), ("test_emulator", tests)]:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def test_a_dry_run_measures_every_section_and_prints_the_table_last(tmp_path):
    done, results = run(tmp_path, "--minutes", "50")
    assert done.returncode == 0, done.stdout
    assert all(step["ok"] for step in results["steps"].values()), results["steps"]
    assert {m["section"] for m in results["measurements"]} == {"probes", "gemm", "attention", "model", "decode", "prefill", "mixed", "gateway", "cold-start", "peers"}
    for section, key in [("decode", "tok_s"), ("prefill", "tok_s"), ("attention", "gb_s"), ("gemm", "tflop_s"), ("cold-start", "gb_s")]:
        assert all(m[key] > 0 for m in results["measurements"] if m["section"] == section)
    gateway = {m["name"]: m for m in results["measurements"] if m["section"] == "gateway"}
    assert [m["tok_s"] for m in gateway.values() if "streams" in m] > [0] and any(m.get("sync_ms", 0) > 0 for m in gateway.values())
    assert not list(tmp_path.glob("gateway-*"))        # gigabytes on a card's machine
    assert "the numbers mean nothing" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("| ")


def test_a_program_that_dies_costs_its_own_step_only(tmp_path):
    fake = programs(
        tmp_path,
        "#!/bin/sh\necho '{\"section\": \"probes\", \"name\": \"read\", \"gb_s\": 7}' >> \"$1\"\n"
        "case \"$*\" in *decode*) printf '{\"section\": \"decode\", \"na' >> \"$1\"; kill -9 $$;; esac\n",
        "#!/bin/sh\nexit 5\n")
    done, results = run(tmp_path / "out", "--minutes", "10", build=tmp_path / "build")
    assert done.returncode == 1
    assert results["steps"]["probes"]["ok"] and not results["steps"]["model"]["ok"]
    assert results["steps"]["kernel-tests"]["why"].startswith("code 5")
    assert "gb_s 7" in done.stdout.split("| what |")[1]

    (fake / "test_emulator").write_text("#!/bin/sh\nsleep 3600\n")
    done, results = run(tmp_path / "late", "--only", "kernel-tests", "--minutes", "0.02", build=tmp_path / "build")
    assert done.returncode == 1
    assert "no end after" in results["steps"]["kernel-tests"]["why"]


def test_who_ends_the_script_gets_the_table_of_what_there_is_and_leaves_nothing_behind(tmp_path):
    programs(
        tmp_path,
        "#!/bin/sh\ncase \"$*\" in *attention*) echo $$ > \"$1.pid\"; exec sleep 3600;; esac\n"
        "echo '{\"section\": \"probes\", \"name\": \"read\", \"gb_s\": 7}' >> \"$1\"\n",
        "#!/bin/sh\nexit 0\n")
    out = tmp_path / "out"
    script = subprocess.Popen([sys.executable, str(ROOT / "tests/gpu/run"), "--dry-run", "--build", str(tmp_path / "build"), "--out", str(out)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pid, deadline = out / "measurements.jsonl.pid", time.monotonic() + 120
    while not (pid.exists() and pid.read_text().endswith("\n")):
        assert time.monotonic() < deadline and script.poll() is None
        time.sleep(0.02)
    script.terminate()
    said, _ = script.communicate(timeout=120)
    assert script.returncode == 1
    assert "gb_s 7" in said.split("| what |")[1] and said.rstrip().splitlines()[-1].startswith("| "), said
    results = json.loads((out / "results.json").read_text())
    assert results["ended"] == "SIGTERM" and results["steps"]["probes"]["ok"] and not results["steps"]["attention"]["ok"]
    left = time.monotonic() + 60                      # killed is not yet reaped by whoever inherits it
    while os.path.exists(f"/proc/{pid.read_text().strip()}"):
        assert time.monotonic() < left
        time.sleep(0.02)


def test_a_file_that_cannot_be_written_does_not_cost_the_table(tmp_path):
    """A kit travels without docs/: --append has nowhere to append to. With a page there, the table goes to its end."""
    kit = tmp_path / "tests/gpu"
    kit.mkdir(parents=True)
    for name in ("run", "gateway.py", "synthetic_model.py"):
        (kit / name).write_bytes((ROOT / "tests/gpu" / name).read_bytes())

    def said(out):
        done = subprocess.run([sys.executable, str(kit / "run"), "--only", "machine", "--append", "--build", str(tmp_path / "build"), "--out", str(out)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert "| what | result |" in done.stdout and "Traceback" not in done.stdout, done.stdout
        return done.stdout
    assert "not written: " in said(tmp_path / "out")
    page = tmp_path / "docs/benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Benchmarks\n")
    assert "not written: " not in said(tmp_path / "out")
    assert page.read_text().startswith("# Benchmarks\n\n## On a card, 2") and "| what | result |" in page.read_text()
    (tmp_path / "full/results.json").mkdir(parents=True)               # nor can the numbers
    assert "not written: " in said(tmp_path / "full")


def doctor():
    done = subprocess.run([os.environ["TOKENWORKS_BIN"], "doctor", "--json"], stdout=subprocess.PIPE, text=True, timeout=60)
    return {c["name"]: c["value"] for c in json.loads(done.stdout)["checks"]}


def test_the_programs_for_a_card_are_built_wherever_nvcc_is_and_say_when_there_is_none(tmp_path):
    """They ran on no card yet; that they link, start and end in order can be known here."""
    said = doctor()
    if not said["cuda backend"].startswith("built in"):
        return                                        # a build without nvcc has none
    tests = [str(BUILD / "gpu/gpu_tests")]

    def names(program):
        out = subprocess.run([program, "--gtest_list_tests"], stdout=subprocess.PIPE, text=True, timeout=60).stdout
        return {line.split("#")[0].strip() for line in out.splitlines()}
    listed = names(tests[0])
    for suite in ("EmulatorLinear.", "EmulatedTiledAttention.", "EmulatedSampler.", "All/EmulatorModels."):
        assert suite in listed, listed
    assert listed <= names(str(BUILD / "tests/test_emulator"))         # one set of sources
    if "models run on GPU" in said["backend: auto"]:
        return                                        # tests/gpu/run is for that
    done = subprocess.run(tests + ["--gtest_filter=EmulatorNorm.*"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 3 and "no card to test on" in done.stderr
    out = tmp_path / "measurements.jsonl"
    done = subprocess.run([str(BUILD / "gpu/gpu_bench"), str(out), "probes", "decode"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [(m["section"], m["name"]) for m in map(json.loads, out.read_text().splitlines()) if m["failed"]] == [("probes", "device"), ("model", "device")]


def test_a_plant_without_a_card_says_what_runs_where_and_why(tmp_path):
    said = doctor()
    assert {"cuda backend", "gpu driver", "gpu", "confidential computing", "backend: auto"} <= said.keys(), said
    if "models run on GPU" in said["backend: auto"]:
        return                                        # what runs there is another test's business
    built_in = said["cuda backend"].startswith("built in")
    why = said["gpu driver"] if built_in else "the CUDA backend is not built in"
    assert said["backend: auto"] == "models run on the CPU, because " + why
    synthetic_model.write(tmp_path / "model", "tiny")
    with gateway.Daemon([os.environ["TOKENWORKS_BIN"]], dict(os.environ), tmp_path / "plant", tmp_path / "model", "auto",
                        time.monotonic() + 60, kv="8MiB", context=256) as plant:
        ready = plant.log_of('"model_ready"')
        assert (ready["backend"], ready["because"]) == ("cpu", "backend: auto, and " + why)
    with pytest.raises(RuntimeError, match="backend: cuda cannot be had"):
        gateway.Daemon([os.environ["TOKENWORKS_BIN"]], dict(os.environ), tmp_path / "plant", tmp_path / "model", "cuda", time.monotonic() + 60)


def test_cards_that_are_there_and_cannot_be_had_are_told_with_the_reason(tmp_path):
    """A driver that lists two cards and a runtime that gets none of them: doctor says all of it, auto falls back and says why."""
    if not doctor()["cuda backend"].startswith("built in"):
        return
    env = dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "tests/fake_driver"), TOKENWORKS_NVML=str(BUILD / "tests/kernels/emulator/libfake_nvml.so"))
    synthetic_model.write(tmp_path / "model", "tiny")
    with gateway.Daemon([os.environ["TOKENWORKS_BIN"]], env, tmp_path / "plant", tmp_path / "model", "auto", time.monotonic() + 60,
                        kv="8MiB", context=256) as plant:
        ready = plant.log_of('"model_ready"')
        done = subprocess.run([os.environ["TOKENWORKS_BIN"], "doctor", "--json", "--config", plant.config], stdout=subprocess.PIPE, text=True, env=env, timeout=60)
    rows = [(c["name"], c["value"]) for c in json.loads(done.stdout)["checks"]]
    said = dict(rows)
    assert [value for name, value in rows if name == "gpu"] == [
        f"{i}: NVIDIA H200, 143771 MiB, sm_90, 132 multiprocessors, peers: {1 - i}" for i in (0, 1)]
    assert said["gpu driver"] == "CUDA 13.0" and said["confidential computing"] == "on (production)"
    assert said["backend: auto"].startswith("models run on the CPU, because the device number 0 failed: ")
    assert said["model"].startswith("synthetic: the CPU, because the device number 0 failed: ")
    assert ready["backend"] == "cpu" and ready["because"].startswith("backend: auto, and the device number 0 failed: ")


def test_a_model_over_two_ranks_is_a_line_of_configuration(tmp_path):
    synthetic_model.write(tmp_path / "model", "tiny")

    def daemon(backend):
        return gateway.Daemon([os.environ["TOKENWORKS_BIN"]], dict(os.environ), tmp_path / "plant", tmp_path / "model", backend,
                              time.monotonic() + 60, compute="exact", kv="8MiB", context=256)
    for backend in ("cpu", "cpu:0+1"):
        with daemon(backend) as plant:
            assert plant.log_of('"model_ready"')["ranks"] == (2 if "+" in backend else 1)
            _, marks = gateway.stream(plant.api, plant.key(), gateway.prompt_of(1, 40), 12, time.monotonic() + 60)   # raises on any other count
            assert marks
    try:
        daemon("cpu:0+1+2").close()
        raise AssertionError("two key/value heads among three ranks")
    except RuntimeError as e:
        assert "1, 2 would do" in str(e)
