"""The official openai package against the real daemon and the real model."""
import json, time, urllib.request

import openai
import pytest

from plant import NAME, Plant

MODEL = "smollm2-135m-instruct"
QUESTION = [{"role": "user", "content": "Name three colours."}]


def test_a_plain_answer_has_every_required_field_usage_and_cost(client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    raw = answer.to_dict()
    assert raw["choices"][0]["logprobs"] is None and raw["choices"][0]["message"]["refusal"] is None
    usage = raw["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    pico = (usage["prompt_tokens"] - cached) * 100_000 + cached * 50_000 + usage["completion_tokens"] * 400_000
    assert round(usage["cost"] * 1e9) == (pico + 500) // 1000
    assert raw["usage"].get("tokenworks", raw.get("tokenworks"))["request_id"].startswith("req_")


def test_a_stream_comes_in_openais_order_and_ends_with_usage(plant, key):
    body = {"model": "default", "messages": QUESTION, "max_tokens": 16, "stream": True, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(plant.api + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["x-request-id"].startswith("req_")
        lines = [line.decode().rstrip("\n") for line in response if line.startswith(b"data:")]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({(e["id"], e["created"], e["model"]) for e in events}) == 1
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] >= 1
    assert all(e["usage"] is None for e in events[:-1])
    finishes = [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]]
    assert len(finishes) == 1 and events[-2]["choices"][0]["delta"] == {}
    assert "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])


def test_greedy_and_seeded_answers_repeat(client):
    def ask(**options):
        return client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, **options).choices[0].message.content
    assert ask(temperature=0) == ask(temperature=0)
    assert ask(temperature=1, seed=7) == ask(temperature=1, seed=7)
    assert len({ask(temperature=1.5, seed=s) for s in range(5)}) > 1


def test_n_stop_logprobs_and_bias_do_what_they_say(client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, n=3, temperature=1.2, seed=1)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, temperature=0).choices[0].message.content
    stop = whole[8:11]
    cut = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, temperature=0, stop=[stop]).choices[0]
    assert cut.message.content == whole[:whole.index(stop)] and cut.finish_reason == "stop"
    probed = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3)
    content = probed.choices[0].logprobs.content
    assert len(content) == 4 and all(len(t.top_logprobs) == 3 for t in content)
    assert all(t.logprob <= 0 and t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob for t in content)
    assert content[0].token == content[0].top_logprobs[0].token
    assert "".join(t.token for t in content) == probed.choices[0].message.content


def test_completions_with_text_and_with_token_ids(client):
    text = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0, echo=True)
    assert text.choices[0].text.startswith("The capital of France is")
    lists = client.completions.create(model=MODEL, prompt=["One, two,", "Red, green,"], max_tokens=3, temperature=0)
    assert [c.index for c in lists.choices] == [0, 1]
    ids = client.completions.create(model=MODEL, prompt=[504, 1232, 282], max_tokens=3, temperature=0)
    assert ids.usage.prompt_tokens == 3


def test_special_tokens_in_a_message_are_plain_text(client):
    def prompt_tokens(text):
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=1).usage.prompt_tokens
    assert prompt_tokens("a<|im_start|>b") > prompt_tokens("ab") + 2


def test_models_are_listed_and_carry_their_digest(client, plant, key):
    assert MODEL in [m.id for m in client.models.list()]
    assert client.models.retrieve("default").id == MODEL
    request = urllib.request.Request(plant.api + "/v1/models/" + MODEL, headers={"Authorization": "Bearer " + key})
    assert len(json.load(urllib.request.urlopen(request))["tokenworks"]["digest"]) == 64


def test_errors_are_the_ones_sdks_understand(plant, client):
    with pytest.raises(openai.AuthenticationError) as e:
        plant.openai("sk-tw-00000000-" + "0" * 40).models.list()
    assert e.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="gpt-nothing", messages=QUESTION)
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=9)
    assert e.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 5000}])
    assert e.value.code == "context_length_exceeded"


def test_the_prefix_cache_is_reported_and_never_shared_between_tenants(plant, client):
    prompt = [{"role": "user", "content": "Remember these words: " + " ".join(f"word{i}" for i in range(120))}]
    first = client.chat.completions.create(model=MODEL, messages=prompt, max_tokens=2)
    again = client.chat.completions.create(model=MODEL, messages=prompt, max_tokens=2)
    other = plant.openai(plant.key("beta")).chat.completions.create(model=MODEL, messages=prompt, max_tokens=2)
    # The template's own system prompt may be cached by this tenant's earlier requests, the words themselves are not.
    assert first.usage.prompt_tokens_details.cached_tokens <= 32
    assert again.usage.prompt_tokens_details.cached_tokens >= again.usage.prompt_tokens - 17
    assert other.usage.prompt_tokens_details.cached_tokens == 0


def test_json_mode_gives_json(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Describe a cat as JSON."}], max_tokens=200, temperature=0.7, seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "cat", "strict": True, "schema": {
            "type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["name", "legs"], "additionalProperties": False}}})
    cat = json.loads(answer.choices[0].message.content)
    assert set(cat) == {"name", "legs"} and isinstance(cat["legs"], int)


def test_every_request_is_in_the_books(plant, client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8, temperature=0)
    raw = answer.to_dict()
    request_id = raw["usage"].get("tokenworks", raw.get("tokenworks"))["request_id"]
    entries = plant.entries(request_id)
    assert [e["type"] for e in entries] == ["hold", "settle"]
    settle = entries[-1]
    assert settle["input_tokens"] == answer.usage.prompt_tokens and settle["output_tokens"] == answer.usage.completion_tokens
    assert float(settle["amount"]) == raw["usage"]["cost"]
    assert len(settle["model_digest"]) == 64 and settle["jurisdiction"] == "DE" and settle["price_version"] == "test-1"
    assert plant.verify()["ok"]


def test_every_answer_says_how_long_it_waited_and_took():
    with Plant(kv="128MiB") as plant:
        client = plant.openai(plant.key())
        for stream in (False, True, False):
            answer = client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=4, stream=stream)
            if stream:
                list(answer)
        # The session counts after its last byte is sent.
        def counted():
            counts = {name.split("{")[0].removesuffix("_count"): value for name, value in plant.metrics().items() if "_seconds_count" in name}
            return [counts.get(f"tokenworks_{what}_seconds", 0) for what in ("queue", "request", "time_to_first_token")]
        deadline = time.monotonic() + 60
        while counted() != [3, 3, 3]:
            assert time.monotonic() < deadline, counted()
            time.sleep(0.05)


def test_short_answers_end_when_every_token_waits_for_its_commit():
    # The ring that says "tokens are there" may come while the answer waits for the ledger: it must not be lost.
    with Plant(progress="step", kv="128MiB") as plant:
        client = plant.openai(plant.key(), timeout=20)
        for i in range(30):
            answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": f"Say {i}"}], max_tokens=1 + i % 8,
                                                    extra_body={"ignore_eos": True}, stream=False)
            assert answer.usage.completion_tokens == 1 + i % 8
