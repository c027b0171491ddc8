"""Expectations for billing/price_book, from Python's exact fractions.

Usage: rating.py OUTDIR. Writes, one case per line:
  rate.csv     input,cached_input,output prices (pico-units per token), input,cached,output tokens,
               total,input line,cached_input line,output line (nano-units); "too large" cases have total "-"
  worst.csv    three prices, input,output tokens, worst case in nano-units or "-"
  afford.csv   three prices, input tokens, wanted output, available nano-units, affordable output or -1
"""
import random
import sys
from fractions import Fraction
from pathlib import Path

LIMIT = 2**63 - 1
HALF = Fraction(1, 2)


def nano(pico):
    """Pico-units to nano-units, half up."""
    return int((Fraction(pico, 1000) + HALF) // 1)


def rate(prices, tokens):
    """Rounded once; class lines by largest remainder, ties to the earlier class."""
    exact = [Fraction(p * t, 1000) for p, t in zip(prices, tokens)]
    total = nano(sum(p * t for p, t in zip(prices, tokens)))
    lines = [int(e // 1) for e in exact]
    order = sorted(range(3), key=lambda i: (-(exact[i] - lines[i]), i))
    for i in order[:total - sum(lines)]:
        lines[i] += 1
    assert sum(lines) == total and all(abs(line - e) < 1 for line, e in zip(lines, exact))
    return total, lines


def worst(prices, input_, output):
    """The dearest request within the bounds, by trying the corners: all cached or none, all output or none."""
    return max(nano(prices[0] * (i - c) + prices[1] * c + prices[2] * o)
               for i in (0, input_) for c in (0, i) for o in (0, output))


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20261123)

    def prices():
        kind = rng.randrange(4)
        if kind == 0:
            return [rng.randrange(0, 5) for _ in range(3)]
        if kind == 1:
            return [100_000, 50_000, 400_000]
        if kind == 2:
            return [rng.randrange(0, 2_000) for _ in range(3)]
        return [rng.randrange(0, 10**rng.randrange(1, 18)) for _ in range(3)]

    def count():
        return rng.choice((0, 1, rng.randrange(0, 100), rng.randrange(0, 10**6), rng.randrange(0, 10**rng.randrange(1, 14))))

    with open(out / "rate.csv", "w") as file:
        for _ in range(20_000):
            p, input_, output = prices(), count(), count()
            cached = rng.choice((0, input_, rng.randrange(0, input_ + 1)))
            total, lines = rate(p, (input_ - cached, cached, output))
            shown = [total, *lines] if total <= LIMIT else ["-", 0, 0, 0]
            file.write(",".join(map(str, [*p, input_, cached, output, *shown])) + "\n")
    with open(out / "worst.csv", "w") as file:
        for _ in range(5_000):
            p, input_, output = prices(), count(), count()
            w = worst(p, input_, output)
            file.write(",".join(map(str, [*p, input_, output, w if w <= LIMIT else "-"])) + "\n")
    with open(out / "afford.csv", "w") as file:
        for _ in range(10_000):
            p, input_, wanted = prices(), count(), count()
            available = max(0, rng.choice((worst(p, input_, rng.randrange(0, wanted + 1)) + rng.randrange(-2, 3),
                                           rng.randrange(0, 10**9), worst(p, input_, 0))))
            if available > LIMIT:
                continue
            low, high = -1, wanted                     # the largest output that still fits, by halving
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if worst(p, input_, middle) <= available else (low, middle - 1)
            file.write(",".join(map(str, [*p, input_, wanted, available, low])) + "\n")


if __name__ == "__main__":
    main()
