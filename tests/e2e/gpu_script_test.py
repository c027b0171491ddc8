"""tests/gpu/run --dry-run: every step of the GPU suite on the emulator at toy sizes; the numbers it has survive what fails."""
import json, os, pathlib, subprocess, sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["TOKENWORKS_BIN"]).resolve().parent

if not (BUILD / "tests/gpu_bench_emulated").exists():
    if os.environ.get("TOKENWORKS_SANITIZED"):
        pytestmark = pytest.mark.skip(reason="a sanitizer build has no emulator")


def run(out, *arguments, build=BUILD):
    done = subprocess.run([sys.executable, str(ROOT / "tests/gpu/run"), "--dry-run", "--build", str(build), "--out", str(out), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600)
    return done, json.loads((out / "results.json").read_text())


def test_a_dry_run_measures_every_section_and_prints_the_table_last(tmp_path):
    done, results = run(tmp_path, "--minutes", "50")
    assert done.returncode == 0, done.stdout
    assert all(step["ok"] for step in results["steps"].values()), results["steps"]
    assert {m["section"] for m in results["measurements"]} == {"probes", "gemm", "attention", "model", "decode", "prefill", "mixed"}
    for section, key in [("decode", "tok_s"), ("prefill", "tok_s"), ("attention", "gb_s"), ("gemm", "tflop_s")]:
        assert all(m[key] > 0 for m in results["measurements"] if m["section"] == section)
    assert "the numbers mean nothing" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("| ")


def test_a_program_that_dies_costs_its_own_step_only(tmp_path):
    fake = tmp_path / "build/tests"
    fake.mkdir(parents=True)
    (fake / "gpu_bench_emulated").write_text(
        "#!/bin/sh\necho '{\"section\": \"probes\", \"name\": \"read\", \"gb_s\": 7}' >> \"$1\"\n"
        "case \"$*\" in *decode*) kill -9 $$;; esac\n")
    (fake / "test_emulator").write_text("#!/bin/sh\nexit 5\n")
    for program in fake.iterdir():
        program.chmod(0o755)
    done, results = run(tmp_path / "out", "--minutes", "10", build=tmp_path / "build")
    assert done.returncode == 1
    assert results["steps"]["probes"]["ok"] and not results["steps"]["model"]["ok"]
    assert results["steps"]["kernel-tests"]["why"].startswith("code 5")
    assert "gb_s 7" in done.stdout.split("| what |")[1]

    (fake / "test_emulator").write_text("#!/bin/sh\nsleep 3600\n")
    done, results = run(tmp_path / "late", "--only", "kernel-tests", "--minutes", "0.02", build=tmp_path / "build")
    assert done.returncode == 1
    assert "no end after" in results["steps"]["kernel-tests"]["why"]
