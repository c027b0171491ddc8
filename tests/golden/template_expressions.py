"""Random Jinja expressions and what transformers makes of them: breadth that no list of snippets has.

Usage: template_expressions.py OUTDIR. Builds expressions from the variables of tests/golden/templates/snippets.py,
filters, methods, operators and tests (most combinations are type errors, which must be errors for us too) and writes
OUTDIR/cases.json as templates.py does. Seeded.
"""
import json
import os
import random
import re
import sys

import templates as reference
from snippets import VARIABLES

NAMES = list(VARIABLES) + ["missing", "d.a", "users[0]", "users[0].name", "nested[1]", "items[0]", "d.k", "json.o", "tree[0].kids"]
LITERALS = ["1", "0", "-3", "2.5", "'a'", "'A b'", "''", "none", "true", "false", "[]", "[1, 'x']", "(1, 2)", "{}", "{'a': 1}", "'é'",
            "1e3", "7"]
FILTERS = ["upper", "lower", "trim", "length", "join", "join(',')", "default('q')", "default('q', true)", "first", "last", "list", "sort",
           "unique|list", "reverse|list", "sum", "min", "max", "int", "float", "abs", "round", "round(1)", "string", "tojson",
           "tojson(indent=2)", "capitalize", "title", "replace('a','b')", "map('upper')|list", "map(attribute='name')|list", "select|list",
           "reject|list", "selectattr('on')|list", "selectattr('name')|map(attribute='name')|list", "items|list", "dictsort",
           "batch(2)|list", "slice(2)|list", "wordcount", "indent", "center(9)", "truncate(5)", "urlencode", "format", "count", "d", "safe",
           "sort(reverse=true)", "sort(attribute='name')", "unique(case_sensitive=true)|list", "join('-', attribute='name')",
           "groupby('age')|length", "sum(attribute='age')", "select('string')|list", "reject('number')|list", "select('gt', 1)|list",
           "map('length')|list", "map('int')|list", "tojson(sort_keys=true)"]
METHODS = ["upper()", "strip()", "split()", "split('a')", "startswith('a')", "title()", "items()|list", "keys()|list", "values()|list",
           "get('a')", "get('zz', 3)", "count('a')", "find('a')", "splitlines()", "rsplit(none, 1)", "isdigit()", "isalpha()", "index('a')",
           "join(['x','y'])", "replace('a', 'b', 1)", "name", "a", "x", "0", "capitalize()", "swapcase()", "lstrip('tT ')", "zfill(8)",
           "copy()", "partition(' ')", "islower()", "isupper()", "casefold()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]
TESTS = ["defined", "none", "string", "number", "mapping", "iterable", "sequence", "odd", "even", "integer", "float", "boolean", "true",
         "false", "lower", "upper", "divisibleby 3", "eq 1", "in items", "sameas none", "callable", "undefined", "gt 1", "test", "filter"]
SLICES = ["1:", ":2", "::-1", "-2:", "::2", "3:0:-1"]
STATEMENTS = ["{%% for x in %s %%}{{ x }}{{ loop.last }},{%% else %%}E{%% endfor %%}", "{%% if %s %%}Y{%% else %%}N{%% endif %%}",
              "{%% set v = %s %%}[{{ v }}]", "{{ %s }}", "{{ %s }}", "{{- %s -}}", "{%% filter upper %%}{{ %s }}{%% endfilter %%}",
              "{%% for k, v in %s %%}{{ k }}={{ v }};{%% endfor %%}"]
# What Python prints of objects that have no text of their own means nothing to compare with.
OPAQUE = re.compile(r" at 0x|<generator|<built-in|<bound method|Undefined|<function|<class|<jinja2|reversed|iterator object|Markup", re.I)


def expression(r, depth):
    k = r.random()
    if depth <= 0 or k < 0.25:
        return r.choice(NAMES) if r.random() < 0.6 else r.choice(LITERALS)
    inner = lambda: expression(r, depth - 1)  # noqa: E731
    if k < 0.45:
        return f"({inner()})|{r.choice(FILTERS)}"
    if k < 0.60:
        return f"({inner()}).{r.choice(METHODS)}"
    if k < 0.78:
        return f"({inner()} {r.choice(OPERATORS)} {inner()})"
    if k < 0.86:
        return f"({inner()}) is {r.choice(['', 'not '])}{r.choice(TESTS)}"
    if k < 0.90:
        return f"({inner()})[{expression(r, depth - 2)}]"
    if k < 0.94:                                     # of a name: Jinja folds slices of constants into undefined, a quirk
        return f"({r.choice(list(VARIABLES))})[{r.choice(SLICES)}]"
    if k < 0.97:
        return f"({inner()} if {inner()} else {inner()})"
    return r.choice([f"[{inner()}, {inner()}]", f"{{'k': {inner()}, 'l': {inner()}}}", f"'%s' % ({inner()},)", f"'{{}}'.format({inner()})",
                     f"-({inner()})", f"not {inner()}", f"dict(a={inner()})", f"range({expression(r, 0)})|list"])


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    r = random.Random(20260801)
    cases = []
    while len(cases) < 2500:
        template = r.choice(STATEMENTS) % expression(r, 3)
        made = reference.case(f"expression {len(cases)}", template, [], None, VARIABLES, True, {}, opaque=OPAQUE)
        if made is not None:
            cases.append(made)
    with open(out + "/cases.json", "w", encoding="utf-8") as f:
        json.dump({"unix_seconds": reference.NOW, "cases": cases}, f, ensure_ascii=False)
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors")


if __name__ == "__main__":
    main()
