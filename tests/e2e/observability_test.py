"""A real Prometheus scrapes a real daemon; after a scripted load every query of the dashboard returns a non-zero series."""
import json, pathlib, re, shutil, socket, subprocess, threading, time, urllib.error, urllib.parse, urllib.request

import pytest

from plant import NAME, Plant

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def queries():
    dashboard = json.loads((ROOT / "deploy/grafana/tokenworks.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "30s").replace("$job", ".+").replace("$instance", ".+")


@pytest.fixture
def watched(tmp_path):
    assert shutil.which("prometheus"), "prometheus is missing: install the Debian package prometheus"
    with Plant() as plant:
        config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
        target = urllib.parse.urlparse(plant.admin).netloc
        config = config.replace("127.0.0.1:9090\"", target + "\"").replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        shutil.copy(ROOT / "deploy/prometheus/alerts.yml", tmp_path)
        port = free_port()
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                        f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            yield plant, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def ask(prometheus, query):
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query}), timeout=10) as response:
            return json.load(response)["data"]["result"]
    except urllib.error.HTTPError as e:
        if e.code == 503:
            return []                                # Prometheus listens, but still reads its files
        raise AssertionError(f"{query}: {e.read()}")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return []                                    # it does not listen yet


def test_every_query_of_the_dashboard_shows_the_load(watched):
    plant, prometheus = watched
    client = plant.openai(plant.key())
    stop = threading.Event()

    def load():
        while not stop.is_set():
            for stream in (False, True):
                answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Tell me a story about a river. " * 8}],
                                                        max_tokens=12, stream=stream, extra_body={"ignore_eos": True})
                if stream:
                    list(answer)
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    missing, deadline = {query: title for title, query in queries()}, time.monotonic() + 90
    try:
        while missing and time.monotonic() < deadline:
            for query in list(missing):
                values = [float(series["value"][1]) for series in ask(prometheus, query)]
                if any(value > 0 for value in values):
                    del missing[query]
            time.sleep(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not missing, missing
    assert ask(prometheus, 'up{job="tokenworks"}')[0]["value"][1] == "1"
    firing = [r["metric"]["alertname"] for r in ask(prometheus, 'ALERTS{alertstate="firing"}')]
    assert firing == [], firing
    organizations = {r["metric"]["organization"] for r in ask(prometheus, "tokenworks_requests_total")}
    assert all(re.fullmatch(r"[a-z0-9_-]+", name) for name in organizations)
