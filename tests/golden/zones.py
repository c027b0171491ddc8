"""Expectations for base/time_zone: offsets and first instants of local times, from Python's zoneinfo.

Usage: zones.py OUTDIR. Writes offsets.csv (zone,unix_s,offset_s), first.csv (zone,local_s,unix_s): the first instant whose
local wall clock shows local_s or later, and periods.csv (zone,per,unix_s,start_s,end_s): the calendar day, week or month
around an instant; both found by walking, not by formula. zoneinfo reads the same system files.
"""
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

ZONES = """UTC Europe/Berlin Europe/London Europe/Dublin Europe/Lisbon Europe/Moscow Europe/Istanbul America/New_York
America/Los_Angeles America/Sao_Paulo America/Santiago America/Havana America/St_Johns America/Caracas America/Nuuk
America/Asuncion Africa/Casablanca Africa/Cairo Africa/Johannesburg Asia/Kolkata Asia/Kathmandu Asia/Tehran Asia/Tokyo
Asia/Shanghai Asia/Gaza Asia/Beirut Asia/Amman Australia/Sydney Australia/Adelaide Australia/Eucla Australia/Lord_Howe
Pacific/Apia Pacific/Auckland Pacific/Chatham Pacific/Kiritimati Pacific/Marquesas Antarctica/Troll Etc/GMT+12""".split()
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def offset(zone, unix_s):
    return int((EPOCH + timedelta(seconds=unix_s)).astimezone(zone).utcoffset().total_seconds())


def changes(zone):
    """Instants between 1975 and 2060 at which the offset changes, by halving."""
    found, step = [], 86_400 * 5
    t, before = int(datetime(1975, 1, 1, tzinfo=timezone.utc).timestamp()), None
    end = int(datetime(2060, 1, 1, tzinfo=timezone.utc).timestamp())
    before = offset(zone, t)
    while t < end:
        after = offset(zone, t + step)
        if after != before:
            low, high = t, t + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if offset(zone, middle) != before else (middle, high)
            found.append(high)
        t, before = t + step, after
    return found


def first_instant(zone, local_s):
    """By walking in steps of 60 s: every offset and every change since 1975 is a whole minute."""
    for t in range(local_s - 27 * 3600, local_s + 27 * 3600, 60):
        if t + offset(zone, t) >= local_s:
            return t
    raise AssertionError(local_s)


def periods(zone, unix_s):
    """The day, week (from Monday) and month around an instant whose wall clock is far from any change of date."""
    date = (EPOCH + timedelta(seconds=unix_s)).astimezone(zone).date()
    monday = date - timedelta(days=date.weekday())
    month = date.replace(day=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    for per, start, end in (("day", date, date + timedelta(days=1)), ("week", monday, monday + timedelta(days=7)),
                            ("month", month, next_month)):
        walls = [int(datetime(d.year, d.month, d.day, tzinfo=timezone.utc).timestamp()) for d in (start, end)]
        yield per, first_instant(zone, walls[0]), first_instant(zone, walls[1])


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20261123)
    with open(out / "offsets.csv", "w") as offsets, open(out / "first.csv", "w") as first, \
            open(out / "periods.csv", "w") as spans:
        for name in ZONES:
            zone = ZoneInfo(name)
            instants = [rng.randrange(170_000_000, 4_000_000_000) for _ in range(200)]
            edges = changes(zone)
            edges = edges[-60:] if len(edges) > 120 else edges
            for edge in edges:
                instants += [edge - 1, edge, edge + 1]
            for t in instants:
                offsets.write(f"{name},{t},{offset(zone, t)}\n")
            locals_ = []
            for edge in rng.sample(edges, min(len(edges), 12)):
                for at in (offset(zone, edge - 1), offset(zone, edge)):
                    wall = edge + at
                    midnight = wall - wall % 86_400
                    locals_ += [midnight, midnight + 86_400, wall - 1800, wall, wall + 1800]
            locals_ += [rng.randrange(8_000, 46_000) * 86_400 for _ in range(10)]
            for wall in locals_:
                wall -= wall % 60
                first.write(f"{name},{wall},{first_instant(zone, wall)}\n")
            for t in [rng.choice(edges) + rng.choice((-1, 0, 3600, 36_000)) for _ in range(4 if edges else 0)] + \
                    [rng.randrange(700_000_000, 2_500_000_000) for _ in range(2)]:
                for per, start, end in periods(zone, t):
                    if start <= t < end:         # else the wall clock was set back over midnight: no one answer
                        spans.write(f"{name},{per},{t},{start},{end}\n")


if __name__ == "__main__":
    main()
