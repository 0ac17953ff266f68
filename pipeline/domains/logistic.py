"""Multinomial logistic regression on words and form, trained by AdaGrad. Exactly reproducible: the same examples give the same bytes.

A text's evidence for a label is the mean of the weights of its different words (those that the model does not know are 0, so they water it
down) times WORD_SCALE, plus the sum of the weights of its form divided by the square root of their number. Where few of the words are known
the form counts less: symbols between words of an unknown script tell nothing.

Everything is sums, products, quotients and square roots of float64 in a fixed order, the exponential included, so the bytes of a model and
of its probabilities do not depend on the processor. Duchi, Hazan, Singer 2011 (AdaGrad).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.classifier_steps import LABEL
from pipeline.domains.signals import FORM_FEATURES, Features, features
from pipeline.words import I64, U64, mix64
from storage.errors import IntegrityError
from storage.strict import Strict

F64 = NDArray[np.float64]
WORD_SCALE = 22.0
MIN_WORDS = 20  # a shorter text is judged as if it had so many different words
KNOWN_SHARE = 0.5  # of the words; below it form counts in proportion
LN2_HIGH, LN2_LOW = 0.693359375, -2.121944400546905827679e-4
BATCH_EXAMPLES = 128
FORMLESS_SHARE = 0.25  # of the examples, anew in each epoch: they are seen by their words alone, as extraction leaves many a page
ENCODED_TOGETHER = 512  # examples


class LogisticConfig(Strict):
    """How the classifier is trained."""

    epochs: int = Field(4, ge=1, description="passes over the examples")
    learning_rate: float = Field(0.2, gt=0, description="of AdaGrad")
    l2: float = Field(1e-4, ge=0, description="pull of the weights towards 0")
    min_count: int = Field(2, ge=1, description="words in fewer examples are not known, examples")
    max_words: int = Field(1 << 17, ge=1, description="words that the model knows at most, the most frequent; 24 bytes each")
    max_examples: int = Field(25_000, ge=1, description="examples of a label at most, chosen by keyed hash; some 5 KB of memory each")


@dataclass(frozen=True)
class Model:
    """A trained model: the weights of each known word (`words`: sorted hashes) and of each feature of form, and the bias; a column per
    label."""

    labels: tuple[str, ...]
    words: U64
    word_weights: F64
    form_weights: F64
    bias: F64

    def probabilities(self, found: Features, labels: Sequence[str]) -> F64:
        """The probability of each of `labels` for each text, 0 for a label that the model does not have; NaN for a text without a known
        word."""
        slots, offsets, scales, known = _encode(found, self.words)
        rows = np.repeat(np.arange(len(found)), np.diff(offsets))
        weights = np.concatenate([self.word_weights, self.form_weights])
        values = np.where(slots < len(self.words), scales[rows, 0], scales[rows, 1])
        columns = softmax(_sums(rows, weights[slots], values, len(found)) + self.bias)
        result = np.zeros((len(found), len(labels)))
        for i, label in enumerate(labels):
            if label in self.labels:
                result[:, i] = columns[:, self.labels.index(label)]
        result[known == 0] = np.nan
        return result


def _encode(found: Features, words: U64) -> tuple[NDArray[np.int32], I64, F64, I64]:
    """Slots of the known words of each text, then of its form; where each text's begin; the scale of its words and of its form; and how
    many words are known."""
    n = len(found)
    word_rows, form_rows = (np.repeat(np.arange(n), np.diff(offsets)) for offsets in (found.word_offsets, found.form_offsets))
    places = np.minimum(np.searchsorted(words, found.words), max(len(words) - 1, 0))
    is_known = words[places] == found.words if len(words) else np.zeros(len(found.words), np.bool_)
    known = np.bincount(word_rows[is_known], minlength=n)
    counts, form_counts = np.diff(found.word_offsets), np.diff(found.form_offsets)
    share = np.minimum(1.0, known / np.maximum(counts, 1) / KNOWN_SHARE)
    scales = np.stack([WORD_SCALE / np.maximum(counts, MIN_WORDS), share / np.sqrt(np.maximum(form_counts, 1))], axis=1)
    rows, slots = np.concatenate([word_rows[is_known], form_rows]), np.concatenate([places[is_known], found.form + len(words)])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(known + form_counts)])
    return slots[np.argsort(rows, kind="stable")].astype(np.int32), offsets, scales, known


def _sums(rows: I64, weights: F64, values: F64, n: int) -> F64:
    """For each text and label the sum of values times weights; `weights` has a row for each value."""
    return np.stack([np.bincount(rows, weights[:, label] * values, minlength=n) for label in range(weights.shape[1])], axis=1)


def exponential(x: F64) -> F64:
    """e^x for x <= 0, to 1e-15, by sums and products alone: the processor's own differs in its last bits from one to the next."""
    x = np.maximum(x, -700.0)
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    term, total = np.ones_like(x), np.ones_like(x)
    for i in range(1, 15):
        term = term * r / i
        total = total + term
    return np.ldexp(total, k.astype(np.int64))


