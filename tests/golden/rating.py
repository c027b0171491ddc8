"""Expectations for billing/price_book, from Python's exact fractions and its own time zones (zoneinfo).

Usage: rating.py OUTDIR. Prices are seven, in the order of CLASSES, in pico-units, then the pico-units of one unit of money.
  rate.csv     prices, unit; tokens of the first six classes; total and the seven lines; a total that is too large is "-"
  worst.csv    prices, unit; input,output tokens; the worst case or "-"
  afford.csv   prices, unit; input tokens, wanted output, available units, affordable output or -1
  books/N/     a whole configuration (prices.yaml, tenants.yaml, tokenworks.yaml) and questions.csv:
               model,tier,plan,organization,prompt tokens,unix ns,version, then the seven rates
"""
import random
import sys
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

LIMIT = 2**63 - 1
CLASSES = ("input", "cached_input", "cache_write", "output", "reasoning", "embedding", "per_request")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def units(pico, unit):
    """Pico-units to units of money, half up."""
    return (2 * pico + unit) // (2 * unit)             # floor(pico / unit + 1/2), without a Fraction: it is called a lot


def rate(prices, unit, tokens):
    """Rounded once; class lines by largest remainder, ties to the earlier class. Nothing used: nothing charged."""
    counts = [*tokens, 1 if any(tokens) else 0]
    exact = [Fraction(p * t, unit) for p, t in zip(prices, counts)]
    total = units(sum(p * t for p, t in zip(prices, counts)), unit)
    lines = [int(e // 1) for e in exact]
    order = sorted(range(7), key=lambda i: (-(exact[i] - lines[i]), i))
    for i in order[:total - sum(lines)]:
        lines[i] += 1
    assert sum(lines) == total and all(abs(line - e) < 1 for line, e in zip(lines, exact))
    return total, lines


def worst(prices, unit, input_, output):
    """The dearest request within the bounds, by trying the corners: every prompt token in one class, every output token in one."""
    best = 0
    for i in (0, input_):
        for o in (0, output):
            for prompt_class in (0, 1, 2, 5):
                for output_class in (3, 4):
                    per_request = prices[6] if i + o > 0 else 0
                    best = max(best, units(prices[prompt_class] * i + prices[output_class] * o + per_request, unit))
    return best


def write_rates(out, rng):
    def prices():
        kind = rng.randrange(5)
        if kind == 0:
            return [rng.randrange(0, 5) for _ in range(7)]
        if kind == 1:
            return [100_000, 50_000, 100_000, 400_000, 400_000, 100_000, 0]
        if kind == 2:
            return [rng.randrange(0, 2_000) for _ in range(7)]
        if kind == 3:
            return [100_000, 25_000, 125_000, 400_000, 500_000, 20_000, 1_500_000_500]
        return [rng.randrange(0, 10**rng.randrange(1, 18)) for _ in range(7)]

    def unit():
        return rng.choice((1000, 1000, 1_000_000))

    def count():
        return rng.choice((0, 1, rng.randrange(0, 100), rng.randrange(0, 10**6), rng.randrange(0, 10**rng.randrange(1, 14))))

    with open(out / "rate.csv", "w") as file:
        for _ in range(20_000):
            p, u, tokens = prices(), unit(), [rng.choice((0, count())) for _ in range(6)]
            total, lines = rate(p, u, tokens)
            shown = [total, *lines] if total <= LIMIT else ["-", *[0] * 7]
            file.write(",".join(map(str, [*p, u, *tokens, *shown])) + "\n")
    with open(out / "worst.csv", "w") as file:
        for _ in range(5_000):
            p, u, input_, output = prices(), unit(), count(), count()
            w = worst(p, u, input_, output)
            file.write(",".join(map(str, [*p, u, input_, output, w if w <= LIMIT else "-"])) + "\n")
    with open(out / "afford.csv", "w") as file:
        for _ in range(2_000):
            p, u, input_, wanted = prices(), unit(), count(), count()
            available = max(0, rng.choice((worst(p, u, input_, rng.randrange(0, wanted + 1)) + rng.randrange(-2, 3),
                                           rng.randrange(0, 10**9), worst(p, u, input_, 0))))
            if available > LIMIT or input_ == 0:
                continue
            low, high = -1, wanted                     # the largest output that still fits, by halving
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if worst(p, u, input_, middle) <= available else (low, middle - 1)
            file.write(",".join(map(str, [*p, u, input_, wanted, available, low])) + "\n")


# ---- whole books -------------------------------------------------------------------------------------------------------

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")
MODELS = ("alpha", "beta-2.5", "org/gamma")


def decimal(value, places):
    """A count of 10^-places as decimal text."""
    text = f"{value // 10**places}.{value % 10**places:0{places}d}" if places else str(value)
    return text.rstrip("0").rstrip(".")


def complete(said):
    """What a list does not say costs what its kind costs."""
    whole = {"cached_input": said["input"], "cache_write": said["input"], "embedding": said["input"],
             "reasoning": said["output"], "per_request": 0}
    return [{**whole, **said}[c] for c in CLASSES]


class Book:
    """A random price book: the same thing as YAML text and as answers to questions."""

    def __init__(self, rng):
        self.rng = rng

    def price_list(self, required=()):
        rng = self.rng
        named = {c for c in CLASSES if c in required or rng.random() < 0.4} or {"input"}
        return {c: 16 * rng.randrange(0, 10**rng.randrange(1, 9)) for c in named}   # whole under every multiplier below

    def bands(self):
        overs = sorted(self.rng.sample((1, 100, 1000, 8192, 128_000, 200_000), self.rng.randrange(0, 4)))
        return [(over, self.price_list()) for over in overs]

    def times(self, zone, bands):
        rng, cuts = self.rng, sorted(self.rng.sample(range(0, 24 * 12), 2 * self.rng.randrange(0, 3)))
        found = []
        for start, end in zip(cuts[::2], cuts[1::2]):
            days = sorted(rng.sample(range(7), rng.randrange(1, 8))) if rng.random() < 0.7 else []
            rule = {"days": days, "from": start * 5, "to": end * 5, "zone": zone}
            if bands or rng.random() < 0.5:
                rule["multiplier"] = rng.choice((Fraction(1, 2), Fraction(3, 4), Fraction(5, 4), Fraction(2), Fraction(0)))
            else:
                rule["prices"], rule["bands"] = self.price_list(), self.bands()
            found.append(rule)
        if not found and rng.random() < 0.6:           # a night, which spans midnight
            days = sorted(rng.sample(range(7), rng.randrange(1, 8)))
            found = [{"days": days, "from": 22 * 60, "to": 6 * 60 + 30, "zone": zone, "multiplier": Fraction(1, 2)}]
        return found

    def model(self):
        bands = self.bands()
        return {"prices": self.price_list(("input", "output")), "bands": bands, "times": self.times(self.rng.choice(ZONES), bands)}

    def version(self, name, since):
        rng = self.rng
        return {"name": name, "since": since, "models": {m: self.model() for m in MODELS},
                "plans": {"basic": {"alpha": self.model()}} if rng.random() < 0.7 else {},
                "organizations": {"acme": {rng.choice(MODELS): self.model()}} if rng.random() < 0.7 else {},
                "tiers": rng.choice(((Fraction(7, 4), Fraction(1), Fraction(1, 2)), (Fraction(3, 2), Fraction(1), Fraction(1, 4))))}


def yaml_list(prices):
    return ", ".join(f'{c}: "{decimal(v, 12 if c == "per_request" else 6)}"' for c, v in prices.items())


def yaml_model(model):
    parts = [yaml_list(model["prices"])]
    for key in ("bands", "times"):
        items = []
        for item in model.get(key, ()):
            if key == "bands":
                over = f"{item[0] // 1000}k" if item[0] % 1000 == 0 else str(item[0])
                items.append(f"{{over: {over}, {yaml_list(item[1])}}}")
                continue
            clock = lambda minute: f'"{minute // 60:02}:{minute % 60:02}"'
            days = f'days: [{", ".join(DAYS[d] for d in item["days"])}], ' if item["days"] else ""
            body = (f'multiplier: "{decimal(int(item["multiplier"] * 10**6), 6)}"' if "multiplier" in item
                    else yaml_model(item)[1:-1])
            items.append(f'{{{days}from: {clock(item["from"])}, to: {clock(item["to"])}, timezone: {item["zone"]}, {body}}}')
        if items:
            parts.append(f'{key}: [{", ".join(items)}]')
    return "{" + ", ".join(parts) + "}"


def yaml_version(version, indent):
    lines = ["models:"] + [f"  {m}: {yaml_model(p)}" for m, p in version["models"].items()]
    for key in ("plans", "organizations"):
        if version[key]:
            lines.append(f"{key}:")
            for name, models in version[key].items():
                lines += [f"  {name}:", "    models:"] + [f"      {m}: {yaml_model(p)}" for m, p in models.items()]
    tiers = zip(("priority", "standard", "batch"), version["tiers"])
    lines.append("tiers: {" + ", ".join(f'{t}: "{decimal(int(m * 10**6), 6)}"' for t, m in tiers) + "}")
    return "\n".join(indent + line for line in lines) + "\n"


def in_span(rule, moment):
    wall = moment.astimezone(ZoneInfo(rule["zone"]))
    minute, today = wall.hour * 60 + wall.minute, wall.weekday()
    on = lambda day: not rule["days"] or day % 7 in rule["days"]
    if rule["from"] < rule["to"]:
        return on(today) and rule["from"] <= minute < rule["to"]
    return on(today) and minute >= rule["from"] or on(today - 1) and minute < rule["to"]


def answer(versions, model, tier, plan, organization, prompt, moment):
    version = [v for v in versions if v["since"] is None or v["since"] <= moment][-1]
    priced = version["models"][model]
    priced = version["plans"].get(plan, {}).get(model, priced)
    priced = version["organizations"].get(organization, {}).get(model, priced)
    said, bands, multiplier = dict(priced["prices"]), priced["bands"], Fraction(1)
    for rule in priced["times"]:
        if in_span(rule, moment):
            multiplier = rule.get("multiplier", Fraction(1))
            said.update(rule.get("prices", {}))
            bands = rule.get("bands", bands)
    met = [prices for over, prices in bands if prompt > over]
    if met:
        said.update(met[-1])
    exact = [price * multiplier * version["tiers"][tier] for price in complete(said)]
    assert all(e.denominator == 1 for e in exact)
    return version["name"], [int(e) for e in exact]


def write_book(folder, rng):
    folder.mkdir(parents=True, exist_ok=True)
    book, start = Book(rng), datetime(2026, 3, 1, tzinfo=timezone.utc)
    dates = sorted(rng.sample(range(1, 300), 2))
    versions = [book.version("first", None)] + [book.version(f"v{d}", start + timedelta(days=d, hours=7)) for d in dates]
    text = 'version: "first"\ncurrency: USD\n' + yaml_version(versions[0], "") + "versions:\n"
    for v in versions[1:]:
        text += f'  - version: "{v["name"]}"\n    from: "{v["since"].isoformat()}"\n' + yaml_version(v, "    ")
    (folder / "prices.yaml").write_text(text)
    (folder / "tenants.yaml").write_text("plans: {basic: {}, other: {}}\norganizations: {acme: {plan: basic}, zeta: {plan: other}}\n")
    models = "".join(f"  - {{id: {m}, path: model.gguf}}\n" for m in MODELS)
    (folder / "tokenworks.yaml").write_text("data_dir: data\nprices: prices.yaml\ntenants: tenants.yaml\nmodels:\n" + models)
    (folder / "model.gguf").write_text("GGUF")
    # Clock changes of 2026 in the zones above, minute by minute around them, and any other moment.
    changes = [datetime(2026, *c, tzinfo=timezone.utc) for c in ((3, 8, 7), (3, 29, 1), (10, 25, 1), (11, 1, 6), (4, 4, 15), (10, 3, 15, 30))]
    with open(folder / "questions.csv", "w") as file:
        for _ in range(600):
            moment = (rng.choice(changes) + timedelta(minutes=rng.randrange(-200, 200)) if rng.random() < 0.5
                      else start + timedelta(minutes=rng.randrange(0, 400 * 1440)))
            moment += timedelta(seconds=rng.choice((0, 59)))
            if rng.random() < 0.1:
                moment = rng.choice(versions[1:])["since"] - timedelta(microseconds=rng.randrange(0, 2))
            model, tier, prompt = rng.choice(MODELS), rng.randrange(3), rng.choice((0, 1, 2, 100, 101, 1000, 1001, 8193, 128_000, 128_001, 10**7))
            plan, organization = rng.choice((("basic", "acme"), ("other", "zeta"), ("basic", "other"), ("", "")))
            version, rates = answer(versions, model, tier, plan, organization, prompt, moment)
            unix_ns = ((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)) * 1000
            file.write(",".join(map(str, [model, tier, plan, organization, prompt, unix_ns, version, *rates])) + "\n")


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20261123)
    write_rates(out, rng)
    for number in range(12):
        write_book(out / "books" / str(number), rng)


if __name__ == "__main__":
    main()
