"""The measurements of the near-duplicate search, on labels made here."""

from __future__ import annotations

import random
from itertools import combinations

from benchmarks.bench_minhash import compare
from benchmarks.measure_minhash import measure
from pipeline.dedup.minhash import MinHashConfig
from tests.pipeline.dedup_inputs import shingles


def _labelled(changes: list[int]) -> tuple[list[str], list[str], dict[tuple[int, int], float]]:
    """Texts of 400 words, each with that many words of the first replaced; labels are exact."""
    rng = random.Random(4)
    base = [f"w{rng.getrandbits(40)}" for _ in range(400)]
    texts = []
    for count in changes:
        words = list(base)
        for place in rng.sample(range(400), count):
            words[place] = f"w{rng.getrandbits(40)}"
        texts.append(" ".join(words))
    sets = [shingles(text, 5) for text in texts]
    labels = {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in combinations(range(len(texts)), 2)}
    return [str(n) for n in range(len(texts))], texts, labels


def test_recall_and_precision_on_small_labelled_pairs() -> None:
    """Pairs well above the threshold are all found, none below is verified, and labels agree with what is computed."""
    *deciles, total = measure(*_labelled([0, 1, 2, 3, 40, 200, 399]), MinHashConfig())
    assert total["true_pairs"] > 0
    assert total["recall_verified"] == total["recall_clusters"] == 1.0
    assert total["precision_verified"] == 1.0
    assert total["largest_difference_from_label"] < 1e-3
    assert sum(row["pairs"] for row in deciles) == total["labelled_pairs"] == 21


def test_without_verification_candidates_below_the_threshold_would_be_joined() -> None:
    """The sabotage: a threshold that accepts every candidate loses precision on the same labels."""
    ids, texts, labels = _labelled([0, 12, 14, 16, 18, 20])
    strict, loose = (measure(ids, texts, labels, MinHashConfig(min_jaccard=value))[-1] for value in (0.8, 0.01))
    above = sum(label >= 0.8 for label in labels.values())
    assert strict["precision_verified"] in (None, 1.0)
    assert loose["stage_candidates_verified"] > above


def test_the_benchmark_compares_both_sides_on_the_same_texts() -> None:
    """It gives documents per second of both; how fast they are is not for a test."""
    result = compare(["some words to hash, again and again"] * 20, repeats=1)
    assert {"caravan", "datatrove_regex"} <= set(result)
    assert min(result.values()) > 0
