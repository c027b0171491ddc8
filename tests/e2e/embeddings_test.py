"""Embeddings and token translation on a daemon that serves a chat model and an encoder side by side."""
import array, base64, decimal, http.client, json, os, pathlib, socket, struct, subprocess, sys, threading, time, urllib.error, urllib.parse, urllib.request

import pytest

from plant import MODEL, NAME, Plant

ENCODER = "all-minilm-l6-v2"
FOLDER = os.environ.get("TOKENWORKS_MINILM", os.path.expanduser("~/.cache/tokenworks/models/all-MiniLM-L6-v2"))
GOLDEN = pathlib.Path(os.environ.get("TOKENWORKS_GOLDEN", pathlib.Path(__file__).resolve().parents[2] / "build/golden")) / "encoders/minilm.json"
PLANT = """plant: {{name: test, region: eu-test, jurisdiction: DE}}
listen: ["127.0.0.1:0"]
admin: {{listen: "127.0.0.1:0"}}
data_dir: ./data
models:
  - {{id: {name}, path: "{model}", aliases: [default], context_tokens: {context}, kv_cache: {kv}}}
  - {{id: %s, path: "%s", aliases: [text-embedding-3-small], context_tokens: 512}}
  - {{id: chat-only, path: "{model}", context_tokens: 512, kv_cache: 64MiB, embeddings: off}}
prices: prices.yaml
tenants: tenants.yaml
ledger: {{store: sqlite, progress: {progress}}}
limits: {{drain: {drain}, embedding_inputs: 64, embedding_tokens: 20000}}
""" % (ENCODER, FOLDER)
PRICES = """version: "test-1"
models:
  %s: {input: 0.10, cached_input: 0.05, output: 0.40}
  chat-only: {input: 0.10, output: 0.40}
  %s: {input: 5, output: 0, embedding: 0.02}
tiers: {priority: 1.75, standard: 1, batch: 0.5}
""" % (NAME, ENCODER)
TENANTS = """plans:
  open: {models: ["*"]}
  tight: {models: ["*"], requests_per_minute: 4, budgets: [{amount: "0.00000200", per: month}]}
organizations:
  acme: {plan: open}
  poor: {plan: tight}
"""


@pytest.fixture(scope="module")
def plant():
    with Plant(plant=PLANT, prices=PRICES, tenants=TENANTS, context=1024, kv="128MiB") as running:
        yield running


@pytest.fixture(scope="module")
def key(plant):
    return plant.key()


@pytest.fixture(scope="module")
def client(plant, key):
    return plant.openai(key)


