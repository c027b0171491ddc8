"""A real Prometheus scrapes the real daemon: after a scripted load every query of the dashboard returns a non-zero series."""
import json, os, pathlib, re, shutil, signal, socket, subprocess, tempfile, threading, time, urllib.parse, urllib.request

from plant import NAME, Plant

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Series that are rightly zero while all is well: the query must answer, but not with more than zero.
MAY_BE_ZERO = re.compile(r"failures|discarded|preemption|waiting|reload_failed|refused|deriv|increase|ALERTS|fairness|predicted|status=~\"[45]|queue|holds?_|sequences_running|state=\"used\"")


def load(plant):
    key, other = plant.key(), plant.key("beta")
    prompt = [{"role": "user", "content": "Remember these words: " + " ".join(f"word{i}" for i in range(60))}]

    def work(k):
        for _ in range(6):
            plant.openai(k).chat.completions.create(model=NAME, messages=prompt, max_tokens=24, extra_body={"ignore_eos": True})
    crowd = [threading.Thread(target=work, args=(k,)) for k in (key, other) for _ in range(3)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def expressions(dashboard):
    for panel in dashboard["panels"]:
        for inner in panel.get("panels", []) + [panel]:
            for target in inner.get("targets", []):
                yield inner["title"], target["expr"]


def test_every_query_of_the_dashboard_answers_after_a_load():
    prometheus = shutil.which("prometheus")
    assert prometheus, "the Debian package prometheus is missing"
    dashboards = list((ROOT / "deploy/grafana").rglob("*.json"))
    assert dashboards
    folder = tempfile.mkdtemp(prefix="tokenworks-prometheus-")
    with Plant() as plant:
        target = urllib.parse.urlparse(plant.admin).netloc
        config = pathlib.Path(folder, "prometheus.yml")
        config.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
                          f"scrape_configs:\n  - job_name: tokenworks\n    static_configs: [{{targets: ['{target}']}}]\n")
        port = free_port()
        server = subprocess.Popen([prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def query(expr):
                url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
                return json.load(urllib.request.urlopen(url, timeout=10))["data"]["result"]
            deadline = time.monotonic() + 60
            while True:
                try:
                    if any(float(r["value"][1]) == 1 for r in query('up{job="tokenworks"}')):
                        break
                except OSError:
                    pass
                assert time.monotonic() < deadline, "Prometheus did not scrape"
                time.sleep(0.3)
            stop = time.monotonic() + 12                 # rates need several scrapes
            while time.monotonic() < stop:
                load(plant)
            time.sleep(2.5)
            silent, zero, asked = [], [], 0
            for path in dashboards:
                for title, expr in expressions(json.loads(path.read_text())):
                    for name, value in (("$__rate_interval", "30s"), ("$__range", "30s"), ("$__interval", "5s"), ("$job", "tokenworks"), ("$instance", ".*")):
                        expr = expr.replace(name, value)
                    expr = re.sub(r"\$\{?\w+\}?", ".*", expr).replace('="tokenworks"', '="tokenworks"').replace('=".*"', '=~".*"')
                    asked += 1
                    result = query(expr)
                    values = [float(r["value"][1]) for r in result]
                    if not result:
                        silent.append((title, expr))
                    elif not any(v > 0 for v in values if v == v) and not MAY_BE_ZERO.search(expr):
                        zero.append((title, expr, values))
            assert asked >= 8
            assert not silent, silent
            assert not zero, zero
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
            shutil.rmtree(folder, ignore_errors=True)


def test_the_exposition_is_clean_under_promtool(plant, client):
    client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    text = urllib.request.urlopen(plant.admin + "/metrics").read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout.decode()
