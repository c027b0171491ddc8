"""A hundred random bad requests per endpoint: a clear 4xx each, and the daemon lives."""
import json, os, random, socket, urllib.parse

ENDPOINTS = ["/v1/chat/completions", "/v1/completions"]
GOOD = {"/v1/chat/completions": {"model": "default", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
        "/v1/completions": {"model": "default", "prompt": "hi", "max_tokens": 1}}


def exchange(plant, raw, base=None):
    url = urllib.parse.urlparse(base or plant.api)
    with socket.create_connection((url.hostname, url.port), timeout=30) as s:
        s.sendall(raw)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = s.recv(65536)
            if not piece:
                break
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(rest) < length:
            piece = s.recv(65536)
            if not piece:
                break
            rest += piece
    status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else None
    return status, head, rest


def post(path, key, body, headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Authorization: Bearer " + key, *headers]
    if not any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers):
        lines.append(f"Content-Length: {len(body)}")
    if not any(h.lower().startswith("content-type") for h in headers):
        lines.append("Content-Type: application/json")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def bad_requests(path, key, rng):
    wrong = [None, True, -1, 1e400, 1.5, "x", [], {}, [[]], "\x00", 10**30, [None], {"a": 1}, "\ud800", -(2**63), ["a"] * 50]
    fields = ["max_tokens", "temperature", "top_p", "n", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stream",
              "top_logprobs", "logprobs", "response_format", "stream_options", "top_k", "min_p", "model", "messages", "prompt", "tools"]
    legal = {"max_tokens": (type(None),), "stop": (type(None), str), "n": (type(None),)}
    for i in range(60):
        body = dict(GOOD[path])
        field = rng.choice(["messages", "model", "temperature", "top_p", "n", "presence_penalty", "logit_bias", "stream"])
        field = "prompt" if field == "messages" and path.endswith("/completions") and "chat" not in path else field
        value = rng.choice([v for v in [-7, "x\x00", {"a": {"b": 1}}, 10**30, [None], [[[]]], -0.5, 99] if not (field == "model" and False)])
        if field in ("temperature", "top_p", "presence_penalty", "n") and value in (-0.5,):
            value = -7
        if field == "logit_bias" and isinstance(value, dict):
            value = {"token": "x"}
        if field == "prompt" and isinstance(value, str):
            value = {"no": "text"}
        body[field] = value
        yield post(path, key, json.dumps(body).encode())
    yield post(path, key, b"")
    yield post(path, key, b"{")
    yield post(path, key, b"[1,2,3]")
    yield post(path, key, b"[" * 100_000)
    yield post(path, key, b'{"model": "default", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}")
    yield post(path, key, b"\xff\xfe\x00{")
    yield post(path, key, json.dumps(GOOD[path]).encode().replace(b"hi", b"h\xffi"))
    yield post(path, key, b"x" * 100, ["Content-Type: text/plain"])
    yield post(path, key, b"", ["Content-Length: 99999999999"])
    yield post(path, key, b"", ["Content-Length: -1"])
    yield post(path, key, b"abc", ["Content-Length: 3", "Content-Length: 4"])
    yield post(path, key, b"0\r\n\r\n", ["Content-Length: 5", "Transfer-Encoding: chunked"])
    yield post(path, key, b"zz\r\n", ["Transfer-Encoding: chunked"])
    yield post(path, key, b"hello", ["Content-Encoding: gzip"])
    yield post(path, key, b"hello", ["Content-Encoding: snappy"])
    yield ("GET " + path + " HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer " + key + "\r\n\r\n").encode()
    yield ("BREW " + path + " HTTP/1.1\r\nHost: t\r\n\r\n").encode()
    yield ("POST " + path + " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").encode()
    yield ("POST " + path + " HTTP/1.1\r\nHost: t\r\nX: " + "y" * 80_000 + "\r\n\r\n").encode()
    yield ("POST " + path + " HTTP/9.9\r\nHost: t\r\n\r\n").encode()
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200)
    for _ in range(25):
        yield os.urandom(rng.randint(10, 400)).replace(b"\n", b"x") + b"\r\n\r\n"


def test_a_hundred_bad_requests_per_endpoint(plant, key, client):
    seed = int(os.environ.get("TOKENWORKS_SEED", random.SystemRandom().randint(0, 1 << 30)))
    print("seed", seed)
    rng = random.Random(seed)
    for path in ENDPOINTS:
        count = 0
        for raw in bad_requests(path, key, rng):
            status, head, body = exchange(plant, raw)
            assert status is not None and 400 <= status < 500 or status == 505, (seed, raw[:300], head[:200], body[:200])
            if head and b"application/json" in head:
                error = json.loads(body)["error"]
                assert set(error) >= {"message", "type", "param", "code"} and error["message"], (seed, raw[:200])
            count += 1
        assert count >= 100
    assert plant.process.poll() is None
    assert client.chat.completions.create(model="default", messages=[{"role": "user", "content": "hi"}], max_tokens=1).usage.completion_tokens == 1


def test_a_hundred_bad_requests_per_route_without_a_body(plant, key):
    seed = int(os.environ.get("TOKENWORKS_SEED", random.SystemRandom().randint(0, 1 << 30)))
    print("seed", seed)
    rng = random.Random(seed)
    auth = f"Authorization: Bearer {key}\r\n"
    for path in ("/v1/models", "/v1/models/default", "/v1/organization/usage/completions", "/v1/organization/costs"):
        for i in range(100):
            noise = "".join(rng.choice("abcxyz%0189~") for _ in range(rng.randint(1, 30)))
            raw = rng.choice([
                f"GET {path} HTTP/1.1\r\n{auth}\r\n",                                     # no Host
                f"GET {path} HTTP/1.1\r\nHost: t\r\nHost: u\r\n{auth}\r\n",
                f"GET {path} HTTP/1.1\r\nHost: t\r\n{auth}Content-Length: {noise}x\r\n\r\n",
                f"GET {path} HTTP/1.1\r\nHost: t\r\n{auth}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                f"GET {path} HTTP/1.1\r\nHost: t\r\n{auth}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                f"GET {path} HTTP/1.1\r\nHost: t\r\nX: {'y' * 80_000}\r\n\r\n",
                f"GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {noise}\r\n\r\n",
                f"POST {path} HTTP/1.1\r\nHost: t\r\n{auth}Content-Length: 0\r\n\r\n",
                f"GET {path}/{noise.replace('%', '')}q HTTP/1.1\r\nHost: t\r\n{auth}\r\n"]).encode()
            status, head, body = exchange(plant, raw)
            assert status is not None and 400 <= status < 500, (seed, raw[:200], head[:200])
    assert plant.process.poll() is None


ADMIN = [("POST", "/admin/v1/keys"), ("GET", "/admin/v1/keys"), ("POST", "/admin/v1/keys/abcd1234/rotate"), ("DELETE", "/admin/v1/keys/abcd1234"),
         ("POST", "/admin/v1/reload"), ("GET", "/admin/v1/audit_events"), ("GET", "/admin/v1/requests/req_1/entries"),
         ("POST", "/admin/v1/ledger/verify"), ("POST", "/admin/v1/ledger/backup"), ("POST", "/admin/v1/ledger/erase"), ("GET", "/admin/v1/models"),
         ("POST", "/admin/v1/models"), ("POST", "/admin/v1/models/none/replace"), ("DELETE", "/admin/v1/models/none"), ("POST", "/admin/v1/aliases"),
         ("DELETE", "/admin/v1/aliases/none"), ("GET", "/v1/organization/usage/completions"),
         ("GET", "/v1/organization/costs"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/health"), ("GET", "/metrics")]


def test_a_hundred_bad_requests_per_admin_route(plant, key):
    seed = int(os.environ.get("TOKENWORKS_SEED", random.SystemRandom().randint(0, 1 << 30)))
    print("seed", seed)
    rng = random.Random(seed)
    operator = plant.operator_key()
    good = f"Authorization: Bearer {operator}\r\n"
    before = plant.cli("keys", "list", "--config", plant.config, "--json").stdout
    for method, path in ADMIN:
        is_open = not path.startswith(("/admin", "/v1"))
        for _ in range(100):
            noise = "".join(rng.choice("abcxyz0189~") for _ in range(rng.randint(1, 30)))
            raw = [
                f"{method} {path} HTTP/1.1\r\n{good}\r\n",                                     # no Host
                f"{method} {path} HTTP/1.1\r\nHost: t\r\nHost: u\r\n{good}\r\n",
                f"{method} {path} HTTP/1.1\r\nHost: t\r\n{good}Content-Length: {noise}x\r\n\r\n",
                f"{method} {path} HTTP/1.1\r\nHost: t\r\n{good}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                f"{method} {path} HTTP/1.1\r\nHost: t\r\n{good}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                f"{method} {path} HTTP/1.1\r\nHost: t\r\nX: {'y' * 80_000}\r\n\r\n",
                f"PATCH {path} HTTP/1.1\r\nHost: t\r\n{good}Content-Length: 0\r\n\r\n",
                f"{method} {path}/{noise}q HTTP/1.1\r\nHost: t\r\n{good}Content-Length: 0\r\n\r\n"]
            if not is_open:                          # nobody, somebody unknown, and a tenant's key
                raw += [f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n",
                        f"{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {noise}\r\nContent-Length: 0\r\n\r\n",
                        f"{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"]
            raw = rng.choice(raw).encode()
            status, head, body = exchange(plant, raw, plant.admin)
            assert status is not None and 400 <= status < 500, (seed, raw[:200], head[:200])
            if b"application/json" in head:
                assert json.loads(body)["error"]["message"], (seed, raw[:200], body)
    assert plant.process.poll() is None
    assert plant.cli("keys", "list", "--config", plant.config, "--json").stdout == before


def test_bad_bodies_and_queries_of_admin_routes_name_what_is_wrong(plant):
    operator = plant.operator_key()
    junk = [b"{", b"[]", b"[" * 50_000, b"\xff\xfe", b"7", b'"x"', b'{"grace": 7}', b'{"grace": "never"}', b'{"grace": "-1h"}', b'{"path": 7}', b'{"path": "relative"}',
            b'{"organization": 7}', b'{"organization": "nobody"}', b'{"organization": "acme", "project": "nothing"}', b'{"organization": "acme", "role": "king"}',
            b'{"organization": "acme", "models": "x"}', b'{"organization": "acme", "models": ["nothing"]}', b'{"organization": "acme", "expires": "yesterday"}',
            b'{"organization": "acme", "expires": "-3d"}', b'{"organization": "acme", "role": "operator"}', b'{"organization": "acme", "principal": "nonsense"}',
            b'{"organization": "acme", "expires": "99999999999999999999d"}', b'{"organization": "acme", "principal": "' + b"x" * 100_000 + b'"}']
    for path, skip in (("/admin/v1/keys", ()), ("/admin/v1/keys/abcd1234/rotate", ()), ("/admin/v1/ledger/backup", ())):
        for body in junk:
            status, head, answer = exchange(plant, post(path, operator, body), plant.admin)
            assert status in (400, 404), (path, body[:80], status, answer[:200])
            assert json.loads(answer)["error"]["message"], (path, body[:80])
    for path in ("/admin/v1/audit_events?limit=x", "/admin/v1/audit_events?limit=-1", "/v1/organization/costs?start_time=x", "/v1/organization/usage/completions?limit=-1",
                 "/v1/organization/usage/completions?bucket_width=1y", "/v1/organization/usage/completions?start_time=99999999999999999999",
                 "/v1/organization/usage/completions?group_by=colour", "/admin/v1/requests/req_zz/entries", "/admin/v1/requests/req_" + "0" * 32 + "/entries"):
        raw = f"GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {operator}\r\n\r\n".encode()
        status, head, answer = exchange(plant, raw, plant.admin)
        assert status in (400, 404), (path, status, answer[:200])
        assert json.loads(answer)["error"]["message"]
    assert plant.process.poll() is None
