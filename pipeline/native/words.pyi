"""Counts of kinds of characters, hashes of words, and sums of their vectors, over many texts in one call."""

from collections.abc import Hashable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item", bound=Hashable)

def count_kinds(texts: list[str], flags: NDArray[np.uint16], counts: NDArray[np.int64], edges: NDArray[np.uint16], /) -> None:
    """Fill `counts` (texts x 9) with how many characters of each text have bit 0, 1, … of `flags` (65,536, by code point; the last entry
    for all above), and `edges` (texts x 2) with the flags of its first and its last character, 0 for an empty text. Raises ValueError when
    an array has another size."""

def hash_words(
    texts: list[str], max_chars: int, max_words: int, camel: bool, flags: NDArray[np.uint16], lower: NDArray[np.uint16], /
) -> tuple[bytes, bytes]:
    """The hashes (uint64) of the first `max_words` words within the first `max_chars` characters of each text, and for each the index of
    its text (int64), in the order of the texts.

    A word is a run of characters with bit 4 of `flags`; with `camel`, one with bit 2 behind one without begins another. A hash is the sum,
    modulo 2^64, of each character's `lower` (65,536, by code point) times 0x9E3779B97F4A7C15 to the power of its place (1, …; 64 for all
    behind). Raises ValueError when a table has another size."""

def number_items(items: list[Item], numbers: NDArray[np.int64], /) -> list[Item]:
    """The different ones of `items`, in the order in which they first occur; `numbers` is filled with the place of each item in it. Raises
    ValueError when the array has another size."""

def sum_vectors(
    hashes: NDArray[np.uint64],
    of: NDArray[np.int64],
    known: NDArray[np.uint64],
    vectors: NDArray[np.int16],
    width: int,
    sums: NDArray[np.int32],
    /,
) -> None:
    """Fill `sums` (texts x width) with the sum, over the `hashes` of each text that are `known` (sorted), of their `vectors`
    (known x width). Raises ValueError when an array has another size, or an index in `of` is outside `sums`."""
