"""OpenAI's own document validates our answers. The document is test data beside the repository (../shared/openapi)."""
import json, os, pathlib, urllib.error, urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = pathlib.Path(os.environ.get("TOKENWORKS_OPENAPI", ROOT.parent / "shared/openapi/openai.json"))
MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def validate():
    if not DOCUMENT.exists():
        pytest.skip("OpenAI's document is not here")
    import jsonschema

    def modern(node):                                # the document still says `nullable` (OpenAPI 3.0) in places
        if isinstance(node, list):
            return [modern(x) for x in node]
        if not isinstance(node, dict):
            return node
        out = {k: modern(v) for k, v in node.items() if k != "nullable" or not isinstance(v, bool)}
        return {"anyOf": [out, {"type": "null"}]} if node.get("nullable") is True else out
    document = modern(json.loads(DOCUMENT.read_text()))

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)
    return check


def post(plant, key, path, body):
    request = urllib.request.Request(plant.api + path, json.dumps(body).encode(), {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    return urllib.request.urlopen(request)


def chunks(response):
    return [json.loads(line[6:]) for line in response if line.startswith(b"data: {")]


def test_a_tour_of_answers_is_valid_against_openais_document(plant, key, validate):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Name a colour."}]}]
    chat = {"model": MODEL, "messages": messages, "max_tokens": 8}
    validate("CreateChatCompletionResponse", json.load(post(plant, key, "/v1/chat/completions", chat)))
    validate("CreateChatCompletionResponse", json.load(post(plant, key, "/v1/chat/completions", {**chat, "n": 2, "logprobs": True, "top_logprobs": 2})))
    for more in ({}, {"stream_options": {"include_usage": True}}, {"logprobs": True}):
        for chunk in chunks(post(plant, key, "/v1/chat/completions", {**chat, "stream": True, **more})):
            validate("CreateChatCompletionStreamResponse", chunk)
    text = {"model": MODEL, "prompt": "One, two,", "max_tokens": 4}
    validate("CreateCompletionResponse", json.load(post(plant, key, "/v1/completions", text)))
    echoed = json.load(post(plant, key, "/v1/completions", {**text, "logprobs": 2, "echo": True, "n": 2}))
    for choice in echoed["choices"]:                 # the first token of a prompt has none, as OpenAI answers and its document forgets
        for name in ("token_logprobs", "top_logprobs"):
            assert choice["logprobs"][name].pop(0) is None
    validate("CreateCompletionResponse", echoed)
    for chunk in chunks(post(plant, key, "/v1/completions", {**text, "stream": True, "stream_options": {"include_usage": True}})):
        chunk = {k: v for k, v in chunk.items() if k != "usage" or v is not None}   # null before the end, both: the document knows it of chats only
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        validate("CreateCompletionResponse", chunk)
    scored = json.load(post(plant, key, "/v1/completions", {**text, "max_tokens": 0, "best_of": 2}))
    validate("CreateCompletionResponse", scored)
    tool = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}}}
    called = {**chat, "tools": [tool], "tool_choice": "required", "max_tokens": 60}
    answer = json.load(post(plant, key, "/v1/chat/completions", called))
    assert answer["choices"][0]["message"]["tool_calls"]
    validate("CreateChatCompletionResponse", answer)
    for chunk in chunks(post(plant, key, "/v1/chat/completions", {**called, "stream": True})):
        validate("CreateChatCompletionStreamResponse", chunk)
    shaped = {**chat, "max_tokens": 60, "response_format": {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": tool["function"]["parameters"]}}}
    validate("CreateChatCompletionResponse", json.load(post(plant, key, "/v1/chat/completions", shaped)))
    validate("CreateEmbeddingResponse", json.load(post(plant, key, "/v1/embeddings", {"model": MODEL, "input": ["a", "b"], "dimensions": 8})))
    for path, name in (("/v1/models", "ListModelsResponse"), ("/v1/models/" + MODEL, "Model")):
        request = urllib.request.Request(plant.api + path, headers={"Authorization": "Bearer " + key})
        validate(name, json.load(urllib.request.urlopen(request)))
    for status, secret, wrong in ((400, key, {"n": 0}), (404, key, {"model": "nobody"}), (401, "sk-nobody", {}), (400, key, {"tools": [{"type": "custom"}]})):
        with pytest.raises(urllib.error.HTTPError) as e:
            post(plant, secret, "/v1/chat/completions", {**chat, **wrong})
        assert e.value.code == status
        validate("ErrorResponse", json.loads(e.value.read()))
