"""Tools, reasoning and what hangs on them, through the openai package: forced calls of models without any sense are valid for
every schema in every family's way, streamed or not; the demo model calls, too; thoughts are parted and counted."""
import concurrent.futures, decimal, json, os, pathlib, random

import jsonschema, openai, pytest

from plant import MODEL, NAME, PLANT, Plant, TENANTS

GOLDEN = pathlib.Path(os.environ.get("TOKENWORKS_GOLDEN", pathlib.Path(__file__).resolve().parents[2] / "build/golden"))
FAMILIES = ["hermes", "llama", "mistral", "mistral_args", "parameters", "generic", "thinker"]
MODELS = "".join('\n  - {{id: %s, path: "%s", context_tokens: 16384, kv_cache: 96MiB, max_sequences: 16, threads: 1}}' % (f, GOLDEN / f"tool_models/{f}.gguf")
                 for f in FAMILIES)
TOOL_PLANT = PLANT.replace("\nprices:", MODELS + "\nprices:", 1)
PRICES = 'version: "test-1"\nmodels:\n' + "".join("  %s: {input: 0.10, cached_input: 0.05, output: 0.40}\n" % m for m in [NAME] + FAMILIES)
HI = [{"role": "user", "content": "Hi"}]
SAFE = dict(max_tokens=3000, temperature=1.0)


@pytest.fixture(scope="module")
def client():
    with Plant(plant=TOOL_PLANT, prices=PRICES, context=4096) as plant:
        client = plant.openai(plant.key(), timeout=600)
        client.plant = plant
        yield client


def tool(name, parameters, **more):
    return {"type": "function", "function": {"name": name, "description": "Does " + name, "parameters": parameters, **more}}


def random_schema(r, depth=0):
    kinds = ["string", "integer", "number", "boolean", "enum", "const", "format", "null", "pattern"] + ([] if depth > 2 else ["object", "array", "any", "tuple"] * 2)
    kind = r.choice(kinds)
    if kind == "string":
        return {"type": "string", "minLength": r.randint(0, 3), "maxLength": r.randint(3, 12)}
    if kind == "integer":
        low = r.randint(-500, 500)
        return {"type": "integer", "minimum": low, "maximum": low + r.randint(0, 900)} if r.random() < 0.7 else {"type": "integer", "multipleOf": r.randint(2, 12)}
    if kind == "number":
        return {"type": "number", "minimum": r.randint(-9, 0), "exclusiveMaximum": r.randint(1, 99) + 0.5} if r.random() < 0.7 else {"type": "number"}
    if kind == "boolean" or kind == "null":
        return {"type": kind}
    if kind == "enum":
        return {"enum": r.sample(["a", "b c", "ü\"", 1, 2.5, None, True, ["x"], {"k": 1}], r.randint(1, 5))}
    if kind == "const":
        return {"const": r.choice(["fixed", 7, {"a": [1, "ß"]}])}
    if kind == "format":
        return {"type": "string", "format": r.choice(["date", "date-time", "uuid", "ipv4", "time"])}
    if kind == "pattern":
        return {"type": "string", "pattern": r.choice(["^[a-z]{2,5}$", "^\\d{3}-\\d{4}$", "^(red|green|blue)$", "^[A-Z][a-z]*$"]), "maxLength": 12}
    if kind == "array":
        return {"type": "array", "items": random_schema(r, depth + 1), "minItems": r.randint(0, 1), "maxItems": r.randint(1, 3)}
    if kind == "tuple":
        return {"type": "array", "prefixItems": [random_schema(r, depth + 1) for _ in range(2)], "items": False, "minItems": 2}
    if kind == "any":
        return {"anyOf": [random_schema(r, depth + 1), random_schema(r, depth + 1)]}
    return object_schema(r, depth + 1)


def object_schema(r, depth=0):
    names = r.sample(["city", "days", "unit", "when", "limit", "x-y", "größe", "items", "filter", "a b"], r.randint(0 if depth else 1, 4))
    schema = {"type": "object", "properties": {n: random_schema(r, depth) for n in names}, "required": [n for n in names if r.random() < 0.7],
              "additionalProperties": False}
    if depth == 0 and r.random() < 0.2:
        schema["$defs"] = {"node": {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9},
                                                                     "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["v"],
                                    "additionalProperties": False}}
        schema["properties"]["list"] = {"$ref": "#/$defs/node"}
    return schema


