"""The model that keeps or drops blocks, in whole numbers: the same decisions on every processor, in every batch and build.

A block's input is its numbers and, summed, the learned vectors of its words and of the class words and tags of its element, its ancestors
and the chain of them all. Layers follow that each see a block, its neighbours at distance 1, 2, 4, …, the means over three elements
that enclose it and the mean over the page, so that regions are kept or dropped as a whole. Weights and values are 16-bit integers and
sums 32-bit ones, which no order of adding changes (`pipeline/native/block_network.c`); between layers they are rounded down.

`scripts/train_main_text.py` makes the weights, and says from what.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pipeline.ingest.main_text.blocks import Ints, Page
from pipeline.ingest.main_text.signals import MAX_LEVEL, NAME_WORDS, Hashes, Signals
from pipeline.native.block_network import fill_inputs, score_blocks
from pipeline.native.words import sum_vectors

WEIGHTS = Path(__file__).with_name("weights.safetensors")
VECTOR_UNIT, WEIGHT_UNIT, HIDDEN_UNIT = 1 << 6, 1 << 12, 1 << 8  # what stands for 1 in vectors and signals, in weights, in hidden values
LOGIT = WEIGHT_UNIT * HIDDEN_UNIT  # what stands for 1 in scores
LIMIT = 8  # of a hidden value
MAX_PAGE_WORDS = 200  # of a block in the page's mean
STEPS_PER_LOGIT, PROBABILITY_UNIT = 32, 1 << 15  # of the table of probabilities
REGIONS = (1, 2, 4)  # ancestors whose means a layer sees
Weights = NDArray[np.int16]
Sums = NDArray[np.int32]


@dataclass(frozen=True)
class Network:
    """Weights as integers. `first`, `page`, `last`: weights (outputs x inputs) and bias; `layers` the same of all layers, stacked."""

    class_words: Hashes
    class_vectors: Weights
    block_words: Hashes
    block_vectors: Weights
    tags: dict[str, int]
    tag_vectors: Weights
    first: tuple[Weights, Sums]
    page: tuple[Weights, Sums]
    layers: tuple[Weights, Sums]
    last: tuple[Weights, Sums]
    probabilities: Ints  # of scores around 0, `STEPS_PER_LOGIT` a logit


@functools.cache
def network() -> Network:
    """The weights that Caravan ships, loaded once a process."""
    return read_network(WEIGHTS)


def read_network(path: Path) -> Network:
    """A network from its file. Raises ValueError when sums of its weights could leave 32 bits."""
    found = load_file(path)

    def linear(*names: str) -> tuple[Weights, Sums]:
        weights, bias = ([found[f"{name}.{part}"] for name in names] for part in ("weight", "bias"))
        return np.concatenate(weights), np.concatenate(bias)

    tags = bytes(found["tags"]).decode().split()
    n_layers = sum(name.startswith("layer") for name in found) // 2
    net = Network(
        found["class_words"], found["class_vectors"], found["block_words"], found["block_vectors"],
        {tag: n for n, tag in enumerate(tags, 1)}, found["tag_vectors"], linear("first"), linear("page"),
        linear(*(f"layer{n}" for n in range(n_layers))), linear("last"), found["probabilities"].astype(np.int64),
    )  # fmt: skip
    _check_sums(net)
    return net


def _check_sums(net: Network) -> None:
    """Raise ValueError unless 16 bits hold every value and 32 bits every sum, whatever the page."""
    own = NAME_WORDS * int(np.abs(net.class_vectors.astype(np.int64)).max()) + int(np.abs(net.tag_vectors.astype(np.int64)).max())
    largest = max(own, LIMIT * VECTOR_UNIT, MAX_LEVEL)
    for (weights, bias), value in ((net.first, largest), *((layer, LIMIT * HIDDEN_UNIT) for layer in (net.page, net.layers, net.last))):
        sums = value * np.abs(weights.astype(np.int64)).sum(axis=1) + np.abs(bias.astype(np.int64))
        if largest > np.iinfo(np.int16).max or sums.max() > np.iinfo(np.int32).max:
            raise ValueError("the weights of the network are too large for sums of 32 bits")


def scores(page: Page, signals: Signals, net: Network) -> Ints:
    """A score for each block of the page, the logit of its being main text in units of 1 / `LOGIT`."""
    n, n_elements, (n_tags, width) = len(page.texts), len(page.tags), net.tag_vectors.shape
    tags = np.array([net.tags.get(tag, 0) for tag in signals.tags])[signals.tags_of]
    names = _sums(signals.names, signals.names_of, net.class_words, net.class_vectors, signals.n_names)
    words = _sums(signals.words, signals.words_of, net.block_words, net.block_vectors, n)
    numbers = np.ascontiguousarray(signals.numbers.T)
    values = np.empty((n, net.first[0].shape[1]), np.int16)
    fill_inputs(
        (n, len(numbers), n_elements, signals.n_names, n_tags, width), LIMIT * VECTOR_UNIT,
        (numbers, signals.ancestors, signals.inline, words), (page.parents, signals.of_elements, tags), (names, net.tag_vectors), values,
    )  # fmt: skip
    regions = signals.ancestors[:, REGIONS]
    ranges = np.empty((n, len(REGIONS), 2), np.int64)
    ranges[:, :, 0], ranges[:, :, 1] = page.first_block[regions], page.end_block[regions]
    found = np.empty(n, np.int64)
    width = len(net.page[1])
    sizes = (n, values.shape[1], width, len(net.layers[1]) // width)
    score_blocks(
        sizes, (values, np.minimum(signals.n_words, MAX_PAGE_WORDS), ranges), (*net.first, *net.page, *net.layers, *net.last), found
    )
    return found


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


def _sums(hashes: Hashes, of: Ints, known: Hashes, vectors: Weights, n: int) -> Sums:
    """The sum of the vectors of the known words of each of `n` blocks or names."""
    sums = np.empty((n, vectors.shape[1]), np.int32)
    sum_vectors(hashes, of, known, vectors, vectors.shape[1], sums)
    return sums
