"""N-gram speculation on and off, alternating in one run: output tokens a second of one stream, and whether the text is the same.

Usage: tests/bench/run --speculation [ROUNDS]. Copy-heavy: the model is made to repeat a text that stands in the prompt. Elsewhere: prose of
its own. Gates: at least 1.5x on copy-heavy text, never below 0.98x elsewhere, the same tokens everywhere.
"""
import json, statistics, sys, time, urllib.request

from servers import NAME, PLANT, Plant, machine

RECORD = "\n".join(f"meter {i:03d}: valve {i * 7 % 31:02d} open, pressure {i * 13 % 97} kPa, checked by crew {i % 5}" for i in range(14))
COPY = [("copied list", f"{RECORD}\n\nThe same list again:\n\n{RECORD[:120]}", 256, 0.0),
        ("repeated code", "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n\n\n" * 4 + "def add(a, b):", 192, 0.0)]
ELSEWHERE = [("prose, sampled", "Once upon a time, in a town by the sea, there was", 192, 1.0),
             ("essay, sampled", "The history of public water supply begins with", 192, 0.8),
             ("list of names, sampled", "Write a poem about rivers, mountains and the people who live between them.\n", 192, 1.0)]


def generate(plant, key, prompt, tokens, temperature, seed):
    """(seconds per output token after the first, text)"""
    body = {"model": NAME, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": temperature, "seed": seed, "stream": True}
    request = urllib.request.Request(plant.api + "/v1/completions", json.dumps(body).encode(),
                                     {"authorization": "Bearer " + key, "content-type": "application/json"})
    text, first = "", None
    with urllib.request.urlopen(request, timeout=300) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                first = first or time.perf_counter()
                choices = json.loads(line[6:])["choices"]
                text += choices[0]["text"] if choices else ""
                last = time.perf_counter()
    return (last - first) / (tokens - 1), text


def main():
    print(machine(), flush=True)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    plants = {mode: Plant(context=2048, kv="128MiB", plant=PLANT.replace("max_sequences: 64", "max_sequences: 64, speculation: " + mode)).start()
              for mode in ("off", "ngram")}
    good = True
    print("| text | off tok/s | ngram tok/s | ratio | gate | same text |\n|---|---|---|---|---|---|")
    try:
        keys = {mode: plant.key() for mode, plant in plants.items()}
        for mode, plant in plants.items():
            generate(plant, keys[mode], "warm up", 32, 0.0, 1)
        for (name, prompt, tokens, temperature), gate in [(c, 1.5) for c in COPY] + [(e, 0.98) for e in ELSEWHERE]:
            pace, same = {"off": [], "ngram": []}, True
            for n in range(rounds):
                texts = {}
                for mode in ("off", "ngram") if n % 2 == 0 else ("ngram", "off"):
                    seconds, texts[mode] = generate(plants[mode], keys[mode], f"{prompt}", tokens, temperature, n)
                    pace[mode].append(seconds)
                same = same and texts["off"] == texts["ngram"]
            off, on = (1 / statistics.median(pace[m]) for m in ("off", "ngram"))
            ratio = statistics.median(a / b for a, b in zip(pace["off"], pace["ngram"]))
            good = good and ratio >= gate and same
            print(f"| {name} | {off:.0f} | {on:.0f} | {ratio:.2f} | >= {gate} | {'yes' if same else 'NO'} |", flush=True)
    finally:
        for plant in plants.values():
            plant.close()
    sys.exit(0 if good else 1)


main()
