"""Expectations for the sampler from NumPy in float64, with transformers' own logits processors as a second opinion.

Usage: sampling.py OUTDIR. Writes
  OUTDIR/logits.bin    float32 little endian, the rows of all cases one after another
  OUTDIR/cases.json    [{"vocab", "offset": first float of the row, "temperature", "top_k", "top_p", "min_p", "repetition",
                       "presence", "frequency", "bias": [[id, value]], "seen": [[id, times in output]],
                       "forbidden": [ids] (the mask), "draws": [[u, token]], "kept": [ids ascending],
                       "probabilities": [of kept], "logprobs": [[id, logprob]] the 5 likeliest of the raw logits}]
Numbers next to a cut or to the edge of a draw are chosen again, so that rounding cannot decide a case.
"""
import json
import os
import sys

import numpy as np
import torch
from transformers.generation import logits_process as hf

EDGE = 5e-7                                            # relative distance to a cut that fp32 weights may not decide


def rules(row, case):
    """Mask, bias and penalties, in float32 as the rule says."""
    l = row.copy()
    l[case["forbidden"]] = -np.inf
    for token, value in case["bias"]:
        l[token] += np.float32(value)
    r = np.float32(case["repetition"])
    for token, times in case["seen"]:
        l[token] = l[token] / r if l[token] > 0 else l[token] * r
        if times > 0:
            l[token] -= np.float32(times) * np.float32(case["frequency"]) + np.float32(case["presence"])
    return l


def keep(l, case):
    """Ids kept, ascending, and their probabilities; None when a cut is too close to call."""
    temperature = float(np.float32(case["temperature"]))
    w = np.exp((l.astype(np.float64) - float(l.max())) / temperature)
    order = np.lexsort((np.arange(len(l)), -l.astype(np.float64)))
    order = order[w[order] > 1e-37]
    if case["top_k"] > 0:
        order = order[:case["top_k"]]
    if case["top_p"] < 1:
        before = np.cumsum(w[order]) - w[order]
        target = float(np.float32(case["top_p"])) * w[order].sum()
        if np.abs(before - target).min() < EDGE * target:
            return None
        order = order[(before < target) | (np.arange(len(order)) == 0)]
    if case["min_p"] > 0:
        limit = float(np.float32(case["min_p"]))
        if np.abs(w[order] - limit).min() < EDGE * limit and not np.any(w[order] == limit):
            return None
        order = order[w[order] >= limit]
    kept = np.sort(order)
    return kept, w[kept] / w[kept].sum()


def second_opinion(row, case, kept):
    """The same set from transformers' processors, where they define the same thing (no ties, no presence or frequency)."""
    if case["presence"] or case["frequency"] or len(np.unique(row)) < len(row) or case["forbidden"] or case["bias"]:
        return
    scores = torch.from_numpy(row.copy())[None]
    ids = torch.tensor([[t for t, _ in case["seen"]]], dtype=torch.long)
    chain = []
    if case["repetition"] != 1 and case["seen"]:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(case["repetition"]))
    chain.append(hf.TemperatureLogitsWarper(case["temperature"]))
    if case["top_k"] > 0:
        chain.append(hf.TopKLogitsWarper(case["top_k"]))
    if case["top_p"] < 1:
        chain.append(hf.TopPLogitsWarper(case["top_p"]))
    if case["min_p"] > 0:
        chain.append(hf.MinPLogitsWarper(case["min_p"]))
    for processor in chain:
        scores = processor(ids, scores)
    theirs = np.nonzero(torch.softmax(scores[0].double(), 0).numpy() > 1e-37)[0]
    # Their cumulative sums are in float32: one token next to the top_p cut may differ.
    assert len(set(theirs) ^ set(kept)) <= (1 if case["top_p"] < 1 else 0), (case, len(theirs), len(kept))


def make_case(random, vocab, **given):
    case = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition=1.0, presence=0.0, frequency=0.0, bias=[], seen=[],
                forbidden=[], spread=3.0, ties=False)
    case.update(given)
    for _ in range(200):
        row = (random.standard_normal(vocab) * case["spread"]).astype(np.float32)
        if case["ties"]:
            row = np.round(row * 2) / 2
        l = rules(row, case)
        result = keep(l, case)
        if result is not None:
            break
    else:
        raise SystemExit(f"no row far enough from every cut for {case}")
    kept, p = result
    second_opinion(row, case, kept)
    cumulative = np.cumsum(p)
    draws = []
    while len(draws) < 40:
        u = float(random.random())
        if np.abs(cumulative - u).min() > EDGE:
            draws.append([u, int(kept[np.searchsorted(cumulative, u, side="right")])])
    raw = row.astype(np.float64)
    normaliser = raw.max() + np.log(np.exp(raw - raw.max()).sum())
    top = np.lexsort((np.arange(vocab), -raw))[:5]
    del case["spread"], case["ties"]
    case.update(vocab=vocab, draws=draws, kept=kept.tolist(), probabilities=p.tolist(),
                logprobs=[[int(t), float(raw[t] - normaliser)] for t in top])
    return case, row


def main(out):
    os.makedirs(out, exist_ok=True)
    random = np.random.default_rng(7)
    penalties = dict(seen=[[0, 1], [3, 0], [5, 4], [6, 2], [11, 0]])
    wanted = []
    for vocab in (17, 300, 1000, 49152):
        long_tail = dict(top_p=0.999, temperature=1.7) if vocab <= 1000 else dict(top_p=0.95, temperature=0.7)
        wanted += [dict(vocab=vocab, **g) for g in (
            {}, dict(temperature=0.3), dict(temperature=2.5), dict(top_k=1), dict(top_k=5), dict(top_k=vocab),
            dict(top_p=0.9), dict(top_p=0.1), long_tail, dict(min_p=0.05), dict(min_p=0.5),
            dict(top_k=12, top_p=0.8), dict(top_k=9, top_p=0.95, min_p=0.02, temperature=0.8),
            dict(repetition=1.3, **penalties), dict(presence=0.8, **penalties), dict(frequency=0.6, **penalties),
            dict(presence=-1.5, frequency=0.25, repetition=0.7, **penalties),
            dict(bias=[[2, 5.0], [4, -100.0], [7, 100.0]]), dict(bias=[[1, 2.5]], top_k=4),
            dict(forbidden=list(range(0, vocab, 3))), dict(forbidden=[t for t in range(vocab) if t % 5], top_p=0.7),
            dict(ties=True, top_k=6), dict(ties=True, top_p=0.6), dict(spread=0.01), dict(spread=0.01, top_p=0.5),
            dict(spread=12.0, top_p=0.95, min_p=0.001, repetition=1.1, **penalties))]
    cases, rows, offset = [], [], 0
    for given in wanted:
        case, row = make_case(random, given.pop("vocab"), **given)
        if len(case["kept"]) > 400:                    # the file stays small: the draws check large sets
            case["kept_count"] = len(case["kept"])
            del case["kept"], case["probabilities"]
        case["forbidden"] = case["forbidden"] if len(case["forbidden"]) < 1000 else \
            {"step": 3, "keep": False} if 1 not in case["forbidden"] else {"step": 5, "keep": True}
        cases.append(dict(case, offset=offset))
        rows.append(row)
        offset += len(row)
    np.concatenate(rows).astype("<f4").tofile(os.path.join(out, "logits.bin"))
    with open(os.path.join(out, "cases.json"), "w") as f:
        json.dump(cases, f)
    print(f"{len(cases)} cases, {offset} logits")


if __name__ == "__main__":
    main(sys.argv[1])
