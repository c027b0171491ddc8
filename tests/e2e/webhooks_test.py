"""Webhooks against a receiver that fails, hangs and answers 500 before it takes an event, across kill -9: nothing is lost, and
a receiver that looks at ids sees nothing twice. Signatures are checked with Python's hmac and with OpenAI's own SDK."""
import base64, decimal, hashlib, hmac, http.server, json, os, pathlib, socket, subprocess, sys, threading, time, urllib.error, urllib.request

import openai
import pytest

from plant import BIN, NAME, PLANT, Plant

SECRET = base64.b64encode(bytes(range(24))).decode()
TENANTS = """plans:
  open: {models: ["*"]}
organizations:
  acme: {plan: open, budget: {amount: "0.000002", per: month, mode: soft, warn_at: [50, 100], timezone: Europe/Berlin}}
"""
HOOKS = """webhooks:
  finance: {{url: "%s", secret: "whsec_%s", events: [budget.threshold]}}
  nobody: {{url: "http://127.0.0.1:9/", secret: "s"}}
"""


class Receiver:
    """Does what `plan` says, request by request, then takes everything. Keeps each attempt, and what it took by id."""

    def __init__(self):
        self.plan, self.attempts, self.taken, self.lock = [], [], {}, threading.Condition()
        self.release = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.lock:
                    receiver.attempts.append((dict((k.lower(), v) for k, v in self.headers.items()), body))
                    action = receiver.plan.pop(0) if receiver.plan else 204
                    receiver.lock.notify_all()
                if action == "close":
                    return
                if action == "hang":
                    receiver.release.wait(120)
                    return
                if action == "take and hang":         # it has the event, the plant never hears so
                    receiver.take(self.headers["webhook-id"], body)
                    receiver.release.wait(120)
                    return
                if 200 <= action < 300:
                    receiver.take(self.headers["webhook-id"], body)
                self.send_response(action)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, event, body):
        with self.lock:
            self.taken.setdefault(event, []).append(body)
            self.lock.notify_all()

    def wait(self, condition, what):
        with self.lock:
            assert self.lock.wait_for(condition, 60), f"{what}: {len(self.attempts)} attempts, taken {list(self.taken)}"

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hooked():
    receiver = Receiver()
    plant = Plant(tenants=TENANTS, plant=PLANT + HOOKS % (receiver.url, SECRET))
    with plant:
        yield plant, receiver
    receiver.close()


def ask(plant, key):
    return plant.openai(key).chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Say something."}], max_tokens=8,
                                                     extra_body={"ignore_eos": True})


def check(headers, body):
    """As docs/webhooks.md tells receivers to."""
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    right = "v1," + base64.b64encode(hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(right, headers["webhook-signature"])
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
    openai.OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret="whsec_" + SECRET)


def test_events_arrive_through_failures_and_kill_and_never_twice(hooked):
    plant, receiver = hooked
    key = plant.key()
    receiver.plan = ["close", 500, 302, "hang"]
    ask(plant, key)                                   # costs about 0.000006: both thresholds at once
    receiver.wait(lambda: len(receiver.attempts) >= 4, "the first attempts")
    assert not receiver.taken
    metrics = plant.metrics()
    assert metrics['tokenworks_webhook_failed_total{webhook="finance"}'] >= 3
    assert metrics['tokenworks_webhook_pending_events{webhook="nobody"}'] == 2
    plant.kill()                                      # while the fourth hangs
    receiver.release.set()
    receiver.release = threading.Event()
    receiver.plan = ["take and hang"]
    plant.start()
    receiver.wait(lambda: len(receiver.taken) == 1, "the first event")
    plant.kill()                                      # it was taken, and the plant does not know
    receiver.release.set()
    plant.start()
    receiver.wait(lambda: len(receiver.taken) == 2 and sum(map(len, receiver.taken.values())) == 3, "both events, the first of them again")
    for headers, body in receiver.attempts:
        check(headers, body)
    assert {h["webhook-id"] for h, _ in receiver.attempts} == set(receiver.taken)
    events = {}
    for event, bodies in receiver.taken.items():
        assert len(set(bodies)) == 1, "the same event in other words"
        told = json.loads(bodies[0])
        assert told["id"] == event and told["type"] == "budget.threshold"
        events[told["data"]["percent"]] = told["data"]
    assert set(events) == {50, 100}
    spent = sum(decimal.Decimal(str(u["cost"])) for u in plant.usage())
    assert decimal.Decimal(events[50]["spent"]) == spent and events[50]["amount"] == "0.000002" and events[50]["currency"] == "USD"
    assert events[50]["organization"] == "acme" and events[50]["period_start"].endswith("Z") and events[50]["mode"] == "soft"

    attempts = len(receiver.attempts)
    ask(plant, key)                                   # nothing new is crossed
    plant.stop()
    plant.start()                                     # what is reached is told again, and dropped by the outbox
    ask(plant, key)
    deadline = time.monotonic() + 60
    while plant.metrics()['tokenworks_webhook_failed_total{webhook="nobody"}'] < 1 and time.monotonic() < deadline:
        time.sleep(0.1)                               # the outbox was looked through again
    assert len(receiver.attempts) == attempts
    assert plant.metrics()['tokenworks_webhook_pending_events{webhook="finance"}'] == 0
    assert plant.verify()["ok"]


