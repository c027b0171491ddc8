"""Structured output through the openai package on the demo model: every kind, streamed or not, several choices, with log
probabilities, stop strings and too few tokens; and what cannot be held is a 400 that says what and where."""
import concurrent.futures, json, os, pathlib, re, sys

import jsonschema, openai, pytest

from plant import NAME, PLANT, Plant

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import check_instances  # noqa: E402

GOLDEN = pathlib.Path(os.environ.get("TOKENWORKS_GOLDEN", pathlib.Path(__file__).resolve().parents[2] / "build/golden"))
FORMATS = jsonschema.FormatChecker(formats=())
for name, check in check_instances.FORMATS.items():
    FORMATS.checks(name)(check)

PET = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "kind": {"enum": ["cat", "dog"]}},
       "required": ["name", "age", "kind"], "additionalProperties": False}
ASK = [{"role": "user", "content": "Describe a pet as JSON."}]


@pytest.fixture(scope="module")
def client():
    with Plant(context=2048) as plant:
        yield plant.openai(plant.key(), timeout=300)


def fmt(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


def ask(client, **request):
    return client.chat.completions.create(**{"model": NAME, "messages": ASK, "max_tokens": 160, "temperature": 0, "seed": 1, **request})


def test_streamed_and_whole_answers_are_one_and_fit(client):
    whole = ask(client, response_format=fmt(PET, strict=True))
    chunks = list(ask(client, response_format=fmt(PET, strict=True), stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.choices[0].finish_reason == "stop" and whole.choices[0].message.content == text
    jsonschema.validate(json.loads(text), PET)


def test_several_choices_each_fit(client):
    answer = ask(client, response_format=fmt(PET), n=4, temperature=1)
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content), PET)
    assert len({c.message.content for c in answer.choices}) > 1 and sum(c.finish_reason == "stop" for c in answer.choices) >= 1


def test_log_probabilities_are_those_of_the_tokens_of_the_answer(client):
    answer = ask(client, response_format=fmt(PET), logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert "".join(t.token for t in content).startswith(answer.choices[0].message.content)
    assert all(t.logprob <= 0 and len(t.top_logprobs) <= 2 for t in content)


def test_a_stop_string_and_too_few_tokens_cut_as_they_always_do(client):
    stopped = ask(client, response_format=fmt(PET), stop=["age"])
    assert stopped.choices[0].finish_reason == "stop" and "age" not in stopped.choices[0].message.content
    cut = ask(client, response_format=fmt(PET), max_tokens=5)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 5
    whole = ask(client, response_format=fmt(PET)).choices[0].message.content
    assert whole.startswith(cut.choices[0].message.content)


@pytest.mark.parametrize("name,value,pattern", [
    ("regex", "[a-z]{3}-[0-9]{2}", r"[a-z]{3}-[0-9]{2}"), ("choice", ["yes", "no"], "yes|no"),
    ("grammar", 'root ::= "a"{3} [0-9]{1,4} "."', r"aaa[0-9]{1,4}\."), ("json", {"enum": ["red", 7]}, r'\s*("red"|7)')])
def test_patterns_choices_and_grammars_hold_in_both_spellings(client, name, value, pattern):
    for body in ({"guided_" + name: value}, {"structured_outputs": {name: value}}):
        answer = ask(client, extra_body=body)
        assert answer.choices[0].finish_reason == "stop" and re.fullmatch(pattern, answer.choices[0].message.content), answer.choices[0]
        plain = client.completions.create(model=NAME, prompt="It is", max_tokens=60, temperature=1, seed=2, extra_body=body)
        assert plain.choices[0].finish_reason == "stop" and re.fullmatch(pattern, plain.choices[0].text), plain.choices[0]


def test_parse_of_the_sdk_gives_the_object(client):
    import pydantic

    class Pet(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        age: int = pydantic.Field(ge=0, le=120)

    parsed = client.chat.completions.parse(model=NAME, messages=ASK, max_tokens=120, temperature=0, response_format=Pet)
    assert isinstance(parsed.choices[0].message.parsed, Pet)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer", "maximum": 99}}, "required": ["x"],
                                                                     "additionalProperties": False}}}
DOUBLING = "root ::= a0\n" + "".join(f"a{i} ::= a{i + 1} a{i + 1}\n" for i in range(40)) + 'a40 ::= "x"? [a-z]?'
CHAIN = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}


