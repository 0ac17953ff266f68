"""The fastText that classifiers are measured beside: one model for one set of lines, and no vote without a known word."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.fasttext_training import FastTextConfig, TrainingError, load, probabilities, train

GOOD, BAD = ["theorem", "proof", "lemma", "number"], ["buy", "cheap", "click", "sale"]
SMALL = FastTextConfig(dim=4, epochs=20, word_ngrams=1, min_count=1, buckets=100)


def lines_of(label: str, words: list[str]) -> list[str]:
    """Twenty training lines of a label."""
    return [f"__label__{label} {' '.join(random.Random(i).choices(words, k=30))}" for i in range(20)]


def test_fasttext_gives_one_model_for_one_set_of_lines_in_any_order() -> None:
    """Bit-identical, and probabilities near golden values (they depend on the processor's floats)."""
    lines = [*lines_of("positive", GOOD), *lines_of("negative", BAD)]
    model = train(lines, "key", SMALL)
    assert model == train(lines[::-1], "key", SMALL)
    rows = probabilities(load(model), [" ".join(GOOD), " ".join(BAD)], ["positive", "negative", "other"])
    assert rows[0] == pytest.approx([0.99, 0.01, 0.0], abs=0.05)
    assert rows[1] == pytest.approx([0.01, 0.99, 0.0], abs=0.05)
    assert all(0 <= value <= 1 for row in rows for value in row)


def test_a_line_without_a_known_word_says_nothing() -> None:
    """Known words decide; the word that fastText sets at each line's end is none."""
    model = load(train([*lines_of("good", GOOD), *lines_of("bad", BAD)], "key", SMALL))
    rows = probabilities(model, ["zzzzqqq", "", "</s>", f"zzzzqqq {GOOD[0]}"], ["good", "bad"])
    assert np.isnan(rows[:3]).all()
    assert not np.isnan(rows[3]).any()


def test_training_without_lines_says_what_the_child_said() -> None:
    """No silent empty model."""
    with pytest.raises(TrainingError, match="fastText training ended with"):
        train([], "key", SMALL)
