"""From which probability code and mathematics are claimed against prose: what `domains` proposes, and what a probability says. RULE 17.

Scores of sources that the classifier knows, out of fold, are nearly all sure; those of other sources are less so, and prose of other kinds
than what trained is less sure to be prose. So the proposal lies midway, in log-odds, between what nine of ten of a domain's own documents
reach and what all but one in a thousand of the others' stay below, but within MIN_PROPOSED and MAX_PROPOSED: below the one another domain
may be as likely, above the other too much of sources not seen is lost. Forms and menus are no prose that a classifier was taught, and look
like code sooner than like mathematics: its bound is higher. On sources kept out, 0.55 and 0.68 lost least (benchmarks/measure_domains.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.documents import DOMAINS

CLAIMED = ("math", "code")
FILE = "thresholds.json"  # of the artifact: by domain, see `propose`
BINS = 1000
OWN_SHARE, OTHERS_SHARE = 0.1, 0.001
MIN_PROPOSED = 0.5
MAX_PROPOSED = {"math": 0.55, "code": 0.68}
Histogram = dict[str, dict[str, dict[str, int]]]  # domain of the source -> domain of the score -> bin -> documents


def claimed(probabilities: Mapping[str, float], thresholds: Mapping[str, float]) -> str | None:
    """The likeliest of code and mathematics whose probability reaches its threshold; None where neither does. Stored probabilities have 32
    bits, so a threshold is taken as 32 bits say it."""
    reached = [domain for domain in CLAIMED if domain in probabilities and probabilities[domain] >= float(np.float32(thresholds[domain]))]
    return max(reached, key=lambda domain: probabilities[domain]) if reached else None


def histogram(label: str, rows: Iterable[Sequence[float]]) -> Histogram:
    """Out-of-fold scores of a source's training documents (probabilities of `DOMAINS`), counted in bins."""
    found = {domain: Counter[str]() for domain in CLAIMED}
    for row in rows:
        for domain in CLAIMED:
            found[domain][str(min(BINS - 1, int(row[DOMAINS.index(domain)] * BINS)))] += 1
    return {label: {domain: dict(sorted(counts.items())) for domain, counts in found.items()}}


def propose(histograms: Iterable[Histogram]) -> dict[str, dict[str, Any]]:
    """For code and mathematics, where they have training documents: `threshold`, `own_reach` and `others_below` (the scores that it lies
    between), `own_documents`, `other_documents`."""
    own, others = ({domain: Counter[int]() for domain in CLAIMED} for _ in range(2))
    for some in histograms:
        for label, scores in some.items():
            for domain, counts in scores.items():
                (own if label == domain else others)[domain].update({int(place): n for place, n in counts.items()})
    return {domain: _proposal(MAX_PROPOSED[domain], own[domain], others[domain]) for domain in CLAIMED if own[domain]}


def _proposal(most: float, own: Counter[int], others: Counter[int]) -> dict[str, Any]:
    reach = _edge(own, OWN_SHARE)
    below = 1.0 - _edge(Counter({BINS - 1 - place: n for place, n in others.items()}), OTHERS_SHARE) if others else 0.0
    odds = [max(p, 1 / BINS) / (1 - min(p, 1 - 1 / BINS)) for p in (reach, below)]
    middle = math.sqrt(odds[0] * odds[1])
    return {
        "threshold": round(min(most, max(MIN_PROPOSED, middle / (1 + middle))), 3),
        "own_reach": round(reach, 3),
        "others_below": round(below, 3),
        "own_documents": own.total(),
        "other_documents": others.total(),
    }


def _edge(counts: Counter[int], share: float) -> float:
    """The largest edge of a bin below which at most `share` of the documents lie."""
    below = 0
    for place in range(BINS):
        below += counts[place]
        if below > share * counts.total():
            return place / BINS
    return 1.0