def gather(stream):
    """A streamed answer put together, with OpenAI's rules for deltas checked on the way."""
    calls, content, reasoning, finish, usage = [], "", "", None, None
    for chunk in stream:
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            assert finish is None, "a delta after the finish"
            delta = choice.delta
            content += delta.content or ""
            reasoning += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or []:
                if call.id is not None:
                    assert call.index == len(calls) and call.type == "function" and call.function.name and call.function.arguments == ""
                    calls.append({"id": call.id, "name": call.function.name, "arguments": ""})
                else:
                    assert call.index == len(calls) - 1 and call.function.name is None and call.type is None
                calls[call.index]["arguments"] += call.function.arguments or ""
            finish = choice.finish_reason or finish
    return calls, content, reasoning, finish, usage


def ask(client, streamed, **request):
    if streamed:
        return gather(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **request))
    answer = client.chat.completions.create(**request)
    choice = answer.choices[0]
    calls = [{"id": c.id, "name": c.function.name, "arguments": c.function.arguments} for c in choice.message.tool_calls or []]
    return calls, choice.message.content or "", getattr(choice.message, "reasoning_content", None) or "", choice.finish_reason, answer.usage


def forced(client, number, model=None):
    """One forced call, of a model without sense unless one is named; returns whether it came to its end."""
    r = random.Random(number)
    tools = [tool(f"f{i}", object_schema(r)) for i in range(r.randint(1, 3))]
    model = model or FAMILIES[number % len(FAMILIES)]
    named = number % 3 == 0
    choice = {"type": "function", "function": {"name": tools[-1]["function"]["name"]}} if named else "required"
    parallel = number % 2 == 0
    calls, content, _, finish, usage = ask(client, number % 4 < 2, model=model, messages=HI, tools=tools, tool_choice=choice, parallel_tool_calls=parallel, seed=number,
                                           stop=["a", "1"], **SAFE)
    assert finish in ("tool_calls", "length"), finish
    assert calls and not content, (model, calls, content)
    assert len({c["id"] for c in calls}) == len(calls)
    if named or not parallel:
        assert len(calls) == 1
    by_name = {t["function"]["name"]: t["function"]["parameters"] for t in tools}
    for i, call in enumerate(calls):
        if finish == "length" and i == len(calls) - 1:
            assert usage.completion_tokens == SAFE["max_tokens"]
            continue
        if named:
            assert call["name"] == tools[-1]["function"]["name"]
        jsonschema.validate(json.loads(call["arguments"]), by_name[call["name"]])
    return finish == "tool_calls"


def test_forced_calls_over_two_hundred_schemas_are_valid(client):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        count = 2000 if os.environ.get("TOKENWORKS_LONG") == "1" else 200
        ended = list(pool.map(lambda n: forced(client, n), range(count)))
    assert sum(ended) >= count * 0.9, f"only {sum(ended)} of {count} calls came to their end"


def test_forced_calls_of_the_demo_model_are_valid(client):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda n: forced(client, n, NAME), range(1000, 1012)))
    assert sum(ended) >= 6, f"only {sum(ended)} of 12 calls came to their end"


def test_a_cut_call_says_length(client):
    for model in FAMILIES:
        calls, _, _, finish, usage = ask(client, model != "llama", model=model, messages=HI, tool_choice="required", max_tokens=20, seed=1,
                                         tools=[tool("f", {"type": "object", "properties": {"s": {"type": "string", "minLength": 200, "maxLength": 300}}, "required": ["s"]})])
        assert finish == "length" and usage.completion_tokens == 20, (model, finish)


CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "unit"],
        "additionalProperties": False}


