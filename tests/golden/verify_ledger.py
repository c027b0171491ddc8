#!/usr/bin/env python3
"""Checks a ledger file against docs/ledger_format.md, from which alone it was written (standard library only).

    verify_ledger.py LEDGER.sqlite [--charges YYYY-MM]

Prints the object of `tokenworks ledger verify --json`; exit 0 when the books are right, 1 when not. With --charges and right
books also what was settled in that month (UTC) per project: tokens, cost, and the charge by token class.
"""
import datetime
import hashlib
import json
import sqlite3
import sys
from collections import defaultdict

SEQ_BITS = 40
TYPES = {1: "hold", 2: "extend", 3: "settle", 4: "release", 5: "expire", 6: "topup", 7: "adjust"}
CONTEXT = ("organization", "project", "key_id", "actor", "model", "model_digest", "tokenizer_digest", "price_version",
           "price_hash", "tier", "currency", "build_id", "region", "jurisdiction", "data_class")


class Bad(Exception):
    pass


def i64(value):
    return value.to_bytes(8, "big", signed=True)


def u32(value):
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def text(value):
    data = value.encode("utf-8")
    return u32(len(data)) + data


def optional(value):
    return b"\0" if value is None else b"\1" + text(value)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Without a minor unit: amounts are millionths.
MICRO = set("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split())


def decimal(units, places=9):
    whole, rest = divmod(units, 10**places)
    return str(whole) if rest == 0 else f"{whole}.{rest:0{places}d}".rstrip("0")


def places_of(currencies):
    return 6 if currencies and set(currencies) <= MICRO else 9


def parse_lines(value):
    lines = []
    for item in value.split(",") if value else []:
        token_class, _, amount = item.partition(":")
        if not token_class or not amount.isdigit():
            raise Bad(f"charge lines {value!r} cannot be read")
        lines.append((token_class, int(amount)))
    return lines


def byte_form(e, writer_id, seq, context):
    return b"".join([
        u32(e["schema_version"]), text(writer_id), i64(seq), bytes([e["type"]]), i64(e["time"]), e["request"],
        *(text(context[field]) for field in CONTEXT),
        i64(e["input"]), i64(e["cached_input"]), i64(e["output"]), i64(e["reasoning"]), i64(e["amount"]), i64(e["held"]),
        text(e["lines"]), text(e["finish_reason"]), u32(e["retry_count"]),
        optional(e["token_commitment"]), optional(e["attestation_id"]), optional(e["receipt_id"]),
        i64(e["expires"]) + u32(len(e["tags"])) + e["tags"] if e["schema_version"] == 2 else b""])


def postings(e, lines):
    """(account, is the organization's own, debit, credit) of an entry."""
    kind, a = TYPES[e["type"]], e["amount"]
    if kind in ("hold", "extend"):
        return [("available", True, a, 0), ("held", True, 0, a)]
    if kind in ("release", "expire"):
        return [("held", True, a, 0), ("available", True, 0, a)]
    if kind == "settle":
        moves = [("held", True, e["held"], 0)]
        moves += [("revenue:" + token_class, False, 0, amount) for token_class, amount in lines]
        return moves + ([("available", True, 0, e["held"] - a)] if e["held"] != a else [])
    other = "funding" if kind == "topup" else "adjustment"
    moves = [(other, True, abs(a), 0), ("available", True, 0, abs(a))]
    return moves if a >= 0 else [(account, own, credit, debit) for account, own, debit, credit in moves]


def month_bounds(text):
    year, month = (int(part) for part in text.split("-"))
    first = datetime.datetime(year, month, 1, tzinfo=datetime.timezone.utc)
    after = datetime.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=datetime.timezone.utc)
    return int(first.timestamp()) * 10**9, int(after.timestamp()) * 10**9