def post(plant, key, path, body, headers=None):
    request = urllib.request.Request(plant.api + path, json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + key, "Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read()), e.headers


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def test_minilm_gives_the_vectors_of_transformers_through_the_sdk(plant, client):
    golden = json.loads(GOLDEN.read_text())["texts"]
    texts = [t["text"] for t in golden]
    answer = client.embeddings.create(model=ENCODER, input=texts)
    assert [d.index for d in answer.data] == list(range(len(texts)))
    for given, expected in zip(answer.data, golden):
        assert cosine(given.embedding, expected["vector"]) >= 0.99999, expected["text"]
        assert abs(sum(x * x for x in given.embedding) - 1) < 1e-5
    tokens = sum(len(t["ids"]) for t in golden)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens
    assert answer.model == ENCODER
    plain = client.embeddings.create(model=ENCODER, input=texts[:3], encoding_format="float")
    # The same floats, once as digits and once as bytes.
    assert [array.array("f", d.embedding) for d in plain.data] == [array.array("f", d.embedding) for d in answer.data[:3]]
    by_ids = client.embeddings.create(model=ENCODER, input=[t["ids"] for t in golden[:3]])
    assert [d.embedding for d in by_ids.data] == [d.embedding for d in answer.data[:3]]
    one = client.embeddings.create(model="text-embedding-3-small", input=golden[4]["ids"], dimensions=100)
    assert len(one.data[0].embedding) == 100 and one.model == ENCODER
    whole = answer.data[4].embedding[:100]
    assert cosine(one.data[0].embedding, whole) > 0.999999 and abs(sum(x * x for x in one.data[0].embedding) - 1) < 1e-5


def test_the_vector_is_the_same_alone_and_in_a_crowd(plant, client):
    alone = client.embeddings.create(model=ENCODER, input="Which of these is about water?").data[0].embedding
    found, threads = [], []
    def ask(i):
        texts = [f"Noise {i} {k} " * (1 + (i * k) % 17) for k in range(8)]
        texts[i % 8] = "Which of these is about water?"
        found.append(client.embeddings.create(model=ENCODER, input=texts).data[i % 8].embedding)
    for i in range(12):
        threads.append(threading.Thread(target=ask, args=(i,)))
        threads[-1].start()
    for t in threads:
        t.join()
    assert len(found) == 12 and all(v == alone for v in found)


def test_every_embedding_is_paid_for_exactly(plant, key):
    before = [e for e in plant.usage() if e["model"] == ENCODER]
    spent = sum(e["input_tokens"] for e in before), sum(float(e["cost"]) for e in before)
    status, body, headers = post(plant, key, "/v1/embeddings", {"model": ENCODER, "input": ["one two three", "four"], "user": "u1"})
    assert status == 200, body
    count = body["usage"]["prompt_tokens"]
    assert count == 5 + 3 and abs(body["usage"]["cost"] - count * 0.02e-6) < 1e-15
    entries = plant.entries(headers["x-request-id"])
    assert [e["type"] for e in entries] == ["hold", "settle"]
    assert entries[-1]["input_tokens"] == count and entries[-1]["output_tokens"] == 0
    cost = format(decimal.Decimal(count * 20).scaleb(-9).normalize(), "f")
    assert entries[0]["amount"] == entries[-1]["amount"] == cost and entries[-1]["lines"] == {"embedding": cost}
    assert body["usage"]["cost_details"] == {"currency": "USD", "embedding": cost}
    explained = json.loads(plant.cli("price", "--config", plant.config, "--model", ENCODER, "--embedding", str(count), "--json").stdout)
    assert explained["total"] == cost and [(l["class"], l["tokens"]) for l in explained["lines"]] == [("embedding", count)]
    after = [e for e in plant.usage() if e["model"] == ENCODER]
    assert sum(e["input_tokens"] for e in after) == spent[0] + count
    report = plant.verify()
    assert report["ok"] and report["open_holds"] == 0
    checker = subprocess.run([sys.executable, pathlib.Path(__file__).resolve().parents[1] / "golden/verify_ledger.py",
                              plant.folder + "/data/ledger.sqlite", "--charges", time.strftime("%Y-%m", time.gmtime())], stdout=subprocess.PIPE, text=True)
    charges = [c for c in json.loads(checker.stdout)["charges"] if c["organization"] == "acme"]
    assert decimal.Decimal(charges[0]["lines"]["embedding"]) == sum(decimal.Decimal(str(u["cost"])) for u in plant.usage()
                                                                    if u["organization"] == "acme" and u["model"] == ENCODER)


def test_a_model_without_an_embedding_price_embeds_at_its_input_price(plant, key):
    status, body, headers = post(plant, key, "/v1/embeddings", {"model": NAME, "input": "Water, wide and slow."})
    cost = format(decimal.Decimal(body["usage"]["prompt_tokens"] * 100).scaleb(-9).normalize(), "f")
    assert plant.entries(headers["x-request-id"])[-1]["lines"] == {"embedding": cost}


def tokens_of(plant, token_class):
    return sum(v for k, v in plant.metrics().items() if k.startswith("tokenworks_tokens_total{") and f'model="{ENCODER}"' in k and f'class="{token_class}"' in k)


def test_what_a_client_that_left_used_is_counted_and_its_key_is_not_free(plant, key):
    used, requests = tokens_of(plant, "embedding"), 0
    for wait in [0.02 * 1.5 ** i for i in range(14)]:  # until it leaves in the middle: after the first input, before the last
        body = json.dumps({"model": ENCODER, "input": ["word " * 300] * 60}).encode()
        name = f"left-{requests}"
        url = urllib.parse.urlparse(plant.api)
        client = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        client.request("POST", "/v1/embeddings", body, {"Authorization": "Bearer " + key, "Content-Type": "application/json", "Idempotency-Key": name})
        time.sleep(wait)
        client.sock.shutdown(socket.SHUT_RDWR)
        client.close()
        requests += 1
        status = 409
        while status == 409:
            status, again, headers = post(plant, key, "/v1/embeddings", json.loads(body), {"Idempotency-Key": name})
        if status == 200 and "x-idempotent-replayed" not in headers:
            continue                                  # it had cost nothing when it was cut off: this was the first to run
        break
    assert status == 500 and headers["x-should-retry"] == "false" and "cut off" in again["error"]["message"], again
    booked = sum(u["input_tokens"] for u in plant.usage() if u["model"] == ENCODER)
    assert tokens_of(plant, "embedding") == booked > used and tokens_of(plant, "input") == 0
    assert post(plant, key, "/v1/embeddings", json.loads(body), {"Idempotency-Key": name})[0] == 500
    assert sum(u["input_tokens"] for u in plant.usage() if u["model"] == ENCODER) == booked, "a repeat was charged"


def test_an_idempotency_key_is_charged_once(plant, key):
    body = {"model": ENCODER, "input": "twice", "encoding_format": "float"}
    first = post(plant, key, "/v1/embeddings", body, {"Idempotency-Key": "embed-1"})
    again = post(plant, key, "/v1/embeddings", body, {"Idempotency-Key": "embed-1"})
    assert first[0] == again[0] == 200 and again[2]["x-idempotent-replayed"] == "true"
    assert again[1]["usage"]["prompt_tokens"] == first[1]["usage"]["prompt_tokens"]
    assert post(plant, key, "/v1/embeddings", {**body, "input": "other"}, {"Idempotency-Key": "embed-1"})[0] == 422


def test_limits_and_budgets_hold_for_embeddings_too(plant):
    poor = plant.key("poor")
    texts = ["word " * 60]                               # 62 tokens: 1.24 millionths of the budget's two
    assert post(plant, poor, "/v1/embeddings", {"model": ENCODER, "input": texts})[0] == 200
    status, body, headers = post(plant, poor, "/v1/embeddings", {"model": ENCODER, "input": texts})
    assert (status, body["error"]["code"]) == (429, "insufficient_quota") and headers["x-should-retry"] == "false"
    assert post(plant, poor, "/v1/tokenize", {"model": ENCODER, "prompt": "free of charge"})[0] == 200
    assert post(plant, poor, "/v1/detokenize", {"model": ENCODER, "tokens": [101]})[0] == 200
    status, body, headers = post(plant, poor, "/v1/tokenize", {"model": ENCODER, "prompt": "but counted"})
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded") and int(headers["retry-after"]) >= 1


@pytest.mark.parametrize("body, param", [
    ({"input": "x"}, "model"), ({"model": ENCODER}, "input"), ({"model": ENCODER, "input": []}, "input"), ({"model": ENCODER, "input": ""}, "input"),
    ({"model": ENCODER, "input": ["a", ""]}, "input"), ({"model": ENCODER, "input": ["x"] * 65}, "input"),
    ({"model": ENCODER, "input": "word " * 600}, "input"), ({"model": ENCODER, "input": ["word " * 400] * 60}, "input"),
    ({"model": ENCODER, "input": [101, 7592, 30522, 102]}, "input"), ({"model": ENCODER, "input": [15339, 1917]}, "input"),
    ({"model": ENCODER, "input": "x", "dimensions": 385}, "dimensions"), ({"model": ENCODER, "input": "x", "encoding_format": "hex"}, "encoding_format"),
    ({"model": "chat-only", "input": "x"}, "model")])
def test_bad_input_is_a_400_that_names_its_parameter(plant, key, body, param):
    status, answer, _ = post(plant, key, "/v1/embeddings", body)
    assert status == 400 and answer["error"]["param"] == param, answer


def test_models_are_kept_apart(plant, key, client):
    assert {m.id for m in client.models.list()} >= {NAME, ENCODER, "chat-only"}
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}), ("/v1/completions", {"prompt": "x"})):
        status, answer, _ = post(plant, key, path, {"model": ENCODER, **body})
        assert status == 400 and answer["error"]["param"] == "model" and "embeddings" in answer["error"]["message"]
    assert post(plant, key, "/v1/embeddings", {"model": "no-such", "input": "x"})[0] == 404
    threads, wrong = [], []
    def chat():
        answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Count."}], max_tokens=24, extra_body={"ignore_eos": True})
        if answer.usage.completion_tokens != 24:
            wrong.append(answer)
    def embed():
        if len(client.embeddings.create(model=ENCODER, input=["a b c"] * 40).data) != 40:
            wrong.append("embed")
    def noted(job):
        try:
            job()
        except Exception as e:
            wrong.append(e)
    for job in (chat, embed) * 4:
        threads.append(threading.Thread(target=noted, args=(job,)))
        threads[-1].start()
    for t in threads:
        t.join()
    assert not wrong, wrong


