"""What a plant does when its device fails while requests run: a card that is gone, memory that cannot be had, logits without a
number. The failures are planted into the daemon's steps (TOKENWORKS_TEST_FAULT, src/app/planted_fault.hpp); the rest is real."""
import json, threading, urllib.error, urllib.request

import pytest

from plant import NAME, Plant

LOST = 70                                                 # the exit code that asks for a restart


class Answer(threading.Thread):
    """A stream read to its end, whatever that is."""

    def __init__(self, plant, key, text, tokens=400):
        super().__init__(daemon=True)
        body = {"model": NAME, "prompt": text, "max_tokens": tokens, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        self.request = urllib.request.Request(plant.api + "/v1/completions", json.dumps(body).encode(),
                                              {"authorization": "Bearer " + key, "content-type": "application/json"})
        self.id, self.status, self.events, self.done = None, 0, [], False
        self.start()

    def run(self):
        try:
            with urllib.request.urlopen(self.request, timeout=120) as answer:
                self.id, self.status = answer.headers["x-request-id"], answer.status
                for line in answer:
                    if line.strip() == b"data: [DONE]":
                        self.done = True
                    elif line.startswith(b"data: "):
                        self.events.append(json.loads(line[6:]))
        except urllib.error.HTTPError as e:
            self.id, self.status = e.headers["x-request-id"], e.code
            self.events.append(json.loads(e.read()))

    def wait(self):
        self.join(120)
        assert not self.is_alive(), "the stream never ended"
        return self

    def pieces(self):
        return sum(1 for e in self.events if e.get("choices") and e["choices"][0].get("text"))

    def errors(self):
        return [e["error"] for e in self.events if "error" in e]

    def used(self):
        return [e["usage"]["completion_tokens"] for e in self.events if e.get("usage")]


@pytest.mark.parametrize("fault", ["lost:40", "memory:40"])
def test_a_device_that_fails_ends_every_request_in_order_and_the_process_with_70(fault):
    with Plant(progress="step", env={"TOKENWORKS_TEST_FAULT": fault}) as plant:
        assert plant.readiness() == 200
        acme, beta = plant.key(), plant.key(organization="beta")
        answers = [Answer(plant, acme, "One"), Answer(plant, acme, "Two"), Answer(plant, beta, "Three")]
        for a in answers:
            a.wait()
        assert plant.readiness() in (503, 0)       # nothing new is sent here, from the moment clients are told
        assert plant.process.wait(120) == LOST            # no orderly end would be 0
        assert plant.readiness() == 0
        log = plant.log_text()
        assert "engine_failed" in log and "device_lost" in log and '"stopped"' in log

        plant.env.pop("TOKENWORKS_TEST_FAULT")
        plant.start()                                     # a supervisor does this
        for a in answers:
            entries = plant.entries(a.id)
            assert [e["type"] for e in entries] == ["hold", "settle"], entries
            assert entries[0]["writer_id"] == entries[1]["writer_id"], entries       # by the plant that failed, not by recovery
            assert entries[1]["finish_reason"] == "failed", entries
            assert a.errors() and a.errors()[0]["code"] == "engine_failed", a.events
            assert a.pieces() <= entries[1]["output_tokens"] < 40, entries           # a piece holds a token at least
        assert sum(plant.entries(a.id)[1]["output_tokens"] for a in answers) > 39    # the steps before the one that failed
        again = Answer(plant, acme, "Four", tokens=5).wait()
        assert again.status == 200 and again.used() == [5] and again.done and not again.errors()
        assert plant.verify()["ok"] is True


def test_a_row_without_a_number_ends_its_own_request_and_many_in_a_row_the_process():
    with Plant(progress="step", env={"TOKENWORKS_TEST_FAULT": "nan:20"}) as plant:
        key = plant.key()
        bad = Answer(plant, key, "One").wait()            # alone in its step
        assert bad.errors()[0]["code"] == "engine_failed" and not bad.used()
        entries = plant.entries(bad.id)
        assert [e["type"] for e in entries] == ["hold", "settle"] and entries[-1]["output_tokens"] == 19, entries
        assert plant.readiness() == 200                   # one request never takes the others with it
        good = Answer(plant, key, "Two", tokens=30).wait()
        assert good.used() == [30] and good.done and not good.errors()
        assert plant.stop() == 0

        plant.env["TOKENWORKS_TEST_FAULT"] = "nans:1"
        plant.start()
        bad = []
        for i in range(8):
            assert plant.process.poll() is None
            bad.append(Answer(plant, key, f"A prompt, number {i}").wait())
        assert plant.process.wait(120) == LOST
        plant.env.pop("TOKENWORKS_TEST_FAULT")
        plant.start()
        for b in bad:
            assert b.errors()[0]["code"] == "engine_failed"
            assert plant.entries(b.id)[-1]["output_tokens"] == 0
        assert plant.verify()["ok"] is True
