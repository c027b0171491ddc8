"""Validates JSON texts against their schemas with PyPI `jsonschema`: what the grammar room's tests generate.

    python tests/support/check_instances.py FILE

FILE has one JSON object per line: {"schema": ..., "text": "..."}. Prints what is not valid; exit code 1 if anything is.
FORMATS, format checks written from the RFCs with the standard library, is shared with tests/golden/grammars.py.
"""
import datetime
import ipaddress
import json
import re
import sys
import uuid


def _date(s):
    if not isinstance(s, str):
        return True
    return re.fullmatch(r"\d{4}-\d\d-\d\d", s, re.ASCII) is not None and _parses(datetime.date.fromisoformat, s)


def _parses(parse, s):
    try:
        parse(s)
        return True
    except ValueError:
        return False


def _time(s):
    if not isinstance(s, str):
        return True
    m = re.fullmatch(r"(\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", s, re.ASCII)
    zone = m and (m[3] == "Z" or (int(m[3][1:3]) < 24 and int(m[3][4:]) < 60))
    return bool(m and zone and _parses(datetime.time.fromisoformat, m[1]))


def _text(check):
    return lambda s: not isinstance(s, str) or check(s)


LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = rf"{LABEL}(\.{LABEL})*"
PCHAR = r"([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
FORMATS = {
    "date": _date,
    "time": _time,
    "date-time": _text(lambda s: "T" in s and _date(s.split("T", 1)[0]) and _time(s.split("T", 1)[1])),
    "uuid": _text(lambda s: len(s) == 36 and all(s[i] == "-" for i in (8, 13, 18, 23)) and _parses(uuid.UUID, s)),
    "email": _text(lambda s: re.fullmatch(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{LABEL}(\.{LABEL})+", s) is not None),
    "hostname": _text(lambda s: re.fullmatch(HOST, s) is not None and len(s) < 254),
    "ipv4": _text(lambda s: _parses(ipaddress.IPv4Address, s)),
    "ipv6": _text(lambda s: "%" not in s and "." not in s and _parses(ipaddress.IPv6Address, s)),
    "uri": _text(lambda s: re.fullmatch(rf"[A-Za-z][A-Za-z0-9+.-]*:(//({HOST})(:\d+)?(/{PCHAR}*)*|/?({PCHAR}+(/{PCHAR}*)*)?)(\?({PCHAR}|[/?])*)?(#({PCHAR}|[/?])*)?", s) is not None),
}


def main(path):
    import jsonschema
    checker = jsonschema.FormatChecker(formats=())
    for name, check in FORMATS.items():
        checker.checks(name)(check)
    validators, bad, count = {}, 0, 0
    with open(path, encoding="utf-8") as f:
        for line in f:
            entry = json.loads(line)
            key = json.dumps(entry["schema"])
            if key not in validators:
                cls = jsonschema.Draft7Validator if "draft-07" in key else jsonschema.Draft202012Validator
                validators[key] = cls(entry["schema"], format_checker=checker)
            count += 1
            try:
                errors = [e.message for e in validators[key].iter_errors(json.loads(entry["text"]))]
            except ValueError as e:
                errors = [f"not JSON: {e}"]
            if errors:
                bad += 1
                if bad < 10:
                    print("INVALID", key[:300], entry["text"][:300], errors[0][:300], sep="\n  ")
    print(f"{count} texts, {bad} invalid")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