class Checker:
    def __init__(self, path, month=None):
        self.month = month_bounds(month) if month else (0, 0)
        self.charges = defaultdict(lambda: ([0] * 6, defaultdict(int)))   # (organization, project, currency)
        self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.db.row_factory = sqlite3.Row
        self.db.execute("BEGIN")
        self.entries = self.debits = self.credits = 0
        self.holds = {}                                  # request -> [held, series owner, entry id]
        self.operations = set()
        self.accounts = defaultdict(lambda: [0, 0])      # (series, kind) -> debits, credits
        self.rollups = defaultdict(lambda: [0] * 6)      # (level, bucket, series) -> sums
        self.paid = defaultdict(lambda: {"debt": 0, "rows": {}})   # own series -> operation: time, expires, amount, left
        self.tags = defaultdict(lambda: [0, 0, 0])       # (bucket, own series, tag) -> requests, tokens, cost
        self.head = b"\0" * 32

    def run(self):
        first_bad = None
        try:
            self.read()
            self.walk()
            self.compare()
            if self.debits != self.credits:
                raise Bad("debits are not credits")
        except Bad as bad:
            first_bad = str(bad)
        places = places_of([s["currency"] for s in getattr(self, "series", {}).values()])
        report = {"ok": first_bad is None, "entries": self.entries, "open_holds": len(self.holds),
                "debits": decimal(self.debits, places), "credits": decimal(self.credits, places), "head": self.head.hex(),
                "first_bad": first_bad}
        if first_bad is None and self.month[1]:
            report["charges"] = [
                {"organization": who[0], "project": who[1], "currency": who[2], "requests": sums[0], "input": sums[1],
                 "cached_input": sums[2], "output": sums[3], "reasoning": sums[4], "cost": decimal(sums[5], places_of([who[2]])),
                 "lines": {token_class: decimal(lines[token_class], places_of([who[2]])) for token_class in sorted(lines)}}
                for who, (sums, lines) in sorted(self.charges.items())]
        return report

    def read(self):
        if self.db.execute("PRAGMA application_id").fetchone()[0] != 0x54574C31:
            raise Bad("not a ledger")
        if self.db.execute("PRAGMA user_version").fetchone()[0] != 3:
            raise Bad("a schema version this page does not describe")
        self.state = self.db.execute("SELECT * FROM state").fetchone()
        if len(self.state["rolled"]) != 8 * 256:
            raise Bad("state.rolled")
        self.rolled = [int.from_bytes(self.state["rolled"][i:i + 8], "big") for i in range(0, 8 * 256, 8)]
        if min(self.rolled) != self.state["rolled_through"]:
            raise Bad("rolled_through is not the least of rolled")
        self.series = {row["id"]: row for row in self.db.execute("SELECT * FROM series")}
        own = {(s["organization"], s["currency"]): s["id"] for s in self.series.values() if s["tier"] == ""}
        self.own = {s["id"]: own.get((s["organization"], s["currency"])) for s in self.series.values()}
        self.contexts = {}
        for row in self.db.execute("SELECT * FROM contexts"):
            series = self.series.get(row["series"])
            if series is None:
                raise Bad(f"context {row['id']} has no series")
            fields = {f: series[f] if f in series.keys() else row[f] for f in CONTEXT}
            self.contexts[row["id"]] = (row["series"], fields)

    def walk(self):
        rows = iter(self.db.execute("SELECT * FROM entries ORDER BY id"))
        entry = next(rows, None)
        previous_id, previous_seq, last_id = "", 0, 0
        for number, writer in enumerate(self.db.execute("SELECT * FROM writers ORDER BY number"), 1):
            writer_id = writer["writer_id"]
            genesis = sha256(text("tokenworks.ledger.writer.1"), i64(number), text(writer_id), text(previous_id),
                             i64(previous_seq), self.head)
            if writer["number"] != number or writer["genesis"] != genesis:
                raise Bad(f"{writer_id}/0: genesis")
            self.head, seq = genesis, 0
            while entry is not None and entry["id"] >> SEQ_BITS == number:
                seq += 1
                try:
                    if entry["id"] & ((1 << SEQ_BITS) - 1) != seq:
                        raise Bad("the entry is missing")
                    self.check(entry, writer_id, seq)
                except Bad as bad:
                    raise Bad(f"{writer_id}/{seq}: {bad}") from None
                self.entries += 1
                last_id = entry["id"]
                entry = next(rows, None)
            previous_id, previous_seq = writer_id, seq
        if entry is not None:
            raise Bad(f"entry {entry['id']} has no writer")
        if max(self.rolled) > last_id:
            raise Bad("entries are missing at the end")

    def check(self, e, writer_id, seq):
        if e["context"] not in self.contexts:
            raise Bad("its context is missing")
        series, context = self.contexts[e["context"]]
        self.head = sha256(self.head, byte_form(e, writer_id, seq, context))
        if e["hash"] != self.head:
            raise Bad("hash")
        owner = self.own[series]
        if e["type"] not in TYPES or owner is None:
            raise Bad("unknown type or organization")
        if e["schema_version"] not in (1, 2) or (e["schema_version"] == 1 and (e["expires"] or e["tags"])):
            raise Bad("fields its schema version does not have")
        kind, lines = TYPES[e["type"]], parse_lines(e["lines"])
        if sum(amount for _, amount in lines) != (e["amount"] if kind == "settle" else 0):
            raise Bad("the lines are not the amount")
        self.follow(e, kind, owner)
        if kind == "settle" and self.month[0] <= e["time"] < self.month[1]:
            sums, by_class = self.charges[(context["organization"], context["project"], context["currency"])]
            for i, value in enumerate((1, e["input"], e["cached_input"], e["output"], e["reasoning"], e["amount"])):
                sums[i] += value
            for token_class, amount in lines:
                by_class[token_class] += amount
        for account, is_own, debit, credit in postings(e, lines):
            self.debits += debit
            self.credits += credit
            if self.included(e, owner if is_own else series):
                totals = self.accounts[(owner if is_own else series, account)]
                totals[0] += debit
                totals[1] += credit
        if self.included(e, owner) and kind in ("settle", "topup", "adjust"):
            self.follow_credits(e, kind, owner)
        if self.included(e, owner) and kind == "settle":
            for at in range(0, len(e["tags"]), 16):
                sums = self.tags[(e["time"] // 10**9 // 900 * 900, owner, e["tags"][at:at + 16])]
                for i, value in enumerate((1, e["input"] + e["output"], e["amount"])):
                    sums[i] += value
        if self.included(e, series) and kind == "settle":
            seconds = e["time"] // 10**9
            for level in (60, 3600, 86400):
                bucket = seconds // level * level
                if level == 60 and bucket < self.state["minute_from"]:
                    continue
                sums = self.rollups[(level, bucket, series)]
                for i, value in enumerate((1, e["input"], e["cached_input"], e["output"], e["reasoning"], e["amount"])):
                    sums[i] += value

    def included(self, e, series):
        return e["id"] <= self.rolled[series // 16 % 256]

    def follow_credits(self, e, kind, owner):
        account = self.paid[owner]
        if kind != "settle" and e["amount"] > 0:
            paid = min(account["debt"], e["amount"])
            account["debt"] -= paid
            account["rows"][bytes(e["request"])] = [e["time"], e["expires"], e["amount"], e["amount"] - paid]
            return
        left = e["amount"] if kind == "settle" else -e["amount"]
        order = sorted(account["rows"], key=lambda o: (account["rows"][o][1] == 0, account["rows"][o][1], o))
        for operation in order:
            row = account["rows"][operation]
            part = min(row[3], left)
            row[3] -= part
            left -= part
        account["debt"] += left

    def follow(self, e, kind, owner):
        request, hold = bytes(e["request"]), self.holds.get(bytes(e["request"]))
        if kind == "hold":
            if hold:
                raise Bad("a second hold")
            self.holds[request] = [e["amount"], owner, e["id"]]
        elif kind in ("topup", "adjust"):
            if request in self.operations:
                raise Bad("an operation a second time")
            self.operations.add(request)
        else:
            if not hold or hold[1] != owner:
                raise Bad("no open hold")
            if kind == "extend":
                hold[0] += e["amount"]
            else:
                if e["held"] != hold[0] or e["amount"] > hold[0] or (kind != "settle" and e["amount"] != hold[0]):
                    raise Bad("held and amount do not fit the hold")
                del self.holds[request]
        if kind not in ("settle", "release", "expire") and e["held"] != 0:
            raise Bad("held on an entry that ends nothing")

    def compare(self):
        stored = {bytes(r["request"]): (r["held"], r["entry"]) for r in self.db.execute("SELECT * FROM open_holds")}
        if stored != {request: (hold[0], hold[2]) for request, hold in self.holds.items()}:
            raise Bad("open_holds")
        stored = {(r["series"], r["kind"]): [int.from_bytes(r["debits"], "big"), int.from_bytes(r["credits"], "big")]
                  for r in self.db.execute("SELECT * FROM accounts")}
        if stored != dict(self.accounts):
            raise Bad("accounts")
        stored = {(r["level"], r["bucket"], r["series"]):
                  [r["requests"], r["input"], r["cached_input"], r["output"], r["reasoning"], r["cost"]]
                  for r in self.db.execute("SELECT * FROM rollups")}
        if stored != dict(self.rollups):
            raise Bad("rollups")
        stored = {(r["series"], bytes(r["operation"])): [r["booked_unix_ns"], r["expires_unix_ns"], r["amount"], r["remaining"]]
                  for r in self.db.execute("SELECT * FROM credits")}
        if stored != {(owner, o): row for owner, a in self.paid.items() for o, row in a["rows"].items()}:
            raise Bad("credits")
        stored = {(r["bucket"], r["series"], r["tag"]): [r["requests"], r["tokens"], r["cost"]]
                  for r in self.db.execute("SELECT * FROM tag_spend")}
        if stored != dict(self.tags):
            raise Bad("tag_spend")


def main():
    if len(sys.argv) not in (2, 4) or sys.argv[2:3] not in ([], ["--charges"]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        report = Checker(sys.argv[1], *sys.argv[3:]).run()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as damage:
        report = {"ok": False, "entries": 0, "open_holds": 0, "debits": "0", "credits": "0", "head": "",
                  "first_bad": f"the file cannot be read: {damage}"}
    print(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