@pytest.mark.parametrize("request_,param,says", [
    (dict(response_format=fmt({"type": "object", "properties": {"a": {"not": {}}}})), "response_format.json_schema.schema.properties.a.not", "'not' at #/properties/a"),
    (dict(response_format=fmt({"type": "array", "uniqueItems": True})), "response_format.json_schema.schema.uniqueItems", "'uniqueItems'"),
    (dict(response_format=fmt({"type": "object", "properties": {"a": False}, "required": ["a"]})), "response_format.json_schema.schema", "nothing can satisfy"),
    (dict(response_format=fmt({"$defs": CHAIN | {"d40": {"type": "string"}}, "$ref": "#/$defs/d0"})), "response_format.json_schema.schema", "limit of work"),
    (dict(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": "x"}}), "response_format.json_schema.schema", "must be an object"),
    (dict(response_format={"type": "xml"}), "response_format.type", "must be text"),
    (dict(extra_body={"guided_regex": "(a"}), "guided_regex", "( without its )"),
    (dict(extra_body={"guided_regex": "(((a{100}){100}){100}){100}"}), "guided_regex", "repeats something"),
    (dict(extra_body={"structured_outputs": {"grammar": "root ::= x"}}), "structured_outputs.grammar", "rule 'x'"),
    (dict(extra_body={"structured_outputs": {"grammar": DOUBLING}}), "structured_outputs.grammar", "ambiguous"),
    (dict(extra_body={"structured_outputs": {"json": {"items": {"contains": {}}}}}), "structured_outputs.json.items.contains", "'contains'"),
    (dict(extra_body={"guided_json": {"multipleOf": 0.01}}), "guided_json.multipleOf", "whole numbers"),
    (dict(response_format=fmt({"properties": {"a": {"$ref": "#a"}}, "$defs": {"x": {"$anchor": "a", "not": {}}}}), tools=[TOOL]), "response_format.json_schema.schema.$defs.x.not", "'not'"),
    (dict(extra_body={"guided_choice": ["yes", 1]}), "guided_choice", "array of strings"),
    (dict(extra_body={"guided_regex": "a", "guided_choice": ["b"]}), "guided_choice", "cannot be combined")])
def test_what_cannot_be_held_is_a_400_that_says_what_and_where(client, request_, param, says):
    with pytest.raises(openai.BadRequestError) as failed:
        ask(client, **request_)
    assert failed.value.body["param"] == param and says in failed.value.body["message"], failed.value.body


@pytest.mark.parametrize("body,param", [
    ({"tools": "x"}, "tools"), ({"tools": [1]}, "tools[0]"), ({"tools": [{"type": "function"}]}, "tools[0].function"), ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": [1]}}]}, "tools[0].function.parameters"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"), ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"), ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type")])
def test_bad_tools_are_named(client, body, param):
    with pytest.raises(openai.BadRequestError) as failed:
        ask(client, extra_body=body, max_tokens=2)
    assert failed.value.body["param"] == param, failed.value.body


def test_every_tool_choice_and_what_is_cut(client):
    assert not ask(client, tools=[TOOL], tool_choice="none", max_tokens=8).choices[0].message.tool_calls
    assert ask(client, tools=[], tool_choice="auto", max_tokens=2).usage.completion_tokens == 2
    ask(client, tools=[TOOL], tool_choice="auto", max_tokens=8)
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        for parallel in (True, False):
            answer = ask(client, tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel, max_tokens=60, response_format=fmt(PET))
            message, finish = answer.choices[0].message, answer.choices[0].finish_reason
            assert message.tool_calls and message.content is None, message
            whole = message.tool_calls if finish == "tool_calls" else message.tool_calls[:-1]
            assert finish == "tool_calls" or parallel
            for call in whole:
                jsonschema.validate(json.loads(call.function.arguments), TOOL["function"]["parameters"])


# A vocabulary of bytes and pieces of JSON, random weights: what such a model writes is only as good as the grammar.
SENSELESS = [
    PET, {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 250, "multipleOf": 5}, "minItems": 1, "maxItems": 4}, {"enum": ["a", 1, None, {"k": [True]}]},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "id": {"type": "string", "format": "uuid"}}, "required": ["when"], "additionalProperties": False},
    {"anyOf": [{"type": "string", "pattern": "^[a-z]{2,6}$"}, {"type": "number", "exclusiveMinimum": 0.5, "maximum": 7}, {"type": "null"}]},
    {"type": "object", "patternProperties": {"^n_[a-z]{1,3}$": {"type": "boolean"}}, "additionalProperties": False, "maxProperties": 3},
    {"oneOf": [{"type": "object", "properties": {"t": {"const": "x"}, "v": {"type": "integer"}}, "required": ["t", "v"], "additionalProperties": False},
               {"type": "object", "properties": {"t": {"const": "y"}, "w": {"type": "boolean"}}, "required": ["t"], "additionalProperties": False}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}, {"properties": {"a": {"maximum": 30}, "b": {"type": "null"}}}],
     "maxProperties": 2},
    {"$defs": {"tree": {"type": "object", "properties": {"v": {"enum": [0, 1]}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "required": ["v"],
                        "additionalProperties": False}}, "$ref": "#/$defs/tree"},
    {"type": "array", "prefixItems": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "time"}], "items": False, "minItems": 1},
]


def test_two_thousand_answers_of_a_random_weight_model_parse_and_validate():
    wanted, each = (200_000 if os.environ.get("TOKENWORKS_LONG") == "1" else 2_000), 16
    model = '\n  - {{id: senseless, path: "%s", context_tokens: 2048, kv_cache: 256MiB, max_sequences: 64, threads: 2}}' % (GOLDEN / "tool_models/generic.gguf")
    prices = 'version: "test-1"\nmodels:\n' + "".join("  %s: {input: 0.10, cached_input: 0.05, output: 0.40}\n" % m for m in (NAME, "senseless"))
    with Plant(plant=PLANT.replace("\nprices:", model + "\nprices:", 1), prices=prices, context=256, kv="16MiB") as plant:
        client = plant.openai(plant.key(), timeout=300)

        def some(number):
            schema = SENSELESS[number % len(SENSELESS)]
            answer = ask(client, model="senseless", response_format=fmt(schema), n=each, temperature=1, seed=number, max_tokens=400)
            ended = [c.message.content for c in answer.choices if c.finish_reason == "stop"]
            for text in ended:
                jsonschema.validate(json.loads(text), schema, format_checker=FORMATS)
            return len(ended)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            valid, asked = 0, 0
            while valid < wanted and asked < 2 * wanted // each:
                valid += sum(pool.map(some, range(asked, asked + 20)))
                asked += 20
    assert valid >= wanted, f"only {valid} of {asked * each} answers came to their end"
