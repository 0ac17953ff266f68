"""The measurement of quality: whose model judges what, the paired bootstrap, what thresholds drop."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import measure_quality
from benchmarks.measure_extraction import fold_of
from benchmarks.measure_quality import Example, Judged
from pipeline.classifier_steps import Fitted
from pipeline.quality.prose import SIGNALS, prose_numbers
from pipeline.quality.ranks import Model
from pipeline.quality.score import score
from pipeline.quality.thresholds import Thresholds
from pipeline.quality.view import view

PROSE = "The river that flows through this town is older than its walls, and it was never as wide as they say it is."
MENU = "Home\nAbout us\nProducts\nSign in\nCart\nPrivacy\nContact\nTerms"
ONE, ZERO = (Model(np.zeros((len(SIGNALS), 1)), np.zeros(len(SIGNALS)), bias) for bias in (800.0, -800.0))  # sure of all, sure of none
TAUGHT = [Example(f"{n}.org", good, text * (n % 3 + 1)) for n in range(40) for good, text in ((True, PROSE), (False, MENU))]


def test_a_text_is_judged_by_the_model_that_did_not_see_its_domain() -> None:
    """The score is that of the other half's model; a text of no page has the mean of both."""
    config, thresholds = measure_quality.recipe()
    assert thresholds.min_quality_score is not None
    fitted = measure_quality.classifier(TAUGHT, config)
    judged = [Judged(f"{n}.org", PROSE, True) for n in range(6)] + [Judged("", PROSE, True)]
    found = measure_quality.signals(fitted, judged, config)["quality_score"].to_pylist()
    numbers, unlike = np.array([prose_numbers(view(PROSE), score(view(PROSE)))]), Fitted((ONE, ZERO), fitted.clusters)
    for one, theirs in zip(judged[:-1], found[:-1], strict=True):
        half = fold_of(one.domain) % 2
        assert theirs == pytest.approx(float(fitted.models[1 - half].probabilities(numbers)[0]), abs=1e-6)
        assert measure_quality.signals(unlike, [one], config)["quality_score"].to_pylist() == [float(half == 1)]
    by_half = {fold_of(one.domain) % 2: score for one, score in zip(judged[:-1], found[:-1], strict=True)}
    assert all(score == by_half[fold_of(one.domain) % 2] for one, score in zip(judged[:-1], found[:-1], strict=True))
    assert found[-1] == pytest.approx(sum(by_half.values()) / 2, abs=1e-6)


def test_the_bootstrap_is_paired_and_seeded() -> None:
    """A score that is the stop-word ratio differs from it in no sample; one that ranks right lies above it in all."""
    is_good = [n % 2 == 0 for n in range(100)]
    noise = [random.Random(n).random() for n in range(100)]
    same = pa.table({"quality_score": noise, "stop_word_ratio": noise, "gopher_word_count": noise})
    assert measure_quality.ranking(same, is_good, 1).above_stop_words == (0.0, 0.0, 0.0)
    right = same.set_column(0, "quality_score", pa.array([float(good) for good in is_good]))
    found = measure_quality.ranking(right, is_good, 1)
    assert found == measure_quality.ranking(right, is_good, 1)
    assert (found.auc, found.texts, found.good) == (1.0, 100, 50)
    assert found.above_stop_words[1] > 0


def test_precision_and_recall_of_what_is_dropped() -> None:
    """Three go, two of them bad; of four bad ones two go."""
    table = pa.table({"quality_score": [0.1, 0.2, 0.3, 0.6, 0.7, 0.8]})
    found = measure_quality.dropping(table, [False, True, False, False, True, False], Thresholds(min_quality_score=0.5))
    assert (found.dropped, found.precision, found.recall, found.reasons) == (3, 0.6667, 0.5, {"quality_score": 3})
