"""The JSON-Schema-Test-Suite as the grammar room's tests read it.

    python tests/golden/schema_suite.py OUTDIR

Writes OUTDIR/suite.json: one entry per schema of the suite's draft 2020-12 (and of the files in which draft 7 differs): its
file (the keyword), description, the schema as text, and the instances with the texts each may be written as. An answer's
members come in the schema's order, so a valid instance counts as taken when one order of its members is, and an invalid one
as refused when every order is. The suite comes out of the sdist of PyPI `jsonschema` (deploy/fetch-schema-suite).
"""
import itertools
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRAFT7 = ["items", "additionalItems", "definitions", "ref"]
FORMATS = ["date", "date-time", "duration", "time", "uuid", "email", "hostname", "ipv4", "ipv6", "uri"]
TEXTS_MAX = 150


def spellings(value):
    """Every order of the members, up to a bound; whole floats as integers too."""
    if isinstance(value, dict):
        orders = [list(value)] if len(value) > 5 else itertools.permutations(value)
        for order in orders:
            for parts in itertools.islice(itertools.product(*(list(itertools.islice(spellings(value[k]), 6)) for k in order)), 40):
                yield "{" + ", ".join(json.dumps(k, ensure_ascii=False) + ": " + p for k, p in zip(order, parts)) + "}"
    elif isinstance(value, list):
        for parts in itertools.islice(itertools.product(*(list(itertools.islice(spellings(v), 24)) for v in value)), TEXTS_MAX):
            yield "[" + ", ".join(parts) + "]"
    else:
        if isinstance(value, float) and value == int(value) and abs(value) < 1e20:
            yield str(int(value))
        yield json.dumps(value, ensure_ascii=False)


def encodable(text):
    """Half a surrogate pair is no text."""
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def read(path, name, entries):
    for group in json.loads(path.read_text(encoding="utf-8")):
        tests = []
        for test in group["tests"]:
            texts = [t for t in dict.fromkeys(itertools.islice(spellings(test["data"]), TEXTS_MAX)) if encodable(t)]
            tests.append({"description": test["description"], "valid": test["valid"], "texts": texts})
        entries.append({"file": name, "description": group["description"], "schema": json.dumps(group["schema"], ensure_ascii=False), "tests": tests})


def main(out):
    suite = pathlib.Path(subprocess.run([str(ROOT / "deploy/fetch-schema-suite")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    entries = []
    for path in sorted((suite / "draft2020-12").glob("*.json")):
        read(path, path.stem, entries)
    for name in DRAFT7:
        read(suite / "draft7" / f"{name}.json", "draft 7: " + name, entries)
    for name in FORMATS:
        read(suite / "draft2020-12/optional/format" / f"{name}.json", "format " + name, entries)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "suite.json"), "w", encoding="utf-8") as f:
        json.dump(entries, f, ensure_ascii=True)


if __name__ == "__main__":
    main(sys.argv[1])
