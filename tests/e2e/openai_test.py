"""OpenAI's chat and completions line by line against a running daemon, on a model of microseconds: every parameter does what it says
or is refused by name, every limit is the configuration's."""
import json, math, pathlib, subprocess, sys
from decimal import Decimal

import pytest

from front_test import eventually, post
from plant import MODEL, NAME, PLANT, TENANTS, Plant

LIMITS = ("limits: {{drain: {drain}, choices: 3, stop_strings: 2, logit_bias: 4, messages: 5, top_logprobs: 4, content_parts: 3, tools: 2, "
          "schema_bytes: 300, embedding_inputs: 2, body: 64KiB}}")
PRICES = f"""version: "openai-1"
models: {{{NAME}: {{input: 3, cached_input: 3, output: 7}}}}
tiers: {{priority: 2, standard: 1, batch: 0.5}}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "fim.gguf"
    script = pathlib.Path(__file__).resolve().parents[1] / "bench/random_model.py"
    subprocess.run([sys.executable, script, MODEL, out, "--tiny", "--fim"], check=True)
    with Plant(plant=PLANT.replace("limits: {{drain: {drain}}}", LIMITS).replace("{model}", str(out)), prices=PRICES, context=512, kv="64MiB",
               tenants=TENANTS.replace('models: ["*"]', 'models: ["*"], tier: priority')) as plant:
        plant.member = plant.key()
        yield plant


def chat(own, messages=None, status=200, **more):
    got, body, _ = post(own, own.member, "/v1/chat/completions", {"model": NAME, "messages": messages or [{"role": "user", "content": "Say a word"}],
                                                                 "max_completion_tokens": 6, "temperature": 0, "ignore_eos": True, **more})
    assert got == status, body
    return body


def complete(own, status=200, **more):
    got, body, _ = post(own, own.member, "/v1/completions", {"model": NAME, "prompt": "One two", "max_tokens": 6, "temperature": 0, "ignore_eos": True, **more})
    assert got == status, body
    return body


def stream(own, path, body):
    import urllib.request
    request = urllib.request.Request(own.api + path, json.dumps({"model": NAME, "stream": True, "ignore_eos": True, **body}).encode(),
                                     {"Content-Type": "application/json", "Authorization": "Bearer " + own.member})
    with urllib.request.urlopen(request, timeout=120) as response:
        lines = response.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line[6:]) for line in lines[:-2]], [line for line in lines[:-2]]


def text(body, i=0):
    choice = body["choices"][i]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def tokens(own, string):
    return post(own, own.member, "/v1/tokenize", {"model": NAME, "prompt": string, "add_special_tokens": False})[1]["tokens"]


def test_choices_seeds_and_penalties(own):
    three = complete(own, n=3, temperature=1, seed=5)
    assert [c["index"] for c in three["choices"]] == [0, 1, 2] and len({text(three, i) for i in range(3)}) > 1
    assert three["usage"]["completion_tokens"] == 18
    assert [text(three, i) for i in range(3)] == [text(complete(own, n=3, temperature=1, seed=5), i) for i in range(3)]
    assert text(chat(own, n=2, temperature=1, seed=1), 1) != "" and len(chat(own, n=2)["choices"]) == 2
    greedy = complete(own, max_tokens=40)
    assert text(complete(own, max_tokens=40, frequency_penalty=2, presence_penalty=2)) != text(greedy)
    assert len(complete(own, best_of=1)["choices"]) == 1


def test_the_likeliest_of_several_answers_are_given_and_all_are_counted(own):
    mean = lambda choice: sum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["token_logprobs"])
    ask = dict(temperature=1.5, seed=9, logprobs=0, prompt=["One two", "Three"])
    all_three, best = complete(own, n=3, **ask), complete(own, n=1, best_of=3, **ask)
    assert [c["index"] for c in best["choices"]] == [0, 1] and best["usage"]["completion_tokens"] == all_three["usage"]["completion_tokens"] == 36
    for i, choice in enumerate(best["choices"]):
        made = all_three["choices"][3 * i:3 * i + 3]
        assert len({c["text"] for c in made}) == 3 and choice["text"] == max(made, key=mean)["text"]
    ranked = complete(own, n=2, best_of=3, **{**ask, "prompt": "One two"})["choices"]
    assert [c["text"] for c in ranked] == [c["text"] for c in sorted(all_three["choices"][:3], key=mean, reverse=True)[:2]]
    echoed = complete(own, best_of=2, echo=True, temperature=1, seed=3)
    assert len(echoed["choices"]) == 1 and text(echoed).startswith("One two") and echoed["choices"][0]["logprobs"] is None
    for wrong in (dict(n=3, best_of=2), dict(best_of=2, stream=True), dict(best_of=4), dict(best_of=-1)):
        assert complete(own, status=400, **wrong)["error"]["param"] == "best_of", wrong
    assert complete(own, best_of=0)["choices"]


def test_no_output_is_asked_for_and_none_is_counted(own):
    scored = complete(own, max_tokens=0, echo=True, logprobs=2)
    n, choice = len(tokens(own, "One two")), scored["choices"][0]
    assert choice["text"] == "One two" and choice["finish_reason"] == "length"
    assert scored["usage"]["completion_tokens"] == 0 and scored["usage"]["prompt_tokens"] == n
    with_output = complete(own, echo=True, logprobs=2)["choices"][0]["logprobs"]
    assert choice["logprobs"]["tokens"] == with_output["tokens"][:n] and len(choice["logprobs"]["tokens"]) == n
    assert choice["logprobs"]["token_logprobs"] == with_output["token_logprobs"][:n] and choice["logprobs"]["token_logprobs"][0] is None
    price = Decimal(3) * n * 2 / Decimal(1_000_000)                   # the plan's tier is priority
    assert Decimal(repr(scored["usage"]["cost"])) == price
    entry = own.entries(scored["usage"]["tokenworks"]["request_id"])[-1]
    assert entry["type"] == "settle" and entry["output_tokens"] == 0 and entry["finish_reason"] == "length"
    empty = complete(own, max_tokens=0, n=2)
    assert [c["text"] for c in empty["choices"]] == ["", ""] and empty["usage"]["completion_tokens"] == 0
    assert text(complete(own, max_tokens=0, echo=True)) == "One two"
    chunks, _ = stream(own, "/v1/completions", {"prompt": "One two", "max_tokens": 0, "echo": True, "logprobs": 0, "stream_options": {"include_usage": True}})
    assert "".join(c["choices"][0]["text"] for c in chunks if c["choices"]) == "One two" and chunks[-1]["usage"]["completion_tokens"] == 0
    assert chat(own, max_completion_tokens=0, status=400)["error"]["param"] == "max_completion_tokens", "a chat without an answer is none"


def test_prompts_of_every_shape_give_the_same_answer(own):
    ids, other = tokens(own, "One two"), tokens(own, "Three")
    want = text(complete(own))
    assert text(complete(own, prompt=ids)) == want
    lists = complete(own, prompt=["One two", "Three"], n=2)
    assert [c["index"] for c in lists["choices"]] == [0, 1, 2, 3] and text(lists, 0) == text(lists, 1) == want
    assert [text(complete(own, prompt=[ids, other]), i) for i in (0, 1)] == [want, text(lists, 2)]
    assert lists["usage"]["prompt_tokens"] == len(ids) + len(other)
    assert complete(own, prompt=[999_999], status=400)["error"]["param"] == "prompt"
    assert complete(own, prompt=[ids, "x"], status=400)["error"]["param"] == "prompt"
    assert text(complete(own, prompt=ids, echo=True)) == "One two" + want


def test_a_hole_is_filled_with_the_models_own_tokens(own):
    before, behind = tokens(own, "def f():\n"), tokens(own, "\nreturn x")
    assert 3 not in tokens(own, "<fim_prefix>"), "a text cannot write the mark"
    filled = complete(own, prompt="def f():\n", suffix="\nreturn x")
    assert filled["usage"]["prompt_tokens"] >= len(before) + len(behind) + 3
    by_hand = [3, *before, 4, *behind, 5]
    assert text(filled) in (text(complete(own, prompt=by_hand)), text(complete(own, prompt=[0, *by_hand])), text(complete(own, prompt=[1, *by_hand])))
    assert complete(own, suffix="x", echo=True, status=400)["error"]["param"] == "suffix"
    assert complete(own, prompt=[1, 2], suffix="x", status=400)["error"]["param"] == "suffix"


def test_log_probabilities_in_both_shapes_also_of_the_prompt(own):
    content = chat(own, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
    assert len(content) == 6 and all(len(t["top_logprobs"]) == 3 and t["logprob"] <= 0 for t in content)
    assert b"".join(bytes(t["bytes"]) for t in content).decode(errors="replace") != ""
    assert all(t["top_logprobs"][0]["logprob"] == t["logprob"] for t in content), "greedy takes the likeliest"
    older = complete(own, logprobs=2, echo=True)["choices"][0]["logprobs"]
    n = len(tokens(own, "One two"))
    assert len(older["tokens"]) == len(older["token_logprobs"]) == len(older["top_logprobs"]) == len(older["text_offset"]) == n + 6
    assert older["token_logprobs"][0] is None and all(math.isfinite(p) and p <= 0 for p in older["token_logprobs"][1:])
    assert older["text_offset"][0] == 0 and older["text_offset"] == sorted(older["text_offset"])
    assert chat(own, top_logprobs=2, status=400)["error"]["param"] == "top_logprobs"


def test_bias_stops_and_limits_of_length(own):
    word = tokens(own, " the")[0]
    assert text(complete(own, logit_bias={str(word): 100})) == " the" * 6
    assert text(complete(own, logit_bias={str(word): 100}, max_tokens=30, stop=[" the the the the"])) == ""
    stopped = complete(own, logit_bias={str(word): 100}, stop_token_ids=[word])
    assert stopped["choices"][0]["finish_reason"] == "stop" and stopped["usage"]["completion_tokens"] == 1
    assert chat(own, max_completion_tokens=3)["usage"]["completion_tokens"] == 3
    assert chat(own, max_completion_tokens=3)["choices"][0]["finish_reason"] == "length"
    old = post(own, own.member, "/v1/chat/completions", {"model": NAME, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "ignore_eos": True})[1]
    assert old["usage"]["completion_tokens"] == 2
    assert complete(own, logit_bias={str(word): 101}, status=400)["error"]["param"] == "logit_bias"


def test_the_tier_that_is_used_is_named_and_priced(own):
    for asked, named, factor in ((None, "priority", 2), ("auto", "priority", 2), ("default", "default", 1), ("flex", "flex", Decimal("0.5")), ("priority", "priority", 2)):
        body = chat(own, **({"service_tier": asked} if asked else {}))
        usage = body["usage"]
        cost = (3 * usage["prompt_tokens"] + 7 * usage["completion_tokens"]) * factor / Decimal(1_000_000)
        assert body["service_tier"] == named and Decimal(repr(usage["cost"])) == cost, body
        assert own.entries(usage["tokenworks"]["request_id"])[-1]["tier"] == {"default": "standard", "flex": "batch", "priority": "priority"}[named]
    chunks, _ = stream(own, "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "service_tier": "flex"})
    assert {c["service_tier"] for c in chunks} == {"flex"}
    assert chat(own, service_tier="gold", status=400)["error"]["param"] == "service_tier"


def test_what_names_a_request_is_kept_apart_and_erasable(own):
    body = chat(own, metadata={"team": "blue"}, user="u-1", safety_identifier="s-1", prompt_cache_key="k-1", store=False)
    assert body["choices"]
    for field in ("user", "safety_identifier", "prompt_cache_key"):
        assert chat(own, **{field: "x" * 513}, status=400)["error"]["param"] == field
        assert chat(own, **{field: 7}, status=400)["error"]["param"] == field
    assert chat(own, metadata={"k": "v" * 513}, status=400)["error"]["param"] == "metadata.k"
    assert chat(own, metadata={str(i): "v" for i in range(17)}, status=400)["error"]["param"] == "metadata"
    entries = json.dumps(own.entries(body["usage"]["tokenworks"]["request_id"]))
    assert "blue" not in entries and "u-1" not in entries, "an entry names nobody"


def test_messages_of_every_role_and_parts(own):
    part = lambda t: {"type": "text", "text": t}
    developer = chat(own, [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [part("Say"), part("a word")]}])
    system = chat(own, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say\na word"}])
    assert text(developer) == text(system) and developer["usage"]["prompt_tokens"] == system["usage"]["prompt_tokens"]
    image = chat(own, [{"role": "user", "content": [part("What is it?"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}], status=400)
    assert image["error"]["param"] == "messages[0].content[1]" and "not able to see images" in image["error"]["message"]
    for kind in ("input_audio", "file"):
        refused = chat(own, [{"role": "user", "content": [{"type": kind}]}], status=400)
        assert refused["error"]["param"] == "messages[0].content[0]"
    for effort in ("none", "minimal", "low", "medium", "high"):
        body = chat(own, reasoning_effort=effort)
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0 and "reasoning_content" not in body["choices"][0]["message"]
    assert chat(own, reasoning_effort="huge", status=400)["error"]["param"] == "reasoning_effort"


def test_the_last_message_is_continued_and_none_opened(own):
    asked = [{"role": "user", "content": "Say a word"}]
    ids = lambda messages, **more: post(own, own.member, "/v1/tokenize", {"model": NAME, "messages": messages, **more})[1]["tokens"]
    opened, begun = ids(asked), [*asked, {"role": "assistant", "content": "The sky is <|im_end|>"}]
    whole, plain = ids(begun, continue_final_message=True), tokens(own, "The sky is <|im_end|>")
    assert whole == opened + plain, "what stands in it are letters"
    assert whole == ids([*asked, {"role": "assistant", "content": [{"type": "text", "text": "The sky is <|im_end|>"}]}], continue_final_message=True, add_generation_prompt=False)
    answer = chat(own, begun, continue_final_message=True, add_generation_prompt=False)
    assert text(answer) == text(complete(own, prompt=whole)) and answer["usage"]["prompt_tokens"] == len(whole)
    events = stream(own, "/v1/chat/completions", {"messages": begun, "continue_final_message": True, "max_tokens": 6, "temperature": 0})[0]
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events) == text(answer)
    closed = ids(begun, add_generation_prompt=False)
    assert closed[:len(whole)] == whole and len(closed) > len(whole) and text(chat(own, begun, add_generation_prompt=False)) == text(complete(own, prompt=closed))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for messages, more in ((asked, {}), ([*asked, {"role": "assistant", "content": " \n"}], {}), ([*asked, {"role": "assistant", "content": "So", "tool_calls": [call]}], {}),
                           (begun, dict(add_generation_prompt=True)), (begun, dict(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required"))):
        refused = chat(own, messages, 400, continue_final_message=True, **more)
        assert refused["error"]["param"] == "continue_final_message", refused
    assert chat(own, asked, 400, continue_final_message="yes")["error"]["param"] == "continue_final_message"


def test_stream_options(own):
    ask = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 12, "temperature": 0}
    plain, _ = stream(own, "/v1/chat/completions", ask)
    assert all("usage" not in c for c in plain) and plain[0]["choices"][0]["delta"]["role"] == "assistant"
    counted, _ = stream(own, "/v1/chat/completions", {**ask, "stream_options": {"include_usage": True}})
    assert all(c["usage"] is None for c in counted[:-1]) and counted[-1]["choices"] == [] and counted[-1]["usage"]["completion_tokens"] == 12
    said = lambda chunks: "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    padded, lines = stream(own, "/v1/chat/completions", {**ask, "stream_options": {"include_obfuscation": True}})
    padded_lines = [len(l) for l in lines if '"obfuscation"' in l]
    assert said(padded) == said(plain) and len(padded_lines) >= 1 and len({n % 64 for n in padded_lines}) == 1, "lengths are in steps of 64"
    usages = stream(own, "/v1/completions", {"prompt": "a", "max_tokens": 60, "stream_options": {"include_usage": True, "continuous_usage_stats": True}})[0]
    counts = [c["usage"]["completion_tokens"] for c in usages if c.get("usage")]
    assert counts == sorted(counts) and counts[-1] == 60 and len(counts) > 1
    for options, param in (({"include_usage": "yes"}, "stream_options.include_usage"), ({"continuous_usage_stats": True}, "stream_options.continuous_usage_stats")):
        assert chat(own, stream=True, stream_options=options, status=400)["error"]["param"] == param
    assert chat(own, stream_options={}, status=400)["error"]["param"] == "stream_options"


def test_every_limit_is_the_configurations_and_named(own):
    user = {"role": "user", "content": "a"}
    tool = lambda i: {"type": "function", "function": {"name": f"f{i}", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "description": "d" * 400}}}
    for param, more in (("n", {"n": 4}), ("stop", {"stop": ["a", "b", "c"]}), ("logit_bias", {"logit_bias": {str(i): 1 for i in range(5)}}),
                        ("messages", {"messages": [user] * 6}), ("top_logprobs", {"logprobs": True, "top_logprobs": 5}),
                        ("messages[0].content", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 4}]}),
                        ("tools", {"tools": [tool(i) for i in range(3)]}), ("response_format.json_schema.schema", {"response_format": schema})):
        error = chat(own, **{"status": 400, **more})["error"]
        assert error["param"] == param and any(c.isdigit() for c in error["message"]), error
    assert complete(own, logprobs=5, status=400)["error"]["param"] == "logprobs"
    assert post(own, own.member, "/v1/embeddings", {"model": NAME, "input": ["a", "b", "c"]})[1]["error"]["param"] == "input"
    assert post(own, own.member, "/v1/chat/completions", {"model": NAME, "messages": [{"role": "user", "content": "a" * (65 << 10)}]})[0] == 413
    within = chat(own, [user] * 5, n=3, stop=["zzzz", "yyyy"], logprobs=True, top_logprobs=4, tools=[tool(0), tool(1)], tool_choice="none")
    assert len(within["choices"]) == 3
    assert chat(own, unknown_field={"a": 1}, another=[])["choices"], "unknown fields are ignored"
    assert eventually(lambda: own.metrics()["tokenworks_holds_open"] == 0) and own.verify()["ok"]
