"""Which words of a page's blocks belong to its main text: the longest common subsequence of words, by bits (Hyyrö 2004)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 30_000  # of a page that are aligned: the table has words of the page x words of the main text bits
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def matched_words(texts: Sequence[str], main_text: str) -> NDArray[np.float32]:
    """How many words of each text lie in the longest common subsequence with the main text."""
    words = [words_of(text) for text in texts]
    matched = longest_common([word for some in words for word in some][:MAX_WORDS], words_of(main_text))
    owner = np.repeat(np.arange(len(texts)), [len(some) for some in words])
    return np.bincount(owner[matched], minlength=len(texts)).astype(np.float32)


def longest_common(a: Sequence[str], b: Sequence[str]) -> list[int]:
    """Indices of the words of `a` in a longest common subsequence with `b`, ascending."""
    places: dict[str, int] = {}
    for j, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << j
    full = (1 << len(b)) - 1
    rows = [full]
    for word in a:
        same = rows[-1] & places.get(word, 0)
        rows.append((rows[-1] + same | rows[-1] - same) & full)
    i, j, found = len(a), len(b), list[int]()
    while i > 0 and j > 0:  # bit j - 1 of a row is 0 where the subsequence grows with word j of b
        if rows[i] >> j - 1 & 1:
            j -= 1
        elif not rows[i - 1] >> j - 1 & 1:
            i -= 1
        else:
            found.append(i - 1)
            i, j = i - 1, j - 1
    return found[::-1]
