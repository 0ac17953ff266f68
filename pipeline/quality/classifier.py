"""The quality classifier: the probability that a text is like good ones, by its form (`prose`), a logistic regression on ranks (`ranks`).

It learns from pages, whose main text is better than what extraction left out of them (`contrast`), and from the recipe's own sources, as
DCLM's does (arXiv 2406.11794, section 4.4), or from either alone. It is measured on whole sources kept out and on the pages themselves, by
the half that did not see them, beside what costs nothing: the stop-word ratio and the number of words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.classifier_steps import Classifier, Contrast
from pipeline.quality.config import QualityClassifier
from pipeline.quality.contrast import contrast
from pipeline.quality.prose import prose_numbers
from pipeline.quality.ranks import load, train
from pipeline.quality.score import score
from pipeline.quality.view import view

MODEL_NAME = "quality"
POSITIVE, NEGATIVE = "positive", "negative"


def quality_classifier(config: QualityClassifier) -> Classifier:
    """The classifier that a recipe describes."""
    pages = config.contrast
    return Classifier(
        where="quality.classifier",
        model_name=MODEL_NAME,
        labels=config.labels,
        validation_labels=config.validation_labels,
        train_fraction=config.train_fraction,
        max_label_ratio=config.max_label_ratio,
        seed=config.seed,
        examples=examples,
        train=partial(train, config=config.ranks, positive=POSITIVE),
        load=load,
        max_lines=config.ranks.max_examples,
        contrast=None
        if pages is None
        else Contrast(
            sources=pages.sources,
            languages=pages.languages,
            labels=(NEGATIVE, POSITIVE),
            examples=partial(page_examples, min_main_words=pages.min_main_words, min_dropped_words=pages.min_dropped_words),
        ),
    )


def example(text: str) -> str:
    """The numbers of a text as a line of JSON."""
    seen = view(text)
    return json.dumps(prose_numbers(seen, score(seen)))


def examples(text: str) -> list[str]:
    """The training line of a document; none for a blank text."""
    return [example(text)] if text.strip() else []


def page_examples(main_text: str, left_out: str, min_main_words: int, min_dropped_words: int) -> list[tuple[str, str]]:
    """(label, training line) of what a page teaches."""
    found = contrast(main_text, left_out, min_main_words, min_dropped_words)
    return [(POSITIVE if is_good else NEGATIVE, example(text)) for is_good, text in found]


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. None when a side is empty."""
    if not len(positive) or not len(negative):
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
