"""A real daemon for end-to-end tests: own folder, port 0, real model, keys minted with the real CLI."""
import json, os, pathlib, re, shutil, signal, subprocess, tempfile, time

BIN = os.environ.get("TOKENWORKS_BIN", str(pathlib.Path(__file__).resolve().parents[2] / "build/release/tokenworks"))
MODEL = os.environ.get("TOKENWORKS_DEMO_MODEL", os.path.expanduser("~/.cache/tokenworks/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
NAME = "smollm2-135m-instruct"

PLANT = """plant: {{name: test, region: eu-test, jurisdiction: DE}}
listen: ["127.0.0.1:0"]
admin: {{listen: "127.0.0.1:0"}}
data_dir: ./data
models:
  - {{id: {name}, path: "{model}", aliases: [default], context_tokens: {context}, kv_cache: {kv}, max_sequences: 64}}
prices: prices.yaml
tenants: tenants.yaml
ledger: {{store: sqlite, progress: {progress}}}
limits: {{drain: {drain}}}
"""
PRICES = """version: "test-1"
models:
  %s: {input: 0.10, cached_input: 0.05, output: 0.40}
tiers: {priority: 1.75, standard: 1, batch: 0.5}
""" % NAME
TENANTS = """plans:
  open: {models: ["*"], weight: 1}
organizations:
  acme: {plan: open, projects: {default: {}, search: {}}}
  beta: {plan: open}
"""


class Plant:
    def __init__(self, tenants=TENANTS, prices=PRICES, progress="100ms", context=2048, kv="256MiB", drain="10s", env=None, plant=PLANT):
        self.folder = tempfile.mkdtemp(prefix="tokenworks-e2e-")
        self.config = self.folder + "/tokenworks.yaml"
        self.write("tokenworks.yaml", plant.format(name=NAME, model=MODEL, context=context, kv=kv, progress=progress, drain=drain))
        self.write("prices.yaml", prices)
        self.write("tenants.yaml", tenants)
        self.env = dict(os.environ, **(env or {}))
        self.process = None

    def write(self, name, text):
        pathlib.Path(self.folder, name).write_text(text)

    def start(self, **how):
        self.log = open(self.folder + "/daemon.log", "ab")
        self.process = subprocess.Popen([BIN, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=self.env, **how)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                endpoints = json.load(open(self.folder + "/data/endpoints.json"))
                if endpoints["pid"] == self.process.pid:
                    self.api, self.admin = endpoints["api"][0], endpoints["admin"]
                    return self
            except (OSError, ValueError):
                pass
            assert self.process.poll() is None, "the daemon died at start:\n" + self.log_text()[-3000:]
            time.sleep(0.02)
        raise AssertionError("not ready:\n" + self.log_text()[-3000:])

    def log_text(self):
        return pathlib.Path(self.folder, "daemon.log").read_text(errors="replace")

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=60):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout)
        return self.process.returncode if self.process else None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def cli(self, *arguments, check=True, text=True):
        done = subprocess.run([BIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, env=self.env, timeout=120)
        if check:
            assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def key(self, organization="acme", project="default", **flags):
        command = ["keys", "create", "--config", self.config, "--json"]
        if organization:
            command += ["--organization", organization, "--project", project]
        for flag, value in flags.items():
            command += ["--" + flag, value]
        return json.loads(self.cli(*command).stdout)["key"]

    def operator_key(self):
        return self.key(organization="", role="operator")

    def usage(self):
        return json.loads(self.cli("usage", "--config", self.config, "--json").stdout)["data"]

    def verify(self):
        done = self.cli("ledger", "verify", "--config", self.config, "--json", check=False)
        return json.loads(done.stdout)

    def entries(self, request_id):
        return json.loads(self.cli("ledger", "show", "--config", self.config, request_id).stdout)["data"]

    def openai(self, key, **options):
        import openai
        return openai.OpenAI(base_url=self.api + "/v1", api_key=key, max_retries=options.pop("max_retries", 0), **options)

    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except PermissionError:                      # the daemon is not dumpable: only root may look; it counts for us
            return int(self.metrics()["process_open_fds"])

    def readiness(self):
        """The status of /readyz; 0: nobody answers any more."""
        import urllib.error
        import urllib.request
        try:
            return urllib.request.urlopen(self.admin + "/readyz", timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self):
        """{series with labels: value} of the admin listener."""
        import urllib.request
        text = urllib.request.urlopen(self.admin + "/metrics", timeout=10).read().decode()
        found = {}
        for line in text.splitlines():
            match = re.match(r"^([a-zA-Z_:][^ ]*) (\S+)", line)
            if match and not line.startswith("#"):
                found[match[1]] = float(match[2])
        return found
