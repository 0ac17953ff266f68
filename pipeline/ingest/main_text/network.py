"""The model that keeps or drops blocks, in whole numbers: the same decisions on every processor, in every batch and build.

A block's input is its numbers and, summed, the learned vectors of its words and of the class words and tags of its element, its ancestors
and the chain of them all. Layers follow that each see a block, its neighbours at distance 1, 2, 4, …, the means over three elements
that enclose it and the mean over the page, so that regions are kept or dropped as a whole. Weights are 16-bit integers and all sums are of
integers below 2^53, which float64 holds exactly in whatever order a library adds them; between layers they are rounded down.

`scripts/train_main_text.py` makes the weights, and says from what.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pipeline.ingest.main_text.blocks import Page
from pipeline.ingest.main_text.signals import Hashes, Ints, Signals

WEIGHTS = Path(__file__).with_name("weights.safetensors")
VECTOR_UNIT, WEIGHT_UNIT, HIDDEN_UNIT = 1 << 6, 1 << 12, 1 << 8  # what stands for 1 in vectors and signals, in weights, in hidden values
LOGIT = WEIGHT_UNIT * HIDDEN_UNIT  # what stands for 1 in scores
LIMIT = 8  # of a hidden value
MAX_PAGE_WORDS = 200  # of a block in the page's mean
STEPS_PER_LOGIT, PROBABILITY_UNIT = 32, 1 << 15  # of the table of probabilities
REGIONS = (1, 2, 4)  # ancestors whose means a layer sees
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """Weights as integers: float64 where they multiply, the vectors of words as int32. `layers`: (weights, bias) each."""

    class_words: Hashes
    class_vectors: Ints
    block_words: Hashes
    block_vectors: Ints
    tags: dict[str, int]
    tag_vectors: Ints
    first: tuple[Floats, Floats]
    page: tuple[Floats, Floats]
    layers: tuple[tuple[Floats, Floats], ...]
    last: tuple[Floats, Floats]
    probabilities: Ints  # of scores around 0, `STEPS_PER_LOGIT` a logit


@functools.cache
def network() -> Network:
    """The weights that Caravan ships, loaded once a process."""
    return read_network(WEIGHTS)


def read_network(path: Path) -> Network:
    """A network from its file."""
    found = load_file(path)

    def linear(name: str) -> tuple[Floats, Floats]:
        return found[f"{name}.weight"].T.astype(np.float64), found[f"{name}.bias"].astype(np.float64)

    tags = bytes(found["tags"]).decode().split()
    return Network(
        found["class_words"], found["class_vectors"].astype(np.int32), found["block_words"], found["block_vectors"].astype(np.int32),
        {tag: n for n, tag in enumerate(tags, 1)}, found["tag_vectors"].astype(np.int32), linear("first"), linear("page"),
        tuple(linear(f"layer{n}") for n in range(sum(name.startswith("layer") for name in found) // 2)), linear("last"),
        found["probabilities"].astype(np.int64),
    )  # fmt: skip


def scores(page: Page, signals: Signals, net: Network) -> Ints:
    """A score for each block of the page, the logit of its being main text in units of 1 / `LOGIT`."""
    ancestors = signals.ancestors
    first, end = np.array(page.first_block), np.array(page.end_block)
    tags = np.array([net.tags.get(tag, 0) for tag in page.tags])
    names = _sums(
        signals.names,
        signals.names_of,
        net.class_words,
        net.class_vectors,
        1 + max(int(signals.inline.max()), int(signals.of_elements.max())),
    )
    own = names[signals.of_elements] + net.tag_vectors[tags]
    ended = np.concatenate([np.zeros((1, own.shape[1]), np.int32), np.cumsum(own[np.array(page.end_order)], axis=0, dtype=np.int32)])
    chain = np.cumsum(own, axis=0, dtype=np.int32) - ended[np.array(page.ended_before)]
    n = len(page.texts)
    limit = LIMIT * VECTOR_UNIT
    inline = names[signals.inline]
    words = _sums(signals.words, signals.words_of, net.block_words, net.block_vectors, n)
    values = np.concatenate(
        [
            signals.numbers, *(own[ancestors[:, level]] for level in range(4)), np.clip(chain[ancestors[:, 0]], -limit, limit),
            np.clip(inline, -limit // 2, limit // 2), np.clip(words, -limit, limit),
        ],
        axis=1,
    ).astype(np.float64)  # fmt: skip
    hidden = _rectified(np.floor(_linear(values, net.first) * (HIDDEN_UNIT / (VECTOR_UNIT * WEIGHT_UNIT))))
    weights = np.minimum(signals.n_words, MAX_PAGE_WORDS).astype(np.float64)
    of_page = np.floor(np.concatenate([hidden.sum(axis=0) / n, (weights @ hidden) / weights.sum()]))
    hidden = _rectified(hidden + np.floor(_linear(of_page[None], net.page) * (1 / WEIGHT_UNIT)))
    regions = [_Region.of(ancestors[:, level], first, end) for level in REGIONS]
    for number, layer in enumerate(net.layers):
        hidden = _rectified(hidden + np.floor(_seen(hidden, 1 << number, regions, layer) * (1 / WEIGHT_UNIT)))
    found: Ints = _linear(hidden, net.last)[:, 0].astype(np.int64)
    return found


@dataclass(frozen=True)
class _Region:
    """The elements that enclose blocks at one level, each once: their ranges of blocks, and which of them is each block's."""

    first: Ints
    end: Ints
    of_block: Ints

    @classmethod
    def of(cls, elements: Ints, first: Ints, end: Ints) -> _Region:
        """The regions of these elements, one for each block."""
        unique, of_block = np.unique(elements, return_inverse=True)
        return cls(first[unique], end[unique], of_block)


