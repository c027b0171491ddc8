"""Clients that leave, crowd or trickle: nothing leaks, and what was generated is billed."""
import http.client, json, socket, threading, time, urllib.parse

from plant import NAME, Plant


def body(max_tokens=400, **more):
    return json.dumps({"model": NAME, "stream": True, "max_tokens": max_tokens, "ignore_eos": True,
                       "messages": [{"role": "user", "content": "Tell a long story about a river."}], **more})


def read_one_chunk_and_vanish(plant, key, ids):
    url = urllib.parse.urlparse(plant.api)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    connection.request("POST", "/v1/chat/completions", body(), {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    ids.append(response.headers["x-request-id"])
    response.readline()
    connection.sock.shutdown(socket.SHUT_RDWR) if connection.sock else None
    response.close()
    connection.close()


def settled(plant, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        m = plant.metrics()
        if m["tokenworks_holds_open"] == 0 and all(v == 0 for k, v in m.items() if k.startswith("tokenworks_sequences_")):
            return m
        time.sleep(0.1)
    raise AssertionError({k: v for k, v in plant.metrics().items() if "holds" in k or "sequences" in k})


def test_two_hundred_clients_read_one_chunk_and_vanish():
    with Plant() as plant:
        key = plant.key()
        client = plant.openai(key)
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
        settled(plant)
        before = plant.descriptors()
        ids = []
        for _ in range(10):
            crowd = [threading.Thread(target=read_one_chunk_and_vanish, args=(plant, key, ids)) for _ in range(20)]
            for t in crowd:
                t.start()
            for t in crowd:
                t.join()
        assert len(ids) == 200
        metrics = settled(plant)
        used = [v for k, v in metrics.items() if k.startswith("tokenworks_kv_blocks") and 'state="used"' in k]
        assert used == [0], used
        deadline = time.monotonic() + 20
        while plant.descriptors() > before + 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert plant.descriptors() <= before + 2, "descriptors leak"
        answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
        assert answer.usage.completion_tokens >= 1
        for request_id in ids[::20]:
            entries = plant.entries(request_id)
            assert [e["type"] for e in entries] == ["hold", "settle"]
            assert 1 <= entries[-1]["output_tokens"] < 400 and entries[-1]["finish_reason"] == "cancelled"
        report = plant.verify()
        assert report["ok"] and report["open_holds"] == 0


def test_the_same_prompt_alone_and_among_thirty_one_others_gives_the_same_tokens(plant, key):
    def ask(prompt, into=None):
        answer = plant.openai(key, timeout=300).chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": prompt}], max_tokens=32, temperature=1, seed=11, extra_body={"ignore_eos": True})
        if into is not None:
            into.append(answer.choices[0].message.content)
        return answer.choices[0].message.content
    alone = ask("Write a line about lanterns.")
    got, others = [], []
    crowd = [threading.Thread(target=ask, args=(f"Count from {i} upwards, slowly. " * (1 + i % 7), others)) for i in range(31)]
    crowd.insert(15, threading.Thread(target=ask, args=("Write a line about lanterns.", got)))
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert len(others) == 31
    assert got == [alone]


def test_a_dropped_plain_request_stops_and_is_billed(plant, key):
    url = urllib.parse.urlparse(plant.api)
    discarded = plant.metrics()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body(1500, stream=False), {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    time.sleep(0.5)
    connection.close()
    settled(plant)
    assert discarded is not None
