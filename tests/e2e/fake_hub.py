"""A small stand-in for the Hugging Face Hub, for tests of `models pull`.

    with FakeHub({"config.json": b"{}", "model.safetensors": ...}, token="hf_x") as hub:
        hub.endpoint        # HF_ENDPOINT for the client
        hub.requests        # [(server, method, path, headers)], server "api" or "content"

Serves one repository `org/model` with one commit. Small files are answered directly (ETag: git blob hash); weights
(*.safetensors, *.gguf) by a redirect to a second server (another port, so another origin) as the real Hub does with its
content network. `cut_after` bytes breaks each of the first `cuts` content answers in the middle.
"""
import hashlib
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    def __init__(self, files, token=None, revisions=("main",), cuts=0, cut_after=0):
        self.files = dict(files)
        self.token = token
        self.revisions = set(revisions) | {COMMIT}
        self.cuts, self.cut_after = cuts, cut_after
        self.requests = []
        self.content = self._server("content", self._content)
        self.api = self._server("api", self._api)
        self.endpoint = f"http://127.0.0.1:{self.api.server_port}"

    def _server(self, name, answer):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.requests.append((name, self.command, self.path, dict(self.headers)))
                answer(self, unquote(urlsplit(self.path).path))

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

            def reply(self, status, headers, body=b""):
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if name == "content" and hub.cuts > 0 and len(body) > hub.cut_after:
                    hub.cuts -= 1
                    self.wfile.write(body[:hub.cut_after])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(1)
                    return
                self.wfile.write(body)

            def reply_file(self, data, headers):
                wanted = self.headers.get("Range", "")
                if wanted.startswith("bytes="):
                    start = int(wanted[6:].rstrip("-"))
                    if start >= len(data):
                        return self.reply(416, {"Content-Range": f"bytes */{len(data)}"})
                    headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                    return self.reply(206, headers, data[start:])
                self.reply(200, headers, data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def _content(self, request, path):
        for data in self.files.values():
            digest = hashlib.sha256(data).hexdigest()
            if path == "/" + digest:
                return request.reply_file(data, {"ETag": f'"{digest}"'})
        request.reply(404, {})

    def _api(self, request, path):
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return request.reply(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to org/model is restricted"})
        for revision in self.revisions:
            if path == f"/api/models/org/model/revision/{revision}":
                listing = {"sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
                return request.reply(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
            prefix = f"/org/model/resolve/{revision}/"
            if path.startswith(prefix) and path[len(prefix):] in self.files:
                name = path[len(prefix):]
                data = self.files[name]
                if name.endswith((".safetensors", ".gguf")):
                    digest = hashlib.sha256(data).hexdigest()
                    return request.reply(302, {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{digest}"',
                                               "X-Linked-Size": str(len(data)),
                                               "Location": f"http://127.0.0.1:{self.content.server_port}/{digest}"})
                return request.reply_file(data, {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash(data)}"'})
        request.reply(404, {"X-Error-Code": "EntryNotFound"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.shutdown()
        self.content.shutdown()


class Proxy:
    """An HTTP proxy that knows no network: plain requests for the hosts it was given go to ports of this machine, the
    redirects of a FakeHub to its content server are named after the first host, and tunnels are noted and refused.
    `urls`: what it was asked for."""

    def __init__(self, ports, content_port):
        proxy = self
        self.urls = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                proxy.urls.append(self.path)
                parts = urlsplit(self.path)
                port, path = ports.get(parts.hostname), parts.path
                if path.startswith("/content/"):
                    port, path = content_port, path[len("/content"):]
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "proxy-connection")}
                request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers, method=self.command)
                try:
                    answer = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request)
                except urllib.error.HTTPError as error:
                    answer = error
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    if key.lower() == "location":
                        value = value.replace(f"http://127.0.0.1:{content_port}", f"http://{parts.hostname}/content")
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(answer.read())

            do_HEAD = do_GET

            def do_CONNECT(self):
                proxy.urls.append(self.path)
                self.send_error(502)

            def log_message(self, *_):
                pass

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