@pytest.mark.parametrize("streamed", [False, True])
def test_the_demo_model_calls_and_takes_the_result(client, streamed):
    request = dict(model=NAME, temperature=0, max_tokens=200)
    messages = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": "What is the weather in Paris?"}]
    tools = [tool("get_weather", CITY)]
    calls, content, _, finish, usage = ask(client, streamed, messages=messages, tools=tools, tool_choice="required", parallel_tool_calls=False, **request)
    assert finish == "tool_calls" and len(calls) == 1 and not content
    jsonschema.validate(json.loads(calls[0]["arguments"]), CITY)
    assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens and usage.cost > 0
    messages += [{"role": "assistant", "content": None, "tool_calls": [{"id": calls[0]["id"], "type": "function", "function": {"name": calls[0]["name"], "arguments": calls[0]["arguments"]}}]},
                 {"role": "tool", "tool_call_id": calls[0]["id"], "content": "21 C, sunny"}]
    _, _, _, finish, _ = ask(client, streamed, messages=messages, tools=tools, tool_choice="none", **request)
    assert finish in ("stop", "length")


def test_strict_automatic_tools_are_called_validly_or_not_at_all(client):
    for number in range(10):
        model = FAMILIES[number % len(FAMILIES)]
        calls, _, _, _, _ = ask(client, number % 2 == 0, model=model, messages=HI, tools=[tool("get_weather", CITY, strict=True)], max_tokens=300, seed=number)
        for call in calls[:-1]:
            jsonschema.validate(json.loads(call["arguments"]), CITY)


@pytest.mark.parametrize("model,begins", [("hermes", "<tool_call>"), ("mistral", "[TOOL_CALLS]"), ("mistral_args", "[TOOL_CALLS]"), ("parameters", "<tool_call>"), ("llama", "{")])
def test_a_model_that_decides_to_call_a_strict_tool_calls_it_validly(client, model, begins):
    # The bias makes the decision: the marker comes first, be it text, a control token or only a brace.
    bias = {str(vocabulary_id(begins, model)): 100}
    for seed in range(6):
        calls, content, _, finish, _ = ask(client, seed % 2 == 0, model=model, messages=HI, tools=[tool("other", CITY, strict=True), tool("get_weather", CITY, strict=True)],
                                           parallel_tool_calls=False, logit_bias=bias, seed=seed, max_tokens=2000, temperature=1,
                                           extra_body={"chat_template_kwargs": {"enable_thinking": False}})
        assert finish == "tool_calls" and len(calls) == 1 and not content, (model, seed, finish, calls, content)
        jsonschema.validate(json.loads(calls[0]["arguments"]), CITY)


def test_history_goes_through_every_familys_template(client):
    history = [{"role": "user", "content": "Q"},
               {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"K\", \"unit\": \"C\"}"}}]},
               {"role": "tool", "tool_call_id": "abcdefghi", "content": [{"type": "text", "text": "sun"}]}]
    for model in FAMILIES:
        answer = client.chat.completions.create(model=model, messages=history, tools=[tool("get_weather", CITY)], max_tokens=3)
        assert answer.usage.prompt_tokens > 100, model


@pytest.mark.parametrize("parameters,param", [
    ({"type": "object", "properties": {"x": {"not": {}}}}, "tools[1].function.parameters.properties.x.not"),
    ({"type": "string"}, "tools[1].function.parameters.type"),
    ({"type": "object", "properties": {"x": {"type": "array", "items": {"uniqueItems": True}}}}, "tools[1].function.parameters.properties.x.items.uniqueItems"),
])
def test_a_schema_that_cannot_be_held_is_named(client, parameters, param):
    for model in FAMILIES:
        with pytest.raises(openai.BadRequestError) as failed:
            client.chat.completions.create(model=model, messages=HI, tools=[tool("ok", CITY), tool("bad", parameters)], tool_choice="required", max_tokens=5)
        assert failed.value.body["param"] == param, failed.value.body
    # Without force and without strict nothing is held, and nothing refused.
    client.chat.completions.create(model="hermes", messages=HI, tools=[tool("bad", parameters)], max_tokens=2)


def test_several_choices_call_each_for_itself(client):
    answer = client.chat.completions.create(model="hermes", messages=HI, tools=[tool("get_weather", CITY)], tool_choice="required", n=3, seed=3, **SAFE)
    ids = [c.id for choice in answer.choices for c in choice.message.tool_calls]
    assert len(set(ids)) == len(ids) >= 3