def kept(found: Ints, n_words: Ints, net: Network) -> list[bool]:
    """Which blocks to keep: the best by score, as many as make the expected word F1 of the page largest (Lewis 1995; Ye et al. 2012).

    So a page on which nothing is certain keeps its likeliest part, where one cut for all pages would keep nothing.
    """
    step = LOGIT // STEPS_PER_LOGIT
    half = len(net.probabilities) // 2
    probabilities = net.probabilities[np.clip(found // step, -half, half) + half]
    order = np.argsort(-probabilities, kind="stable")
    expected = np.cumsum((probabilities * n_words)[order])
    values = expected / (np.cumsum(n_words[order]) * PROBABILITY_UNIT + expected[-1])
    keep = np.zeros(len(found), bool)
    keep[order[: int(np.argmax(values)) + 1]] = True
    chosen: list[bool] = keep.tolist()
    return chosen


def _seen(hidden: Floats, distance: int, regions: list[_Region], layer: tuple[Floats, Floats]) -> Floats:
    """A layer's sums for each block: over its own values, its neighbours' at a distance, the means over its regions, the page's mean."""
    n, width = hidden.shape
    own, before, after, *of_regions, of_page = layer[0].reshape(-1, width, width)
    found = hidden @ own
    if distance < n:
        found[distance:] += hidden[:-distance] @ before
        found[:-distance] += hidden[distance:] @ after
    sums = np.concatenate([np.zeros((1, width)), np.cumsum(hidden, axis=0)])
    for region, weights in zip(regions, of_regions, strict=True):
        means = np.floor((sums[region.end] - sums[region.first]) / (region.end - region.first)[:, None])
        found += (means @ weights)[region.of_block]
    found += np.floor(sums[-1] / n) @ of_page + layer[1]
    return found


def _linear(values: Floats, layer: tuple[Floats, Floats]) -> Floats:
    return values @ layer[0] + layer[1]


def _rectified(values: Floats) -> Floats:
    return np.clip(values, 0, LIMIT * HIDDEN_UNIT)


def _sums(hashes: Hashes, of: Ints, known: Hashes, vectors: Ints, n: int) -> Ints:
    """The sum of the vectors of the known words of each of `n` blocks or elements."""
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    is_known = known[place] == hashes
    total = np.concatenate([np.zeros((1, vectors.shape[1]), np.int32), np.cumsum(vectors[place[is_known]], axis=0, dtype=np.int32)])
    bounds = np.searchsorted(of[is_known], np.arange(n + 1))
    sums: Ints = total[bounds[1:]] - total[bounds[:-1]]
    return sums
