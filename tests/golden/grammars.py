"""Expectations of tests/unit/grammar: which JSON texts are valid for which schema, by PyPI `jsonschema`, and which strings
match which regular expressions, by Python's `re`.

    python tests/golden/grammars.py OUTDIR

Writes schemas.json: [{"schema", "valid": [text], "invalid": [text]}], and patterns.json: [{"pattern", "yes", "no"}].
Objects are written with their properties in the schema's order, which is the order the grammar allows. Each text comes as
json.dumps writes it by default, compact or indented.
"""
import itertools
import json
import os
import random
import re
import sys

import jsonschema

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from check_instances import FORMATS  # noqa: E402

POINT = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x", "y"], "additionalProperties": False}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
    "value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value"], "additionalProperties": False}}}

SCHEMAS = [
    True, {}, {"type": "null"}, {"type": "boolean"}, {"type": "integer"}, {"type": "number"}, {"type": "string"}, {"type": "array"}, {"type": "object"},
    {"type": ["string", "null"]}, {"type": ["integer", "boolean", "array"]}, {"enum": ["a", "b\n\"", 1, 2.5, None, True, [1, {"k": "v"}], {"a": [], "b": {}}]},
    {"const": "ü😀"}, {"const": {"a": 1, "b": [True]}}, {"type": "string", "enum": ["x", 3, "long one"]}, {"enum": [1, 5, 9, 12], "minimum": 4, "maximum": 10},
    {"type": "string", "minLength": 2}, {"type": "string", "maxLength": 3}, {"type": "string", "minLength": 1, "maxLength": 1}, {"minLength": 3, "maxLength": 5},
    {"type": "string", "pattern": "^[a-z]+[0-9]{2,3}$"}, {"type": "string", "pattern": "b+c"}, {"type": "string", "pattern": "^(ab|cd)*$", "maxLength": 6},
    {"type": "string", "pattern": "^\\d{3}-\\d{4}$"}, {"type": "string", "pattern": "^\\s*\\w+$"}, {"type": "string", "pattern": "(^a|b$)"},
    {"type": "string", "pattern": "^[^\\\\\"\\n]*\\n$"}, {"type": "string", "pattern": "é|ü+"}, {"pattern": "^x", "type": ["string", "integer"]},
    {"type": "integer", "minimum": 0, "maximum": 255}, {"type": "integer", "minimum": -17, "exclusiveMaximum": 5}, {"type": "integer", "exclusiveMinimum": 99},
    {"type": "integer", "maximum": -3}, {"type": "integer", "minimum": 1000000, "maximum": 1000003}, {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5}, {"type": "number", "minimum": -2.25, "maximum": 10.75}, {"type": "number", "maximum": -0.5},
    {"type": "number", "minimum": 3}, {"type": "integer", "multipleOf": 7}, {"type": "integer", "multipleOf": 5, "minimum": 10, "maximum": 40},
    {"type": "number", "multipleOf": 3}, {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}, {"minimum": 5}, {"type": "integer", "minimum": 2.5, "maximum": 4.5},
    {"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}, {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}, {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 1, "maxItems": 4}, {"minItems": 1, "items": {"enum": [0]}},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "null"}, "minItems": 3}, {"items": {"type": "array", "items": {"type": "array", "maxItems": 1}}, "type": "array"},
    POINT, TREE, {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}}, "required": ["b"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "integer"}, "ab": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}}, {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": False}, {"type": "object", "properties": {"a": False, "b": {}}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^n_": {"type": "integer"}, "_s$": {"type": "string"}}, "additionalProperties": False},
    {"type": "object", "properties": {"n_x": {"minimum": 3}, "z": {}}, "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}},
    {"type": "object", "required": ["q"]}, {"type": "object", "properties": {"a": {}}, "required": ["a", "q"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer"}}, {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "minProperties": 1, "additionalProperties": False},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer", "minimum": 5}]}, {"anyOf": [POINT, {"type": "array", "items": POINT, "maxItems": 2}]},
    {"anyOf": [{"required": ["x"]}, {"required": ["y"]}], "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, "additionalProperties": False},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 4}]},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind", "r"], "additionalProperties": False},
               {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number"}}, "required": ["kind", "side"], "additionalProperties": False}]},
    {"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]}, {"oneOf": [{"enum": [1, 2]}, {"enum": ["x"]}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "string"}}, "required": ["b"]}]},
    {"allOf": [{"properties": {"a": {"minimum": 2}}}, {"properties": {"a": {"maximum": 4}}}], "type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"allOf": [{"minLength": 2}, {"maxLength": 4}, {"pattern": "^[ab]*$"}], "type": "string"}, {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]},
    {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]},
    {"$defs": {"name": {"type": "string", "minLength": 1}, "person": {"type": "object", "properties": {"name": {"$ref": "#/$defs/name"}, "boss": {
        "anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]}}, "required": ["name"], "additionalProperties": False}}, "$ref": "#/$defs/person"},
    {"type": "object", "properties": {"next": {"$ref": "#"}, "v": {"type": "integer"}}, "additionalProperties": False},
    {"$ref": "#/definitions/a~1b", "maximum": 9, "definitions": {"a/b": {"type": "integer"}}},
    {"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": {"type": "null"}, "$schema": "http://json-schema.org/draft-07/schema#"},
    *({"type": "string", "format": f} for f in FORMATS),
    {"type": "string", "format": "date", "pattern": "^2024"}, {"type": "string", "format": "ipv4", "maxLength": 9},
    {"title": "Event", "description": "an event", "type": "object", "properties": {
        "id": {"type": "string", "format": "uuid"}, "kind": {"enum": ["create", "update", "delete"]}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 5},
        "score": {"type": ["number", "null"], "minimum": 0, "maximum": 100}, "place": {"anyOf": [POINT, {"type": "null"}], "default": None}},
     "required": ["id", "kind", "tags"], "additionalProperties": False},
]

STRINGS = ["", "a", "b", "ab", "abc", "abab", "abcdab", "x", "bc", "zzbbc!", "a12", "abc123", "abc1234", "555-1234", " word", "two words", "é", "aü", "😀", "😀😀😀", "\n", "a\n",
           "line\nbreak", "tab\t", "quote\"", "back\\slash", "\u0001", "n_x", "_s", "ünïcödé", "circle", "square", "create", "long one", "ü😀", "b\n\"", "\u2028"]
FORMAT_STRINGS = [
    "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "2024-13-01", "2024-04-31", "0001-01-01", "0000-01-01", "24-01-01", "2024-1-1", "12:30:45Z", "12:30:45", "23:59:59.123+01:00", "24:00:00Z",
    "12:60:00Z", "12:30:45-23:59", "2024-02-29T12:30:45Z", "2024-02-30T12:30:45Z", "2024-01-01T00:00:00.5-08:00", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00",
    "123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000", "123e4567e89b12d3a456426614174000", "g23e4567-e89b-12d3-a456-426614174000",
    "a@b.co", "first.last+tag@sub.example.org", "nobody", "@x.com", "a@", "a b@c.de", "1.2.3.4", "255.255.255.255", "256.1.1.1", "1.2.3", "01.2.3.4", "1.1.1.1",
    "::", "::1", "1::", "fe80::1", "2001:db8:85a3::8a2e:370:7334", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1::2::3", ":::", "12345::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8",
    "https://example.com", "https://example.com/a/b?c=d&e=%20#f", "http://127.0.0.1:8080/x", "mailto:a@b.co", "urn:isbn:0451450523", "no scheme", "//example.com", "http://exa mple.com", "http://a/%zz",
    "example.com", "a-b.example", "-bad.example", "localhost",
]


def ordered(value, schema):
    """The instance as the grammar writes it: declared properties, then required ones that are not declared, then others."""
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return value
    first = [*schema.get("properties", {}), *sorted(schema.get("required", []))]
    return {k: value[k] for k in [*(k for k in dict.fromkeys(first) if k in value), *(k for k in value if k not in first)]}


def instances(rng, schema):
    """A pool of values, most of which miss; the rest come from the generator below."""
    scalars = [None, True, False, *range(-4, 13), 14, 15, 20, 28, 35, 40, 42, 45, 99, 100, 101, 255, 256, 1000, 999999, 1000000, 1000003, 1000004, -17, -18, -100, 0.5, 0.0, 1.5, 1.49, -0.5, -0.25,
               -2.25, -2.26, 10.75, 10.751, 2.5, 4.5, 123456.789, 1e-5, *STRINGS]
    lists = [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 3], [True], [True, False], [True, False, True], [True] * 4, ["a"], ["a", 1], ["a", 1, None], ["a", "b"], [1, "a"], [1, "a", None], [1, "a", 0],
             [None], [None] * 3, [None] * 5, [[[1]], []], [[[1, 2]]], [0, 0], [{"x": 1, "y": 2.5}], [{"x": 1, "y": 2}, {"x": 0, "y": 0}], [1, {"k": "v"}]]
    objects = [{}, {"a": 1}, {"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": True}, {"b": "x"}, {"b": "x", "c": False}, {"c": True}, {"a": "1"}, {"a": 1, "ab": "x"}, {"a": 1, "ab": 2}, {"a": 1, "abc": 2},
               {"a": 1, "zz": "s"}, {"a": 1, "zz": 2}, {"zz": 2}, {"q": None}, {"a": [], "q": 3}, {"a": 0, "q": "x"}, {"x": 1, "y": 2.5}, {"x": 1}, {"y": 1}, {"x": 1, "y": 2, "z": 3}, {"x": "1", "y": 2},
               {"value": 1}, {"value": 1, "children": []}, {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}, {"value": 4}]}, {"value": 1, "children": [{"value": "2"}]}, {"children": []},
               {"kind": "circle", "r": 1.5}, {"kind": "square", "side": 2}, {"kind": "circle", "side": 2}, {"kind": "circle"}, {"n_a": 1}, {"n_a": "x"}, {"n_a": 1, "b_s": "x"}, {"b_s": 1}, {"other": 1},
               {"n_x": 3}, {"n_x": 2}, {"n_x": 3, "z": {"deep": [1, {"er": None}]}}, {"n_x": 4, "n_y": 5, "w": True}, {"n_x": 4, "w": 1}, {"a": 1, "b": 2}, {"b": 2}, {"a": 2, "b": "s"}, {"a": 3}, {"a": 5},
               {"name": "n"}, {"name": ""}, {"name": "n", "boss": None}, {"name": "n", "boss": {"name": "m", "boss": {"name": "o"}}}, {"name": "n", "boss": 1}, {"next": {"next": {}, "v": 1}, "v": 2}, {"next": {"v": "x"}},
               {"a": 1, "b": [True]}, {"a": [], "b": {}}, {"u1": 1, "u2": 2}, {"u1": 1, "u2": 2, "u3": 3}, {"": 1}, {"quote\"": 1}, {"ü": 1},
               {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "create", "tags": []},
               {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "update", "tags": ["x", "yy"], "score": 99.5, "place": {"x": 1, "y": -2}},
               {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "update", "tags": ["x", "much too long a tag"], "score": 99.5},
               {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "wrong", "tags": []}, {"id": "x", "kind": "create", "tags": []},
               {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "delete", "tags": [], "score": None, "place": None}, {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "delete", "tags": [], "score": 101}]
    return scalars + (FORMAT_STRINGS if "format" in json.dumps(schema) else []) + lists + objects


def texts(rng, value):
    yield json.dumps(value, ensure_ascii=False)
    yield rng.choice([json.dumps(value, separators=(",", ":"), ensure_ascii=False), json.dumps(value, indent=2, ensure_ascii=False)])


def has_integral_float(value):
    """1.0 is an integer to JSON Schema; the grammar writes integers without a point."""
    if isinstance(value, float):
        return value == int(value)
    if isinstance(value, dict):
        return any(map(has_integral_float, value.values()))
    return isinstance(value, list) and any(map(has_integral_float, value))


def known_gap(schema, value):
    """What is valid but not written: documented in docs/structured_output.md."""
    text = json.dumps(schema)
    if isinstance(value, str) and '"pattern"' in text:  # where Python's re and ECMA 262 disagree: $ before a line end, \\w and \\s beyond ASCII
        return (value.endswith("\n") and "\\\\n$" not in text) or ("\\\\w" in text and not value.isascii())
    return isinstance(value, float) and "e" in repr(value) and "imum" in text  # exponents where there are bounds


def schema_cases():
    rng = random.Random(1)
    checker = jsonschema.FormatChecker(formats=())
    for name, check in FORMATS.items():
        checker.checks(name)(check)
    cases = []
    for schema in SCHEMAS:
        cls = jsonschema.Draft7Validator if isinstance(schema, dict) and "draft-07" in schema.get("$schema", "") else jsonschema.Draft202012Validator
        validator = cls(schema, format_checker=checker)
        valid, invalid = [], []
        for value in instances(rng, schema):
            if has_integral_float(value) or known_gap(schema, value):
                continue
            good = validator.is_valid(value)
            (valid if good else invalid).extend(texts(rng, ordered(value, schema)))
        # Texts that are not JSON at all, or JSON cut off.
        for text in ["", " ", "{", "}", "[1,]", "{\"a\":}", "nul", "01", "1.", ".5", "+1", "\"a", "'a'", "[1 2]", "{\"a\" 1}", "\"\t\"", "\"\\x\"", "-", "1e", "tru", "NaN", "{\"a\":1,}", "\"\\ud800\""]:
            invalid.append(text)
        if schema is not True and not valid:
            raise SystemExit(f"no valid instance for {schema}")
        cases.append({"schema": schema, "valid": sorted(set(valid)), "invalid": sorted(set(invalid))})
    return cases


PATTERNS = ["abc", "a*b+c?", "(ab|cd)+", "[a-c]{2,4}", "[^a-c]", "a.c", "\\d+\\.\\d{2}", "(?:x|y)z", "x{3}", "x{2,}", "é+", "[à-ü]+", "\\u00e9", "\\x41", "a|b|", "()", "[\\w.-]+@[\\w-]+", "\\(\\)\\[\\]",
            "\\t\\n", "[\\d\\-x]*", "(a(b(c)?)?)?", "^abc$", "(?P<n>a)b", "a+?b", "[]a]" if False else "[a\\]]", "😀+", "[😀-😂]", "\\$1\\^", "{a}", "a{,3}" if False else "a{0,3}", "\\.", "[.]", "[$^]"]


def pattern_cases():
    rng = random.Random(2)
    alphabet = "abcdxyz.éàü😀😁A1203-@()[]\t\n$^{} "
    cases = []
    for p in PATTERNS:
        pool = {"".join(rng.choice(alphabet) for _ in range(rng.randint(0, 5))) for _ in range(600)}
        pool |= set(map("".join, itertools.product("abcx", repeat=3))) | {"abcd", "cdab", "1.25", "12.345", "a@b-c", "()[]", "\t\n", "xxxx", "éé", "\u00e9", "A", "x-1", "$1^", "{a}", "aaa", "aaaa", "a]", "yz", "", "ab", "abc", "abb", "éé", "x{", "\\"}
        yes = sorted(s for s in pool if re.fullmatch(p, s, re.ASCII))
        no = sorted(s for s in pool if not re.fullmatch(p, s, re.ASCII))
        if not yes:
            raise SystemExit(f"nothing matches {p}")
        cases.append({"pattern": p, "yes": yes, "no": no})
    return cases


def main(out):
    os.makedirs(out, exist_ok=True)
    for name, cases in (("schemas", schema_cases()), ("patterns", pattern_cases())):
        with open(os.path.join(out, name + ".json"), "w") as f:
            json.dump(cases, f)


if __name__ == "__main__":
    main(sys.argv[1])