def test_a_reload_brings_webhooks_and_changes_to_budgets_are_told(hooked):
    plant, receiver = hooked
    plant.write("tokenworks.yaml", pathlib_text(plant).split("webhooks:")[0])
    operator = plant.operator_key()
    reload(plant, operator)
    ask(plant, plant.key())
    plant.write("tokenworks.yaml", pathlib_text(plant) + HOOKS.replace("{{", "{").replace("}}", "}") % (receiver.url, SECRET))
    reload(plant, operator)                           # what was reached meanwhile is told now
    receiver.wait(lambda: len(receiver.taken) == 2, "the thresholds of before")
    plant.write("tenants.yaml", TENANTS.replace("[50, 100]", "[50, 75, 100]"))
    reload(plant, operator)
    receiver.wait(lambda: len(receiver.taken) == 3, "the new threshold")
    assert {json.loads(b[0])["data"]["percent"] for b in receiver.taken.values()} == {50, 75, 100}
    assert all(len(b) == 1 for b in receiver.taken.values())


def test_the_receiver_of_the_documentation_checks_and_takes(hooked):
    plant, receiver = hooked
    page = pathlib.Path(__file__).resolve().parents[2] / "docs/webhooks.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert '("", 8000)' in code and "print(json.loads(body))" in code
    code = code.replace('("", 8000)', f'("127.0.0.1", {port})').replace("print(json.loads(body))", "print(json.loads(body)['data']['percent'], flush=True)")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env=dict(os.environ, TOKENWORKS_WEBHOOK_SECRET="whsec_" + SECRET))
    try:
        plant.write("tokenworks.yaml", pathlib_text(plant).replace(receiver.url, f"http://127.0.0.1:{port}/"))
        reload(plant, plant.operator_key())
        ask(plant, plant.key())
        assert {process.stdout.readline().strip(), process.stdout.readline().strip()} == {"50", "100"}
        forged = urllib.request.Request(f"http://127.0.0.1:{port}/", b"{}", {"webhook-id": "evt_1", "webhook-timestamp": str(int(time.time())),
                                                                             "webhook-signature": "v1,AAAA"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(forged)
        assert refused.value.code == 401
    finally:
        process.kill()
        process.wait()


def test_a_secret_is_changed_without_an_event_that_one_of_two_receivers_could_not_check(hooked):
    plant, receiver = hooked
    new = base64.b64encode(bytes(range(24, 48))).decode()
    plant.write("tokenworks.yaml", pathlib_text(plant).replace(f'secret: "whsec_{SECRET}"', f'secret: "whsec_{new}", old_secret: "whsec_{SECRET}"'))
    reload(plant, plant.operator_key())
    ask(plant, plant.key())
    receiver.wait(lambda: len(receiver.taken) == 2, "both thresholds")
    for headers, body in receiver.attempts:
        assert len(headers["webhook-signature"].split()) == 2
        for secret in (SECRET, new):                  # a receiver of the SDK's, with the old or with the new secret
            openai.OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret="whsec_" + secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            openai.OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret="whsec_" + base64.b64encode(b"x" * 24).decode())


def pathlib_text(plant):
    with open(plant.config) as file:
        return file.read()


def reload(plant, operator):
    request = urllib.request.Request(plant.admin + "/admin/v1/reload", b"{}", {"Authorization": "Bearer " + operator, "Content-Type": "application/json"},
                                     method="POST")
    assert urllib.request.urlopen(request, timeout=60).status == 200


@pytest.mark.parametrize("hook, says", [('{url: "https://a/", secret: ""}', "secret is empty"), ('{url: "https://a/"}', "has no secret"),
                                        ('{url: "file:///etc/passwd", secret: "x"}', "url is not")])
def test_a_webhook_that_could_not_be_trusted_is_refused_at_start(hook, says):
    plant = Plant(plant=PLANT + "webhooks:\n  w: " + hook.replace("{", "{{").replace("}", "}}") + "\n")
    done = subprocess.run([BIN, "check", "--config", plant.config], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    plant.close()
    assert done.returncode == 2 and says in done.stderr + done.stdout and "tokenworks.yaml:" in done.stderr + done.stdout
