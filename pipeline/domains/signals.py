"""What the domain classifier reads of a text: which words it has, and its form.

Form is which pairs of neighbouring characters occur, by class (lower case, upper case, digit, line end, tab, each common symbol …), and how
often, on a logarithmic scale: `a_b`, `);`, `\\frac`, `{`, indentation and line ends are such pairs. So symbols, indentation, TeX and digits
are all seen in one pass over the characters, and what does not occur says nothing.

A document is read in pieces spread over it, all of them together. What trains is pieces of several lengths, as short texts have to be
judged as well as long ones.
"""

# ruff: noqa: RUF001 - quotation marks and dashes are characters to be told apart here
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.words import I64, U64, word_hashes

# Classes of characters: each string of these is a class, and so are the ranges below it; what is in none is class 0.
_STRINGS = (
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " \u00a0", "\n", "\t", "_", "\\", "{", "}", "(", ")",
    "[", "]", "=", ";", ":", ".", ",", '"', "$", "<", ">", "!?", "+*/^|&%-~", "#", "@", "`", "'", "‘’“”–—…«»•",
)  # fmt: skip
_RANGES = (
    ((0x391, 0x3AA), (0x3B1, 0x3CA)),  # Greek letters, as formulas have them
    (
        (0xB1, 0xB2),
        (0xD7, 0xD8),
        (0xF7, 0xF8),
        (0x2070, 0x20A0),
        (0x2100, 0x2300),
        (0x2A00, 0x2B00),
        (0x1D400, 0x1D800),
    ),  # mathematics, arrows
)
_BEYOND_ASCII = len(_STRINGS) + len(_RANGES) + 1
CLASSES = _BEYOND_ASCII + 1
LEVELS = 12
FORM_FEATURES = CLASSES * CLASSES * LEVELS
EXAMPLE_SHARES = (5, 30, 12, 75)  # of the length of a piece, in thirtieths: the lengths of examples
BATCH_CHARACTERS, BATCH_TEXTS = 1 << 18, 1 << 10  # that are looked at together; some 60 bytes of memory a character, 10 KB a text


@lru_cache(1)
def _classes() -> NDArray[np.uint8]:
    """The class of every code point."""
    classes = np.zeros(0x110000, np.uint8)
    classes[0x80:] = _BEYOND_ASCII
    for i, ranges in enumerate(_RANGES):
        for start, stop in ranges:
            classes[start:stop] = len(_STRINGS) + 1 + i
    for i, characters in enumerate(_STRINGS):
        classes[[ord(character) for character in characters]] = i + 1
    return classes


@dataclass(frozen=True)
class Features:
    """What is read of several texts. Text i has the different words `words[word_offsets[i]:word_offsets[i + 1]]` (64-bit hashes, sorted),
    and likewise the features of form `form[form_offsets[i]:…]` (numbers below FORM_FEATURES, sorted)."""

    words: U64
    word_offsets: I64
    form: I64
    form_offsets: I64

    def __len__(self) -> int:
        return len(self.word_offsets) - 1


def features(texts: Sequence[str]) -> Features:
    """The words and the form of each text."""
    parts, batch, characters = list[Features](), list[str](), 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_TEXTS:
            parts.append(_features(batch))
            batch, characters = [], 0
    return joined([*parts, _features(batch)])


def joined(parts: Sequence[Features]) -> Features:
    """The features of one batch of texts after those of another."""

    def offsets(some: Sequence[I64]) -> I64:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(each) for each in some]))])

    return Features(
        np.concatenate([part.words for part in parts]),
        offsets([part.word_offsets for part in parts]),
        np.concatenate([part.form for part in parts]),
        offsets([part.form_offsets for part in parts]),
    )


def _features(texts: Sequence[str]) -> Features:
    hashes, offsets = word_hashes(texts)
    words = [np.unique(hashes[start:stop]) for start, stop in pairwise(offsets)]
    rows, form = _form(texts)
    return Features(
        np.concatenate([np.empty(0, np.uint64), *words]),
        np.cumsum([0, *map(len, words)], dtype=np.int64),
        form,
        np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(texts)))]).astype(np.int64),
    )


def _form(texts: Sequence[str]) -> tuple[I64, I64]:
    """(text, feature) for each pair of classes that occurs in a text: its number, and how often by `level`. A text begins a line."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    codes = np.frombuffer("".join(f"\n{text}" for text in texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classes()[codes].astype(np.int64)
    pairs = classes[:-1] * CLASSES + classes[1:]
    texts_of_pairs = np.repeat(np.arange(len(texts)), lengths)[1:]
    inside = texts_of_pairs == np.repeat(np.arange(len(texts)), lengths)[:-1]
    counts = np.bincount((texts_of_pairs * CLASSES**2 + pairs)[inside], minlength=len(texts) * CLASSES**2).reshape(len(texts), CLASSES**2)
    rows, found = np.nonzero(counts)
    return rows, found * LEVELS + level(counts[rows, found] / lengths[rows])


def level(ratios: NDArray[np.float64]) -> I64:
    """Ratios above 0 as whole numbers below LEVELS: 0 up to 1/2,048, and up by one each time it doubles."""
    return np.clip(np.frexp(ratios)[1].astype(np.int64) + LEVELS - 2, 0, LEVELS - 1)


def pieces(text: str, piece_chars: int, max_pieces: int) -> list[str]:
    """Pieces of `piece_chars` characters spread over the text, at most `max_pieces`; a short text is one piece, none of a blank one."""
    if not text.strip():
        return []
    count, span = max(1, min(max_pieces, len(text) // piece_chars)), max(0, len(text) - piece_chars)
    return [text[start : start + piece_chars] for start in (span * i // max(1, count - 1) for i in range(count))]


def read(text: str, piece_chars: int, max_pieces: int) -> str:
    """What is read of a document: its pieces, a line end between them."""
    return "\n".join(pieces(text, piece_chars, max_pieces))


def examples(text: str, piece_chars: int, max_examples: int) -> list[str]:
    """What a document trains with: as many pieces as it would be read in, of several lengths, at places that follow from the text."""
    count, found = max(1, min(max_examples, len(text) // piece_chars)), list[str]()
    places = np.random.Generator(np.random.Philox(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())))
    for _ in range(count):
        size = piece_chars * EXAMPLE_SHARES[int(places.integers(len(EXAMPLE_SHARES)))] // 30
        start = int(places.integers(max(0, len(text) - size) + 1))
        found.append(text[start : start + size])
    return [example for example in found if example.strip()]