def softmax(evidence: F64) -> F64:
    """Probabilities of each row, summed from the left."""
    powers = exponential(evidence - evidence.max(axis=1, keepdims=True))
    total = powers[:, 0]
    for column in range(1, powers.shape[1]):
        total = total + powers[:, column]
    return powers / total[:, None]


def train(lines: Iterable[str], key: str, config: LogisticConfig) -> bytes:
    """The bytes of a model trained on lines `__label__x "text as JSON"`, whatever their order. Each label weighs the same.

    Memory: some 2 KB a line. Labels are in the order of their names.
    """
    rows = sorted((hashlib.blake2b(line.encode(), digest_size=8, key=key.encode()[:64]).digest(), line) for line in lines)
    names = [line.split(" ", 1)[0].removeprefix(LABEL) for _, line in rows]
    labels = tuple(sorted(set(names)))
    parts = [
        features([json.loads(line.split(" ", 1)[1]) for _, line in rows[start : start + ENCODED_TOGETHER]])
        for start in range(0, len(rows), ENCODED_TOGETHER)
    ]
    words = _known_words(np.concatenate([part.words for part in parts]), config)
    keys = np.frombuffer(b"".join(digest for digest, _ in rows), ">u8").astype(np.uint64)
    weights, bias = _descend(parts, words, np.array([labels.index(name) for name in names]), len(labels), keys, config)
    return dump(Model(labels, words, weights[: len(words)], weights[len(words) :], bias))


def _known_words(hashes: U64, config: LogisticConfig) -> U64:
    """The words that enough examples have, the most frequent of them; ties by hash."""
    words, counts = np.unique(hashes, return_counts=True)
    words, counts = words[counts >= config.min_count], counts[counts >= config.min_count]
    return np.sort(words[np.argsort(-counts, kind="stable")[: config.max_words]])


def _descend(parts: Sequence[Features], words: U64, chosen: I64, n_labels: int, keys: U64, config: LogisticConfig) -> tuple[F64, F64]:
    """AdaGrad over batches, each epoch in another order of the examples, which depends on their keys alone. Returns weights and bias."""
    encoded = [_encode(part, words) for part in parts]
    slots, scales = np.concatenate([each[0] for each in encoded]), np.concatenate([each[2] for each in encoded])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(each[1]) for each in encoded]))])
    importance = (len(chosen) / n_labels / np.bincount(chosen, minlength=n_labels))[chosen]
    target = np.eye(n_labels)[chosen]
    weights, squares = np.zeros((len(words) + FORM_FEATURES, n_labels)), np.full((len(words) + FORM_FEATURES, n_labels), 1e-6)
    bias, bias_squares = np.zeros(n_labels), np.full(n_labels, 1e-6)
    for epoch in range(config.epochs):
        drawn = mix64(keys + np.uint64(epoch))
        order = np.argsort(drawn, kind="stable")
        form_scales = np.where((drawn & np.uint64(0xFFFF)).astype(np.int64) < FORMLESS_SHARE * 0x10000, 0.0, scales[:, 1])
        for start in range(0, len(order), BATCH_EXAMPLES):
            batch = order[start : start + BATCH_EXAMPLES]
            counts = offsets[batch + 1] - offsets[batch]
            rows = np.repeat(np.arange(len(batch)), counts)
            used, inverse = np.unique(
                slots[np.arange(len(rows)) + np.repeat(offsets[batch] - (np.cumsum(counts) - counts), counts)], return_inverse=True
            )
            values = np.where((used < len(words))[inverse], scales[batch, 0][rows], form_scales[batch][rows])
            some = weights[used]
            error = softmax(_sums(rows, some[inverse], values, len(batch)) + bias) - target[batch]
            error *= importance[batch][:, None] / len(batch)
            gradient = _sums(inverse, error[rows], values, len(used)) + config.l2 * some
            squares[used] += gradient * gradient
            weights[used] = some - config.learning_rate * gradient / np.sqrt(squares[used])
            slope = np.cumsum(error, axis=0)[-1]
            bias_squares += slope * slope
            bias -= 0.1 * config.learning_rate * slope / np.sqrt(bias_squares)
    return weights, bias


def dump(model: Model) -> bytes:
    """The model as bytes: a line of JSON with its labels, then its arrays in numpy's own format, weights rounded to 32 bits."""
    file = io.BytesIO()
    file.write(json.dumps({"labels": model.labels}).encode() + b"\n")
    np.save(file, model.words, allow_pickle=False)
    for weights in (model.word_weights, model.form_weights, model.bias):
        np.save(file, weights.astype(np.float32), allow_pickle=False)
    return file.getvalue()


def load(data: bytes) -> Model:
    """The model of these bytes. Raises IntegrityError."""
    file = io.BytesIO(data)
    try:
        labels = tuple(json.loads(file.readline())["labels"])
        words, *weights = [np.load(file, allow_pickle=False) for _ in range(4)]
    except (ValueError, KeyError, EOFError) as error:
        raise IntegrityError("domains model", expected="a model of domains", actual=str(error)) from error
    return Model(labels, words, *(each.astype(np.float64) for each in weights))
