"""Bearer tokens whose keys come from a URL: asked while serving, again for a key that is new, and survived when it is down, slow or
far too large."""
import http.server, json, threading, time

import pytest

from door_test import Issuer
from front_test import eventually, post
from plant import NAME, TENANTS, Plant


class Provider:
    """An identity provider's key endpoint, told how to behave."""

    def __init__(self):
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked += 1
                if provider.mode == "down":
                    return self.send_error(503)
                if provider.mode == "slow":
                    provider.released.wait(120)
                    return
                body = json.dumps({"keys": provider.keys, "more": "x" * (2 << 20 if provider.mode == "large" else 0)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass                             # who asked has read enough

            def log_message(self, *_):
                pass
        self.keys, self.mode, self.asked, self.released = [], "good", 0, threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def own():
    provider = Provider()
    plant = Plant(context=256, kv="64MiB", tenants=TENANTS + 'identity:\n  - {issuer: "https://id.example", audience: plant, refresh: 1s, '
                  f'jwks: "http://127.0.0.1:{provider.server.server_address[1]}/keys", claim: teams, projects: {{all: acme/default}}}}\n')
    plant.provider, plant.first = provider, Issuer(plant.folder, "first")
    provider.keys, provider.mode = [plant.first.jwk], "down"
    with plant:
        yield plant
    provider.close()


def status(own, token):
    return post(own, token, "/v1/chat/completions", {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})[0]


def test_a_plant_starts_while_its_provider_is_down_and_takes_tokens_once_it_answers(own):
    token = own.first.token(teams="all")
    assert status(own, token) == 401
    assert status(own, own.key()) == 200, "keys do not need a provider"
    own.provider.mode = "good"
    assert eventually(lambda: status(own, token) == 200)


def test_a_new_key_is_fetched_and_an_old_one_ends(own):
    second = Issuer(own.folder, "second")
    token, old = second.token(teams="all"), own.first.token(teams="all")
    assert status(own, token) == 401
    own.provider.keys = [second.jwk]
    assert eventually(lambda: status(own, token) == 200)
    assert eventually(lambda: status(own, old) == 401), "what is published no more opens nothing"
    own.provider.keys = [own.first.jwk, second.jwk]
    assert eventually(lambda: status(own, old) == 200)


@pytest.mark.parametrize("mode", ["down", "large", "slow"])
def test_a_provider_that_misbehaves_takes_nothing_away_and_holds_nobody_up(own, mode):
    token = own.first.token(teams="all")
    assert eventually(lambda: status(own, token) == 200)
    third, before = Issuer(own.folder, "third" + mode), own.provider.asked
    own.provider.keys.append(third.jwk)
    own.provider.mode = mode
    assert eventually(lambda: own.provider.asked >= before + 2 or mode == "slow" and own.provider.asked > before)
    assert status(own, token) == 200, "the keys that are known go on"
    stranger = third.token(teams="all")
    begin = time.monotonic()
    answered = status(own, stranger)
    print(f"{mode}: {answered} after {time.monotonic() - begin:.3f} s")
    assert answered == 401
    assert own.metrics()["process_resident_memory_bytes"] < 1 << 30
    own.provider.mode = "good"
    own.provider.released.set()
    assert eventually(lambda: status(own, stranger) == 200), "and it is asked again"
    own.provider.released.clear()
