"""Logistic regression on ranks: how good a text looks by several numbers at once. Exactly reproducible: the same examples, whatever their
order, give the same bytes.

A number counts by its rank among the examples, each label counted alike: the share of them that it exceeds, less a half. So no number has a
scale to be chosen, and one far outside counts as the largest known. Everything is sums, products, quotients and square roots of float64 in
a fixed order, so the bytes of a model and its probabilities do not depend on the processor.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.classifier_steps import LABEL, Fitted
from pipeline.domains.logistic import exponential
from storage.errors import IntegrityError
from storage.strict import Strict

F64 = NDArray[np.float64]
POINTS = 64  # of a label's examples, at equal distances in their order
LEARNING_RATE = 0.1


class RanksConfig(Strict):
    """How the classifier is trained."""

    steps: int = Field(400, ge=1, description="steps over all examples")
    l2: float = Field(0.03, ge=0, description="pull of the weights towards 0; the larger, the more alike the signals count")
    max_examples: int = Field(50_000, ge=1, description="examples of a label at most, chosen by keyed hash; some 1 KB of memory each")


@dataclass(frozen=True)
class Model:
    """A trained model: `points` [signals, known values in ascending order], `weights` [signals] and the bias."""

    points: F64
    weights: F64
    bias: float

    def probabilities(self, numbers: F64) -> F64:
        """The probability of the positive label for each row of `numbers` [texts, signals]: [texts]."""
        return sigmoid(_evidence(ranks(self.points, numbers), self.weights, self.bias))


def ranks(points: F64, numbers: F64) -> F64:
    """The rank of each number among its signal's points, from -0.5 to 0.5, equal ones counting half: as `numbers`."""
    found = [
        np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
        for known, values in zip(points, numbers.T, strict=True)
    ]
    shares: F64 = np.stack(found, axis=1) / (2 * points.shape[1])
    return shares - 0.5


def _evidence(ranked: F64, weights: F64, bias: float) -> F64:
    total = np.full(len(ranked), bias)
    for i, weight in enumerate(weights.tolist()):
        total = total + ranked[:, i] * weight
    return total


def sigmoid(x: F64) -> F64:
    """1 / (1 + e^-x)."""
    power = exponential(-np.abs(x))
    return np.where(x < 0, power, 1.0) / (1.0 + power)


def train(lines: Iterable[str], _: str, config: RanksConfig, positive: str) -> bytes:
    """The bytes of a model trained on lines `__label__x [number, …]`, in any order; `positive` is the label of those that should score
    high. Each label weighs the same. Memory: some 1 KB a line."""
    rows = sorted(numbers_of_line(line) for line in lines)
    is_positive = np.array([label == positive for label, _ in rows])
    numbers = np.array([values for _, values in rows], np.float64)
    points = np.sort(np.concatenate([_points(numbers[is_positive]), _points(numbers[~is_positive])], axis=1), axis=1)
    weights, bias = _descend(ranks(points, numbers), is_positive, config)
    return dump(Model(points, weights, bias))


def numbers_of_line(line: str) -> tuple[str, list[float]]:
    """The label of a training line, and its numbers."""
    label, _, numbers = line.removeprefix(LABEL).partition(" ")
    return label, json.loads(numbers)


def _points(numbers: F64) -> F64:
    """POINTS of the values of each signal, at equal distances in their order: [signals, POINTS]."""
    places = (np.arange(POINTS) * 2 + 1) * len(numbers) // (2 * POINTS)
    return np.sort(numbers, axis=0)[places].T


def _descend(ranked: F64, is_positive: NDArray[np.bool_], config: RanksConfig) -> tuple[F64, float]:
    """AdaGrad over all examples at once. Duchi, Hazan, Singer 2011."""
    share = np.where(is_positive, 0.5 / np.count_nonzero(is_positive), 0.5 / np.count_nonzero(~is_positive))
    weights, bias = np.zeros(ranked.shape[1]), 0.0
    squares, bias_squares = np.full(ranked.shape[1], 1e-6), 1e-6
    for _ in range(config.steps):
        error = (sigmoid(_evidence(ranked, weights, bias)) - is_positive) * share
        gradient = np.array([np.cumsum(error * column)[-1] for column in ranked.T]) + config.l2 * weights
        slope = float(np.cumsum(error)[-1])
        squares, bias_squares = squares + gradient * gradient, bias_squares + slope * slope
        weights, bias = weights - LEARNING_RATE * gradient / np.sqrt(squares), bias - LEARNING_RATE * slope / float(np.sqrt(bias_squares))
    return weights, bias


def scores(fitted: Fitted, numbers: Sequence[Sequence[float]], cluster_ids: Sequence[bytes]) -> list[float]:
    """Probability of the positive label for each document's `prose_numbers`, by the models that did not see its cluster."""
    if not len(numbers):
        return []
    table = np.array(numbers, np.float64)

    def predict(model: Model, rows: list[int]) -> F64:
        return model.probabilities(table[rows])[:, None]

    found: list[float] = fitted.scores(cluster_ids, predict)[:, 0].tolist()
    return found


def dump(model: Model) -> bytes:
    """The model as bytes: its arrays in numpy's own format, the bias at the end of the weights."""
    file = io.BytesIO()
    for array in (model.points, np.append(model.weights, model.bias)):
        np.save(file, array, allow_pickle=False)
    return file.getvalue()


def load(data: bytes) -> Model:
    """The model of these bytes. Raises IntegrityError."""
    file = io.BytesIO(data)
    try:
        points, weights = (np.load(file, allow_pickle=False) for _ in range(2))
        if len(points) != len(weights) - 1:
            raise ValueError(f"{len(points)} signals, {len(weights) - 1} weights")
    except (ValueError, EOFError) as error:
        raise IntegrityError("quality model", expected="a model of quality", actual=str(error)) from error
    return Model(points, weights[:-1], float(weights[-1]))
