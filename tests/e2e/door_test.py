"""The door: private authorities, client certificates, names (SNI), bearer tokens, compressed bodies, expectations."""
import base64, gzip, json, pathlib, signal, socket, ssl, subprocess, time, urllib.error, urllib.request

import pytest

from plant import NAME, PLANT, TENANTS, Plant


def openssl(folder, *arguments, stdin=None):
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def certificate(folder, name, names, authority="ca"):
    openssl(folder, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=tests/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr")
    pathlib.Path(folder, name + ".ext").write_text("subjectAltName=" + names + "\n")
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", authority + ".crt", "-CAkey", authority + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", name + ".ext", "-out", name + ".crt")


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


class Issuer:
    """An identity provider: an RSA key, its published half, and tokens signed with the openssl command."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        openssl(folder, "genrsa", "-out", name + ".pem", "2048")
        modulus = openssl(folder, "rsa", "-in", name + ".pem", "-noout", "-modulus").decode().strip().split("=")[1]
        self.jwk = {"kty": "RSA", "use": "sig", "kid": name, "alg": "RS256", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}

    def token(self, header=None, **claims):
        body = {"iss": "https://id.example", "aud": "plant", "sub": "anna", "exp": int(time.time()) + 600, **claims}
        part = b64(header or {"alg": "RS256", "kid": self.name}) + "." + b64({k: v for k, v in body.items() if v is not None})
        signature = openssl(self.folder, "dgst", "-sha256", "-sign", self.name + ".pem", stdin=part.encode())
        return part + "." + b64(signature)


@pytest.fixture(scope="module")
def own():
    plant = Plant(plant=PLANT + "tls: {{certificate: server.crt, private_key: server.key, client_ca: ca.crt, client_certificate: optional, "
                  "certificates: [{{certificate: named.crt, private_key: named.key}}]}}\n",
                  tenants=TENANTS + 'identity:\n  - {issuer: "https://id.example", audience: plant, jwks: keys.json, refresh: 1s, '
                  'claim: teams, projects: {finders: acme/search, all: acme/default}}\n')
    openssl(plant.folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(plant.folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stranger", "-keyout", "stranger.key", "-out", "stranger.crt")
    certificate(plant.folder, "server", "DNS:plant.example,IP:127.0.0.1")
    certificate(plant.folder, "named", "DNS:other.example,DNS:*.wild.example")
    certificate(plant.folder, "client", "DNS:client.example")
    plant.issuer = Issuer(plant.folder, "first")
    plant.write("keys.json", json.dumps({"keys": [plant.issuer.jwk]}))
    with plant:
        plant.member = plant.key()
        plant.port = int(plant.api.rsplit(":", 1)[1])
        yield plant


def connect(plant, name=None, client=None):
    context = ssl.create_default_context(cafile=plant.folder + "/ca.crt")
    context.check_hostname = False
    if client:
        context.load_cert_chain(f"{plant.folder}/{client}.crt", f"{plant.folder}/{client}.key")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", plant.port), timeout=60), server_hostname=name)


def talk(plant, raw, stream=None):
    """One request over TLS: status, head and body."""
    with stream or connect(plant) as s:
        s.sendall(raw)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = s.recv(65536)
            if not piece:
                return None, data, b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += s.recv(65536)
    return int(head.split()[1]), head, body


def request(key, body, *headers, path="/v1/chat/completions"):
    lines = [f"POST {path} HTTP/1.1", "Host: plant.example", "Authorization: Bearer " + key, "Content-Type: application/json",
             f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chat(**more):
    return json.dumps({"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **more}).encode()


def ask(plant, key, path="/v1/chat/completions"):
    status, _, body = talk(plant, request(key, chat(), path=path))
    return status, json.loads(body)


def test_chat_trusts_the_authority_it_is_told_to_and_passes_on_the_temperature(own):
    environment = {**own.env, "TOKENWORKS_API_KEY": own.member}
    import plant as module
    run = lambda *more, **env: subprocess.run([module.BIN, "chat", "--url", own.api, "--max-tokens", "2", "hello", *more], capture_output=True, text=True,
                                              env={**environment, **env}, timeout=120)
    refused = run()
    assert refused.returncode == 3 and "--cacert" in refused.stderr, refused
    trusted = run("--cacert", own.folder + "/ca.crt")
    assert trusted.returncode == 0 and "tokens in" in trusted.stderr, trusted
    assert run(SSL_CERT_FILE=own.folder + "/ca.crt").returncode == 0
    assert run("--cacert", own.folder + "/none.crt").returncode == 3
    likeliest = [run("--cacert", own.folder + "/ca.crt", "--temperature", "0").stdout for _ in range(2)]
    assert likeliest[0] == likeliest[1] != "", likeliest
    hot = run("--cacert", own.folder + "/ca.crt", "--temperature", "9")
    assert hot.returncode != 0 and "temperature" in hot.stderr, hot


def test_the_certificate_is_the_one_made_out_to_the_name_asked_for(own):
    def shown(name):
        with connect(own, name) as s:
            return dict(pair[0] for pair in s.getpeercert()["subject"])["commonName"]
    assert [shown(n) for n in ("plant.example", "other.example", "a.wild.example", "nobody.example", None)] == ["server", "named", "named", "server", "server"]


def test_a_client_certificate_is_checked_when_it_is_shown_and_named_in_the_log(own):
    assert talk(own, request(own.member, chat()))[0] == 200
    for name in (None, "other.example"):
        assert talk(own, request(own.member, chat()), connect(own, name, "client"))[0] == 200
    assert any('"peer":"CN=client,O=tests"' in line for line in own.log_text().splitlines())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        stranger = connect(own, None, "stranger")
        stranger.sendall(request(own.member, chat()))
        if not stranger.recv(1):
            raise ConnectionError
    assert talk(own, request("sk-tw-none", chat()), connect(own, None, "client"))[0] == 401, "a certificate opens the door, no more"


def test_a_reload_can_make_client_certificates_mandatory(own):
    file = pathlib.Path(own.config)
    text = file.read_text()
    file.write_text(text.replace("client_certificate: optional", "client_certificate: required"))

    def admitted(client):
        try:
            return talk(own, request(own.member, chat()), connect(own, None, client))[0] == 200
        except (ssl.SSLError, ConnectionError):
            return False
    own.send(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while admitted(None) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not admitted(None) and admitted("client") and not admitted("stranger")
    file.write_text(text)
    own.send(signal.SIGHUP)
    while not admitted(None) and time.monotonic() < deadline + 60:
        time.sleep(0.1)
    assert admitted(None)


def test_bearer_tokens_work_for_the_project_their_claim_names(own):
    status, answer = ask(own, own.issuer.token(teams=["finders", "all"]))
    assert status == 200, answer
    entries = own.entries(answer["usage"]["tokenworks"]["request_id"])
    assert entries[-1]["project"] == "acme/search" and entries[-1]["key_id"].startswith("jwt-") and "anna" not in json.dumps(entries)
    status, answer = ask(own, own.issuer.token(teams="all"))
    assert status == 200 and own.entries(answer["usage"]["tokenworks"]["request_id"])[-1]["project"] == "acme/default"
    assert any(r["project"] == "acme/search" for r in own.usage()) and own.verify()["ok"]
    assert "anna" not in own.log_text()


def test_bearer_tokens_that_are_not_good_are_refused_with_the_reason(own):
    good = own.issuer.token(teams="all")
    head, body, signature = good.split(".")
    stranger = Issuer(own.folder, "stranger2")
    for token, word in ((own.issuer.token(teams="all", exp=int(time.time()) - 120), "expired"),
                        (own.issuer.token(teams="all", nbf=int(time.time()) + 300), "not valid yet"),
                        (own.issuer.token(teams="all", aud="shop"), "audience"),
                        (own.issuer.token(teams="all", iss="https://evil.example"), "issuer"),
                        (own.issuer.token(teams="all", exp=None), "never expires"),
                        (own.issuer.token({"alg": "RS256", "kid": "unknown"}, teams="all"), "does not publish"),
                        (stranger.token({"alg": "RS256", "kid": "first"}, teams="all"), "not signed by"),
                        (head + "." + b64({"iss": "https://id.example", "aud": "plant", "sub": "eve", "teams": "all", "exp": 9999999999}) + "." + signature, "not signed by"),
                        (b64({"alg": "none"}) + "." + body + ".", "signed in a way"),
                        (b64({"alg": "HS256"}) + "." + body + "." + signature, "signed in a way")):
        status, answer = ask(own, token)
        assert status == 401 and answer["error"]["code"] == "invalid_api_key" and word in answer["error"]["message"], (word, answer)
        assert token not in json.dumps(answer)
    status, answer = ask(own, own.issuer.token(teams="cooks"))
    assert status == 403 and answer["error"]["code"] == "insufficient_permissions", answer
    status, _, answer = talk(own, request(good, b"", path="/v1/organization/costs").replace(b"POST", b"GET", 1))
    assert status == 403, "a token is a member's, never an operator's"


def test_a_key_that_the_issuer_rotates_in_is_taken_without_a_reload(own):
    second = Issuer(own.folder, "second")
    token = second.token(teams="all")
    assert ask(own, token)[0] == 401
    own.write("keys.json", json.dumps({"keys": [own.issuer.jwk, second.jwk]}))
    deadline = time.monotonic() + 60
    while ask(own, token)[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ask(own, token)[0] == 200 and ask(own, own.issuer.token(teams="all"))[0] == 200


def test_a_broken_key_file_is_found_by_check_and_refused_by_a_reload(own):
    good = pathlib.Path(own.folder, "keys.json").read_text()
    own.write("keys.json", '{"keys": []}')
    done = own.cli("check", "--config", own.config, check=False)
    own.write("keys.json", good)
    assert done.returncode == 2 and "holds no key that signatures can be checked with" in done.stderr and "https://id.example" in done.stderr


def test_compressed_bodies_are_read_and_bounded_and_other_codings_are_415(own):
    body = chat()
    assert talk(own, request(own.member, gzip.compress(body), "Content-Encoding: gzip"))[0] == 200
    assert talk(own, request(own.member, gzip.compress(body[:9]) + gzip.compress(body[9:]), "Content-Encoding: gzip"))[0] == 200   # two members
    bomb = gzip.compress(b" " * (11 << 20) + body)
    status, _, answer = talk(own, request(own.member, bomb, "Content-Encoding: gzip"))
    assert len(bomb) < 64 << 10 and status == 413 and json.loads(answer)["error"]["code"] == "body_too_large"
    for coding in ("br", "zstd", "deflate", "gzip, gzip"):
        status, _, answer = talk(own, request(own.member, body, "Content-Encoding: " + coding))
        assert status == 415 and json.loads(answer)["error"]["code"] == "unsupported_media_type", coding
    for broken in (b"no gzip", gzip.compress(body)[:-6], gzip.compress(body) + b"rest"):
        status, _, answer = talk(own, request(own.member, broken, "Content-Encoding: gzip"))
        assert status == 400 and "gzip" in json.loads(answer)["error"]["message"]


def test_long_heads_are_431_expectations_are_met_and_pipelined_requests_keep_their_order(own):
    status, _, answer = talk(own, request(own.member, chat(), "X-Long: " + "x" * (70 << 10)))
    assert status == 431 and json.loads(answer)["error"]["code"] == "headers_too_large"
    raw = request(own.member, chat(), "Expect: 100-continue")
    head, _, body = raw.partition(b"\r\n\r\n")
    with connect(own) as s:
        s.sendall(head + b"\r\n\r\n")
        assert s.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert talk(own, request(own.member, chat(), "Expect: 200-maybe"))[0] == 417
    with connect(own) as s:                          # refused before the body is sent
        s.sendall(head.replace(own.member.encode(), b"sk-tw-none") + b"\r\n\r\n")
        assert s.recv(65536).startswith(b"HTTP/1.1 401 ")
    get = f"GET /v1/models/{NAME} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {own.member}\r\n\r\n".encode()
    missing = get.replace(NAME.encode(), b"nowhere")
    with connect(own) as s:
        s.sendall(get + missing + request(own.member, chat()) + get.replace(b"Host: h", b"Host: h\r\nConnection: close"))
        data = b""
        while piece := s.recv(65536):
            data += piece
    assert [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200, 200]