def test_as_many_inputs_as_are_allowed_come_back(client):
    answer = client.embeddings.create(model=ENCODER, input=["a b c"] * 64)
    assert [d.index for d in answer.data] == list(range(64))


def test_any_chat_model_pools_too(plant, client):
    texts = ["A river runs to the sea.", "The water of the river reaches the ocean.", "def main(): return 0"]
    a = client.embeddings.create(model=NAME, input=texts)
    assert len(a.data[0].embedding) == 576
    assert [d.embedding for d in a.data] == [client.embeddings.create(model=NAME, input=t).data[0].embedding for t in texts]
    assert a.usage.prompt_tokens == sum(client.embeddings.create(model=NAME, input=t).usage.prompt_tokens for t in texts)


def test_tokens_and_text_translate_both_ways(plant, key):
    golden = json.loads(GOLDEN.read_text())["texts"]
    for one in golden:
        status, body, _ = post(plant, key, "/v1/tokenize", {"model": ENCODER, "prompt": one["text"]})
        assert status == 200 and body["tokens"] == one["ids"] and body["count"] == len(one["ids"]) and body["max_model_len"] == 512
        assert body["token_strs"] is None
    status, body, _ = post(plant, key, "/v1/tokenize", {"model": ENCODER, "prompt": "Hello, world!", "add_special_tokens": False})
    assert body["tokens"] == golden[0]["ids"][1:-1]
    text = "Grüße, 世界! <|im_start|> \U0001f44d"
    status, body, _ = post(plant, key, "/v1/tokenize", {"model": NAME, "prompt": text, "return_token_strs": True})
    assert len(body["token_strs"]) == body["count"] and 1 not in body["tokens"], "a control token's spelling is plain text"
    status, back, _ = post(plant, key, "/v1/detokenize", {"model": NAME, "tokens": body["tokens"]})
    assert back == {"prompt": text}
    messages = [{"role": "user", "content": "Hi there"}]
    status, chat, _ = post(plant, key, "/v1/tokenize", {"model": NAME, "messages": messages})
    answer = plant.openai(key).chat.completions.create(model=NAME, messages=messages, max_tokens=1)
    assert chat["count"] == answer.usage.prompt_tokens, "what an answer would be charged for"
    status, short, _ = post(plant, key, "/v1/tokenize", {"model": NAME, "messages": messages, "add_generation_prompt": False})
    assert short["count"] < chat["count"]
    for path, bad, param in (("/v1/tokenize", {"model": NAME}, "prompt"), ("/v1/tokenize", {"model": ENCODER, "messages": messages}, "messages"),
                             ("/v1/detokenize", {"model": NAME, "tokens": [10 ** 9]}, "tokens"), ("/v1/detokenize", {"model": NAME, "tokens": "x"}, "tokens")):
        status, answer, _ = post(plant, key, path, bad)
        assert status == 400 and answer["error"]["param"] == param, answer
    request = urllib.request.Request(plant.api + "/v1/tokenize", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(request)
    assert e.value.code == 401
    long = "word " * 20000                               # encoded on a worker, longer than the context: counting is not answering
    status, body, _ = post(plant, key, "/v1/tokenize", {"model": NAME, "prompt": long})
    assert status == 200 and body["count"] >= 20000


def test_base64_is_little_endian_float32(plant, key):
    coded = post(plant, key, "/v1/embeddings", {"model": ENCODER, "input": "x", "encoding_format": "base64"})[1]["data"][0]["embedding"]
    plain = post(plant, key, "/v1/embeddings", {"model": ENCODER, "input": "x"})[1]["data"][0]["embedding"]
    raw = base64.b64decode(coded, validate=True)
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == [struct.unpack("<f", struct.pack("<f", x))[0] for x in plain]
