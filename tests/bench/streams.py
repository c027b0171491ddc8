"""Streaming completions against either side, timed token by token. Prompts never repeat in a run unless asked to."""
import http.client, itertools, json, random, subprocess, sys, threading, time, urllib.parse

from servers import NAME

WORDS = ("river stone lantern market winter garden copper engine violet harbor meadow signal paper castle thunder orchard velvet compass feather "
         "bridge candle marble forest sailor window pepper blanket mirror ladder pocket basket hammer anchor puzzle ticket saddle turtle carpet "
         "button rocket wagon kettle").split()
seeds = itertools.count(1)


def words(count):
    rng = random.Random(next(seeds))
    return " ".join(rng.choice(WORDS) for _ in range(count))


class Stream:
    """One request. After run(): ttft_s, gaps_s, tokens (chunks), usage, error. `stop` (an Event) hangs up early."""

    def __init__(self, server, prompt, out, key=None, stop=None, model=NAME):
        self.server, self.prompt, self.out, self.key, self.stop, self.model = server, prompt, out, key or server.key, stop, model
        self.ttft_s, self.gaps_s, self.marks, self.usage, self.error = None, [], [], None, None

    def run(self):
        url = urllib.parse.urlparse(self.server.url)
        body = {"model": self.model, "prompt": self.prompt, "max_tokens": self.out, "temperature": 0, "stream": True, "ignore_eos": True,
                "stream_options": {"include_usage": True}, "cache_prompt": False}
        headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + self.key} if self.key else {})
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
        begin = last = time.perf_counter()
        try:
            connection.request("POST", url.path + "/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                self.error = f"{response.status} {response.read(300)!r}"
                return self
            for raw in response:
                if self.stop is not None and self.stop.is_set():
                    break
                if not raw.startswith(b"data:") or raw[5:].strip() == b"[DONE]":
                    continue
                event = json.loads(raw[5:])
                self.usage = event.get("usage") or self.usage
                if event.get("choices"):
                    now = time.perf_counter()
                    if self.ttft_s is None:
                        self.ttft_s = now - begin
                    else:
                        self.gaps_s.append(now - last)
                    self.marks.append(now)
                    last = now
        except OSError as e:
            self.error = repr(e)
        finally:
            connection.close()
        return self


def load(options, server, clients, prompt_words=96, out=64, seconds=None, model=NAME):
    """The load generator beside the peer's start script, on prompts that no earlier run has sent."""
    command = [sys.executable, str(options.peers / "load.py"), "--url", server.url, "--model", model, "--clients", str(clients), "--prompt-words",
               str(prompt_words), "--out", str(out), "--seconds", str(seconds or options.seconds), "--seed", str(next(seeds))]
    done = subprocess.run(command + (["--key", server.key] if server.key else []), stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["errors"] == 0, result
    return result


def throughput_until(server, clients, seconds, prompt_words=96, out=64):
    """Output tokens per second over a window that ends by hanging up: for a side that may take minutes for one answer."""
    stop, streams, lock = threading.Event(), [], threading.Lock()

    def client():
        while not stop.is_set():
            stream = Stream(server, "Write about these things: " + words(prompt_words), out, stop=stop)
            with lock:
                streams.append(stream)
            stream.run()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    end = time.perf_counter()
    stop.set()
    marks = sum(sum(m <= end for m in list(s.marks)) for s in list(streams))
    return marks / (end - begin)


class Busy:
    """One more runnable process on the machine for as long as it is open."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
