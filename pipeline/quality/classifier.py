"""The quality classifier: fastText on words, the probability of the positive label. After DCLM, arXiv 2406.11794, section 4.4, on
the recipe's own labels.

On little data such a classifier learns its sources; so it is measured on whole sources kept out, beside the plain stop-word ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.classifier_steps import Classifier, Fitted
from pipeline.fasttext_training import LABEL, load, probabilities, train
from pipeline.quality.config import QualityClassifier
from pipeline.words import words

MODEL_NAME = "quality"
POSITIVE = "positive"
NO_VOTE = 0.5  # of a text without a word that the model knows


def quality_classifier(config: QualityClassifier) -> Classifier:
    """The classifier that a recipe describes."""
    return Classifier(
        where="quality.classifier",
        model_name=MODEL_NAME,
        labels=config.labels,
        validation_labels=config.validation_labels,
        train_fraction=config.train_fraction,
        max_label_ratio=config.max_label_ratio,
        seed=config.seed,
        examples=partial(examples, max_words=config.max_words),
        train=partial(train, config=config.fasttext),
        load=load,
    )


def examples(text: str, max_words: int) -> list[str]:
    """The training line of a document: its first words in lower case; none for an empty text."""
    line = line_of(words(text), max_words)
    return [line] if line else []


def line_of(tokens: Sequence[str], max_words: int) -> str:
    """What fastText reads of a document. A word that would be taken for a label loses its prefix."""
    line = " ".join(tokens[:max_words]).lower()
    return line.replace(LABEL, "label") if LABEL in line else line


def scores(fitted: Fitted, lines: Sequence[str], cluster_ids: Sequence[bytes]) -> list[float]:
    """Probability of the positive label for each document's line, by the models that did not see its cluster; `NO_VOTE` where they know
    none of its words."""

    def predict(model: Any, rows: list[int]) -> NDArray[np.float64]:
        return probabilities(model, [lines[i] for i in rows], [POSITIVE])

    found: list[float] = np.nan_to_num(fitted.scores(cluster_ids, predict)[:, 0], nan=NO_VOTE).tolist()
    return found


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. None when a side is empty."""
    if not positive or not negative:
        return None
    values = np.concatenate([np.asarray(positive, float), np.asarray(negative, float)])
    ranks = _midranks(values)
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return found
