"""One tokenisation of a document and what several filters need of its words, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET
from numpy.typing import NDArray

from pipeline.quality.stop_words import FUNCTION_WORDS
from pipeline.words import words

CACHED_WORDS = 200_000  # about 20 MB a process
NOT_SYMBOL, HAS_LETTER, FUNCTION_WORD, CAPITAL, LENGTH_SHIFT = 1, 2, 4, 8, 4


class _WordFacts(dict[str, int]):
    """word -> (length << LENGTH_SHIFT | flags), computed once; emptied when full. It never changes a result."""

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED_WORDS:
            self.clear()
        flags = NOT_SYMBOL if any(character not in PUNCTUATION_SET for character in word) else 0
        flags |= HAS_LETTER if any(character.isalpha() for character in word) else 0
        flags |= FUNCTION_WORD if word.lower() in FUNCTION_WORDS else 0
        flags |= CAPITAL if word[0].isupper() else 0
        self[word] = found = len(word) << LENGTH_SHIFT | flags
        return found


_facts = _WordFacts()


@dataclass(frozen=True)
class View:
    """A text and its words. Arrays of shape [words]: `facts` (length << LENGTH_SHIFT | flags) and `hashes` (of equal words equal)."""

    text: str
    words: list[str]
    facts: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each word."""
        return self.facts >> LENGTH_SHIFT

    def count(self, flag: int) -> int:
        """Words that carry `flag`."""
        return int(np.count_nonzero(self.facts & flag))


def view(text: str) -> View:
    """Tokenise a text, once. The hashes are Python's: they differ between processes and serve only to compare words of one document."""
    tokens = words(text)
    facts = np.fromiter(map(_facts.__getitem__, tokens), np.int64, len(tokens))
    return View(text, tokens, facts, np.fromiter(map(hash, tokens), np.int64, len(tokens)).view(np.uint64))


def ratio(part: float, whole: float) -> float:
    """part / whole, 0 for an empty whole."""
    return part / whole if whole else 0.0
