"""Signatures, bands, Jaccard: against datasketch and against sets of strings."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.dedup import minhash
from pipeline.dedup.minhash import MinHashConfig, band_keys, batches, jaccard, shingle_sets, signatures, similarities
from tests.pipeline.dedup_inputs import WORDS, brute_signature, shingles

TEXTS = st.lists(st.sampled_from([*WORDS, "x.", "Ü", "東京", "กา", "\n", "--"]), max_size=30).map(" ".join)


@pytest.mark.parametrize(("num_perm", "seed", "ngram_words"), [(112, 1, 5), (16, 42, 3), (3, 0, 1)])
def test_signatures_are_those_of_datasketch(num_perm: int, seed: int, ngram_words: int) -> None:
    """Every value equals datasketch's MinHash of the same shingles, seed and scheme; long, short and non-Latin texts among them."""
    rng = random.Random(num_perm)
    texts = [" ".join(rng.choices(WORDS, k=k)) for k in (1, 4, 5, 6, 90, 1400)] + [
        "東京都は日本の首都です。",
        "ภาษาไทย",
        "Tiếng Việt có dấu, đúng không?",
    ]
    found, filled = signatures(texts, MinHashConfig(bands=num_perm, rows=1, seed=seed, ngram_words=ngram_words))
    assert filled.all()
    for text, values in zip(texts, found, strict=True):
        assert values.tolist() == brute_signature(text, num_perm, seed, ngram_words).tolist()


def test_a_text_without_words_has_no_signature() -> None:
    """Empty texts and bare punctuation are marked as not filled, so they never become near duplicates of each other."""
    found, filled = signatures(["", "... !!", "word"], MinHashConfig())
    assert filled.tolist() == [False, False, True]
    assert (found[:2] == 0xFFFFFFFF).all()


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), limit=st.sampled_from([1, 40, 1 << 20]))
def test_batches_do_not_change_a_signature(texts: list[str], limit: int) -> None:
    """A text's signature depends on it alone, wherever batches are cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "BATCH_CHARACTERS", limit)
        ranges = list(batches(texts))
        together, _ = signatures(texts, MinHashConfig(bands=4, rows=2))
    assert [start for start, _ in ranges] == [0, *[end for _, end in ranges][:-1]]
    assert ranges[-1][1] == len(texts)
    assert all(end > start for start, end in ranges)
    for text, row in zip(texts, together, strict=True):
        alone, _ = signatures([text], MinHashConfig(bands=4, rows=2))
        assert row.tolist() == alone[0].tolist()


@given(texts=st.lists(TEXTS, min_size=2, max_size=6), ngram_words=st.integers(1, 5))
def test_jaccard_is_exact(texts: list[str], ngram_words: int) -> None:
    """Similarity of hashed shingles equals that of sets of tuples of words."""
    sets, truth = shingle_sets(texts, ngram_words), [shingles(text, ngram_words) for text in texts]
    for (a, b), (x, y) in zip(pairwise(sets), pairwise(truth), strict=True):
        assert jaccard(a, b) == (len(x & y) / len(x | y) if x | y else 1.0)


@given(
    base=st.frozensets(st.integers(0, 40), min_size=1),
    others=st.lists(st.frozensets(st.integers(0, 40), min_size=1), max_size=8),
    threshold=st.sampled_from([0.1, 0.5, 0.55, 2 / 3, 0.75, 0.8, 1.0]),
)
def test_similarities_are_jaccard_at_or_above_the_threshold(base: frozenset[int], others: list[frozenset[int]], threshold: float) -> None:
    """One against many gives what one against one gives, at the threshold too."""
    arrays = [np.array(sorted(values), np.uint64) for values in (base, *others)]
    found, true = similarities(arrays[0], arrays[1:], threshold).tolist(), [jaccard(arrays[0], other) for other in arrays[1:]]
    assert [value >= threshold for value in found] == [value >= threshold for value in true]
    assert all(value in (0.0, right) for value, right in zip(found, true, strict=True))


def test_equal_bands_and_only_they_have_equal_keys() -> None:
    """A band's key changes with any of its values, their order and its number."""
    config = MinHashConfig(bands=2, rows=3)
    rows = np.array([[1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 4], [3, 2, 1, 1, 2, 3]], np.uint32)
    keys = band_keys(rows, config)
    assert keys[0, 0] == keys[1, 0]
    assert keys[0, 1] == keys[2, 1]
    assert len(np.unique(keys)) == 4


def test_recall_follows_the_curve_of_bands_and_rows() -> None:
    """Of 300 pairs near Jaccard 0.9 at least 97 % meet in a band, of pairs near 0.3 at most 5 %: 1 - (1 - s^8)^14 says 0.9997 and 0.001."""
    rng, config = random.Random(0), MinHashConfig(ngram_words=1)

    def share_that_meets(common: int, own: int) -> float:
        met = 0
        for _ in range(300):
            words = [f"w{rng.getrandbits(40)}" for _ in range(common + 2 * own)]
            texts = [" ".join(words[: common + own]), " ".join(words[:common] + words[common + own :])]
            keys = band_keys(signatures(texts, config)[0], config)
            met += bool((keys[0] == keys[1]).any())
        return met / 300

    assert share_that_meets(90, 5) >= 0.97
    assert share_that_meets(30, 35) <= 0.05


def test_configuration_refuses_what_cannot_be() -> None:
    """A Jaccard threshold of 0 would make every candidate a duplicate; a scheme that is not implemented is not accepted."""
    for wrong in ({"min_jaccard": 0}, {"min_jaccard": 1.1}, {"bands": 0}, {"scheme": "legacy"}, {"seed": -1}):
        with pytest.raises(ValidationError):
            MinHashConfig(**wrong)
