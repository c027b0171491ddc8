"""What somebody from outside tries first: files of the wrong encoding, addresses of nowhere, books of another user."""
import json, os, pathlib, subprocess

from plant import BIN, MODEL, NAME, Plant

NOBODY = 65534


def somebody_else(*arguments):
    """The command as a user who owns nothing here; whoever is not root is that already, and loses the folder by its mode."""
    become = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run([BIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **become)


def checked(plant, old, new):
    text = pathlib.Path(plant.config).read_bytes()
    pathlib.Path(plant.config).write_bytes(text.replace(old.encode(), new if isinstance(new, bytes) else new.encode()))
    results = [subprocess.run([BIN, command, "--config", plant.config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
               for command in ("check", "serve")]
    pathlib.Path(plant.config).write_bytes(text)
    assert [r.returncode for r in results] == [2, 2] and results[0].stderr == results[1].stderr, results
    return results[0].stderr.decode()


def test_what_the_books_could_not_hold_is_refused_before_a_request_comes():
    plant = Plant()
    try:
        assert "tokenworks.yaml:1: is not UTF-8" in checked(plant, "eu-test", "caf\u00e9".encode("latin1"))
        said = checked(plant, 'listen: ["127.0.0.1:0"]', 'listen: ["203.0.113.5:8080"]')
        assert "tokenworks.yaml:2: listen: cannot listen on 203.0.113.5:8080: " in said, said
        said = checked(plant, "data_dir: ./data", "data_dir: ./prices.yaml/data")
        assert "tokenworks.yaml:4: data_dir: " in said and "prices.yaml/data cannot be made" in said, said
        plant.write("tokenworks.yaml", pathlib.Path(plant.config).read_text().replace("eu-test", "caf\u00e9"))
        plant.start()
        key = plant.key()
        done = plant.openai(key).completions.create(model=NAME, prompt="hi", max_tokens=1, top_p=0)
        assert done.usage.completion_tokens == 1
        assert plant.entries(done.usage.model_extra["tokenworks"]["request_id"])[-1]["region"] == "caf\u00e9"
        # A port that is in use is no mistake of the file: this plant's own would be one.
        pathlib.Path(plant.config).write_text(pathlib.Path(plant.config).read_text().replace("127.0.0.1:0", plant.api.split("//")[1], 1))
        assert plant.cli("check", "--config", plant.config).returncode == 0
    finally:
        plant.close()


def test_books_of_another_user_are_called_so_and_not_absent():
    plant = Plant()
    folder = plant.folder
    try:
        os.chmod(folder, 0o755)
        plant.write("model.gguf", "a file they can see; nothing here opens it")
        plant.write("tokenworks.yaml", pathlib.Path(plant.config).read_text().replace(MODEL, "model.gguf"))
        plant.key()                                  # makes books
        os.chmod(folder + "/data", 0o700 if os.geteuid() == 0 else 0o000)
        for command in (("usage",), ("ledger", "verify"), ("keys", "list")):
            done = somebody_else(*command, "--config", plant.config)
            assert done.returncode == 1 and "Permission denied" in done.stderr and "run this as the user who owns" in done.stderr, done
        os.chmod(folder + "/data", 0o755)
        if os.geteuid() == 0:
            done = somebody_else("usage", "--config", plant.config)
            assert done.returncode == 1 and "Permission denied" in done.stderr, done
        os.chmod(folder + "/tenants.yaml", 0o000)
        done = somebody_else("check", "--config", plant.config)
        assert done.returncode == 2 and "tenants.yaml:1: cannot be read: Permission denied" in done.stderr, done
    finally:
        os.chmod(folder + "/data", 0o700)
        plant.close()


def test_model_files_that_are_none_are_said_at_once_and_json_is_json(tmp_path):
    run = lambda *arguments: subprocess.run([BIN, "models", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
    os.mkfifo(tmp_path / "pipe")                     # opening it would wait for somebody who writes
    done = run("inspect", str(tmp_path / "pipe"))
    assert done.returncode == 1 and "is not a regular file" in done.stderr, done
    assert run("inspect", MODEL, "--context", "-5").returncode == 2
    odd = tmp_path / 'a "model" \\ of\nours.gguf'
    odd.symlink_to(MODEL)
    done = run("pull", str(odd), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["path"] == str(odd), done
    done = run("pull", MODEL, "--output", str(tmp_path / "copy.gguf"))
    assert done.returncode == 2 and "--output is for URLs" in done.stderr, done


def test_a_page_of_another_origin_may_read_what_it_is_told():
    import urllib.request
    with Plant() as plant:
        ask = lambda: urllib.request.urlopen(urllib.request.Request(
            plant.api + "/v1/completions", data=json.dumps({"model": NAME, "prompt": "hi", "max_tokens": 1}).encode(), headers={
                "Authorization": "Bearer " + key, "Content-Type": "application/json", "Origin": "https://page.example", "Idempotency-Key": "once"}), timeout=60)
        key = plant.key()
        ask().read()
        again = ask()
        assert again.headers["x-idempotent-replayed"] == "true"
        exposed = [h.strip() for h in again.headers["access-control-expose-headers"].split(",")]
        ours = [h.lower() for h in again.headers if h.lower().startswith(("x-", "openai-processing", "retry-"))]
        assert set(ours) - {"x-content-type-options"} <= set(exposed), (ours, exposed)


def test_a_time_span_that_ends_before_it_begins_is_a_mistake_and_not_an_empty_table():
    with Plant() as plant:
        done = plant.cli("usage", "--config", plant.config, "--from", "2026-12-01", "--to", "2026-11-01", check=False)
        assert done.returncode == 2 and "--to must lie after --from" in done.stderr, done
