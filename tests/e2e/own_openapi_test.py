"""docs/openapi.yaml is what we serve: equal to the table of routes, to what the daemon answers, and schemathesis finds no
answer of the real daemon that breaks it."""
import copy, json, os, pathlib, re, subprocess, sys, urllib.error, urllib.request

import pytest
import yaml

from embeddings_test import ENCODER, PLANT, PRICES, TENANTS
from plant import NAME, Plant

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def plant():
    with Plant(plant=PLANT, prices=PRICES, tenants=TENANTS, context=256, kv="64MiB") as running:
        yield running


def documented(listener):
    return {(method.upper(), re.sub(r"\{\w+\}", "{}", path)): operation for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items() if listener in operation["x-listener"].split(", ")}


def table(name):
    source = (ROOT / "src/http/routes.cpp").read_text()
    rows = source[source.index(f"constexpr Route {name}[]"):]
    rows = rows[:rows.index("};")]
    return {(method, pattern.replace("{*}", "{}")): access for method, pattern, access in re.findall(r'\{"(\w+)", "([^"]+)", Access::(\w+)', rows)}


@pytest.mark.parametrize("listener, name", [("api", "kApi"), ("admin", "kAdmin")])
def test_the_document_names_exactly_the_routes_of_the_table(listener, name):
    routes = table(name)
    assert len(routes) >= 8
    assert documented(listener).keys() == routes.keys()
    for route, operation in documented(listener).items():
        assert (operation.get("security") == []) == (routes[route] == "open"), f"{route}: with or without a key?"


def ask(url, method):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30)
    except urllib.error.HTTPError as e:
        return e


@pytest.mark.parametrize("listener", ["api", "admin"])
def test_the_daemon_answers_the_documented_methods_and_no_other(plant, listener):
    base = plant.api if listener == "api" else plant.admin
    paths = {}
    for method, path in documented(listener):
        paths.setdefault(path, set()).add(method)
    for path, methods in paths.items():
        answer = ask(base + path.replace("{}", "x"), "PATCH")
        assert answer.status == 405, path
        allowed = set(answer.headers["allow"].split(", "))
        assert allowed == methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()), path
    assert ask(base + "/v1/no-such-route", "PATCH").status == 404


def bounded(listener):
    """The document with models that are there and answers that are short, so that most requests are really run."""
    document = copy.deepcopy(DOCUMENT)
    for path in list(document["paths"]):
        item = {m: o for m, o in document["paths"][path].items() if listener in o["x-listener"].split(", ")}
        # A backup writes where it is told to; verifying and erasing take the ledger thread from the others.
        if not item or "/ledger/" in path:
            del document["paths"][path]
        else:
            document["paths"][path] = item
    schemas = document["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest", "TokenizeRequest", "DetokenizeRequest"):
        schemas[name]["properties"]["model"] = {"type": "string", "enum": [NAME, "default", ENCODER, "no-such-model"]}
    schemas["EmbeddingRequest"]["properties"]["model"] = {"type": "string", "enum": [ENCODER, NAME, "chat-only"]}
    for name in ("ChatRequest", "CompletionRequest"):
        properties = schemas[name]["properties"]
        schemas[name]["required"] = schemas[name]["required"] + ["max_tokens"]
        properties["max_tokens"] = {"type": "integer", "minimum": 1, "maximum": 3}
        properties["n"] = {"type": "integer", "minimum": 1, "maximum": 2}
        properties.pop("max_completion_tokens", None)
        properties.pop("logit_bias", None)
    return document


@pytest.mark.parametrize("listener, examples", [("api", 25), ("admin", 10)])
def test_schemathesis_finds_no_answer_that_breaks_the_document(plant, tmp_path, listener, examples):
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(bounded(listener)))
    base, key = (plant.api, plant.key()) if listener == "api" else (plant.admin, plant.operator_key())
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(path), "--url", base, "-H", "Authorization: Bearer " + key,
               "--phases", "examples,fuzzing", "--max-examples", str(examples), "--seed", "7", "--generation-deterministic", "--workers", "1",
               "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
               "--request-timeout", "60", "--no-color"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, cwd=tmp_path,
                          env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis")})
    assert done.returncode == 0, done.stdout[-6000:]
    assert plant.process.poll() is None