def test_thoughts_are_parted_and_counted(client):
    plant = client.plant
    # The prompt opens the thought, and this model may not close it: everything it writes is thought.
    never = {str(vocabulary_id(tag, "thinker")): -100 for tag in ("<think>", "</think>")}
    request = dict(model="thinker", messages=HI, max_tokens=12, seed=5, logit_bias=never, extra_body={"ignore_eos": True})
    for streamed in (False, True):
        _, content, reasoning, finish, usage = ask(client, streamed, **request)
        assert reasoning and not content and finish == "length"
        assert usage.completion_tokens == 12 and usage.completion_tokens_details.reasoning_tokens == 12
    answer = client.chat.completions.create(**request)
    entry = [e for e in plant.entries(answer.usage.tokenworks["request_id"]) if e["type"].lower() == "settle"][0]
    assert entry["reasoning_tokens"] == 12 and entry["output_tokens"] == 12
    # Reasoning is part of the output and paid as such, once.
    plain = client.chat.completions.create(**request, reasoning_effort="none")
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0 and plain.choices[0].message.content
    def paid(usage):
        return sum(decimal.Decimal(usage.cost_details.get(part, "0")) for part in ("output", "reasoning"))
    assert paid(answer.usage) == paid(plain.usage) > 0


def test_enable_thinking_reaches_the_template(client):
    on = client.chat.completions.create(model="hermes", messages=HI, max_tokens=2)
    off = client.chat.completions.create(model="hermes", messages=HI, max_tokens=2, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert off.usage.prompt_tokens > on.usage.prompt_tokens


def test_a_thinker_held_by_a_schema_answers_with_it_after_the_thought(client):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    # A bias ends the thought at once; what follows is held.
    close = client.plant.close_token = vocabulary_id("</think>", "thinker")
    answer = client.chat.completions.create(model="thinker", messages=HI, max_tokens=200, seed=1, logit_bias={str(close): 100},
                                            response_format={"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}})
    assert answer.choices[0].finish_reason == "stop", answer
    jsonschema.validate(json.loads(answer.choices[0].message.content), schema)


def vocabulary_id(text, model):
    import gguf
    reader = gguf.GGUFReader(GOLDEN / f"tool_models/{model}.gguf")
    tokens = reader.fields["tokenizer.ggml.tokens"]
    return [bytes(tokens.parts[i]).decode() for i in tokens.data].index(text)


def test_fill_in_the_middle(client):
    between = client.completions.create(model="thinker", prompt="ab", suffix="cd", max_tokens=3)
    assert between.usage.prompt_tokens == 7                # three markers and four bytes
    with pytest.raises(openai.BadRequestError) as failed:
        client.completions.create(model=NAME, prompt="ab", suffix="cd", max_tokens=3)
    assert failed.value.body["param"] == "suffix" and failed.value.body["code"] == "unsupported_parameter"


def test_obfuscation_and_continuous_usage(client):
    stream = client.chat.completions.create(model=NAME, messages=HI, max_tokens=30, stream=True, temperature=0,
                                            stream_options={"include_usage": True, "include_obfuscation": True},
                                            extra_body={"stream_options": {"include_usage": True, "include_obfuscation": True, "continuous_usage_stats": True}})
    counts, padded = [], 0
    for chunk in stream:
        if chunk.choices and chunk.usage:
            counts.append(chunk.usage.completion_tokens)
        padded += chunk.choices != [] and getattr(chunk, "obfuscation", None) is not None
        last = chunk.usage or None
    assert counts and counts == sorted(counts), counts
    assert counts[-1] <= last.completion_tokens and padded > 0


def test_tags_and_tier_are_accepted_and_told(client):
    answer = client.chat.completions.create(model=NAME, messages=[{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}] + HI, max_tokens=2,
                                            metadata={"team": "x"}, prompt_cache_key="k", safety_identifier="s", user="u", service_tier="flex", reasoning_effort="low")
    assert answer.service_tier == "flex"
    assert client.chat.completions.create(model=NAME, messages=HI, max_tokens=2, service_tier="auto").service_tier == "default"
