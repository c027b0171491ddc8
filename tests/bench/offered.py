"""Load on a daemon from one cheap process: streams of several tenants, at a rate that does not care for the answers (`rate`), or
from clients that ask again when they have theirs (`clients`). Reads a JSON description on stdin, writes one record a request:
name, sent, ttft, end (seconds; null: never), prompt, tokens, marks (when tokens came), status, retry_ms, attempt, whole, lag (how late we were ourselves).
Called by fairness.py."""
import asyncio, json, os, random, re, sys, time

WORDS = ("river stone lantern market winter garden copper engine violet harbor meadow signal paper castle thunder orchard velvet "
         "compass feather bridge candle marble forest sailor window pepper blanket mirror ladder pocket basket hammer anchor").split()
records, begin, until = [], 0.0, 0.0


def now():
    return time.monotonic() - begin


class Source:
    """Requests of one kind: name, key, prompt_words, out, timeout (seconds, 0: none), obeys (waits as Retry-After says)."""

    def __init__(self, target, spec, seed):
        self.target, self.spec, self.random = target, spec, random.Random(seed)
        self.pool = [self.random.choice(WORDS) for _ in range(20_000)]

    def body(self):
        low, high = self.spec["prompt_words"]
        at, count = self.random.randrange(10_000), self.random.randint(low, high)
        prompt = f"{self.random.randrange(10**9)} " + " ".join(self.pool[at:at + count])
        text = json.dumps({"model": self.target["model"], "prompt": prompt, "max_tokens": self.spec["out"], "temperature": 0, "stream": True,
                           "ignore_eos": True, "stream_options": {"include_usage": True}}).encode()
        timeout = f"x-request-timeout: {self.spec['timeout']}\r\n" if self.spec.get("timeout") else ""
        return (f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.spec['key']}\r\ncontent-type: application/json\r\n"
                f"{timeout}connection: close\r\ncontent-length: {len(text)}\r\n\r\n").encode() + text

    async def ask(self, body, attempt, due=None):
        record = {"name": self.spec["name"], "sent": now(), "ttft": None, "end": None, "tokens": 0, "marks": [], "status": 0, "retry_ms": None,
                  "attempt": attempt, "whole": False, "prompt": 0, "lag": 0.0 if due is None else now() - due}
        records.append(record)
        writer, head, tail = None, b"", b""
        try:
            reader, writer = await asyncio.open_connection(self.target["host"], self.target["port"], limit=1 << 18)
            writer.write(body)
            while data := await reader.read(1 << 16):
                if not record["status"]:
                    head += data
                    if b"\r\n\r\n" not in head:
                        continue
                    record["status"] = int(head[9:12])
                    for line in head.split(b"\r\n\r\n")[0].lower().split(b"\r\n"):
                        if line.startswith(b"retry-after-ms:"):
                            record["retry_ms"] = int(line[15:])
                    data = head.split(b"\r\n\r\n", 1)[1]
                if record["status"] == 200 and (tokens := data.count(b'"finish_reason":null')):
                    record["ttft"] = record["ttft"] or now() - record["sent"]
                    record["tokens"] += tokens
                    record["marks"].append([round(now(), 3), tokens])
                tail = (tail + data)[-600:]
            record["whole"] = record["status"] == 200 and b"[DONE]" in tail and b'"error"' not in tail
            if usage := re.search(rb'"prompt_tokens":(\d+)', tail):
                record["prompt"] = int(usage[1])
            record["end"] = now()
        except OSError:
            pass
        finally:
            if writer is not None:
                writer.close()
        return record

    async def at_a_rate(self):
        """Open loop: the times are drawn before, and kept."""
        tasks, due = [], 0.0
        while (due := due + self.random.expovariate(self.spec["rate"])) < until:
            await asyncio.sleep(max(0.0, due - now()))
            tasks.append(asyncio.create_task(self.ask(self.body(), 1, due)))
        await asyncio.gather(*tasks)

    async def in_turn(self, delay):
        await asyncio.sleep(delay)
        while now() < until:
            body, attempt = self.body(), 1
            while now() < until:
                record = await self.ask(body, attempt)
                if record["status"] == 200:
                    break
                attempt += 1
                await asyncio.sleep((record["retry_ms"] or 200) / 1000 if self.spec.get("obeys") else 0.2)


async def main():
    global begin, until
    target = json.load(sys.stdin)
    os.nice(target.get("nice", 0))
    begin, until = time.monotonic(), target["seconds"]
    tasks = []
    for i, spec in enumerate(target["sources"]):
        source = Source(target, spec, 1000 * target.get("seed", 0) + i)
        if "rate" in spec:
            tasks.append(asyncio.create_task(source.at_a_rate()))
        else:
            tasks += [asyncio.create_task(source.in_turn(n * spec.get("spread", 0.01))) for n in range(spec["clients"])]
    done, late = await asyncio.wait(tasks, timeout=until + target.get("patience", 10))
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    json.dump(records, sys.stdout)


asyncio.run(main())
