"""Words, n-grams and similarity as RULES have them, written anew: what is checked must not be checked by its own code."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

ALONE = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ", "IDEOGRAPHIC ", "HALFWIDTH KATAKANA")
BASE = 0x9E3779B97F4A7C15


class _Spaced(dict[int, str]):
    """What `str.translate` puts for a character: itself in a word, itself between spaces where it is a word, else a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if not (character == "_" or character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")):
            found = " "
        elif unicodedata.name(character, "").startswith(ALONE):
            found = f" {character} "
        else:
            found = character
        self[code] = found
        return found


_SPACED = _Spaced()


def own_words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits, marks and `_`; a character of a script written without spaces is a word."""
    return unicodedata.normalize("NFC", text).lower().translate(_SPACED).split()


def is_spaced(text: str) -> bool:
    """Whether no character of a script written without spaces is in a text: there the two ways of cutting words cannot differ."""
    return not any(len(_SPACED[ord(c)]) == 3 for c in text)


def shingles(text: str, n: int) -> set[tuple[str, ...]]:
    """The set of word n-grams; all words where there are fewer."""
    words = own_words(text)
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def own_jaccard(a: str, b: str, n: int) -> float:
    """Jaccard similarity of two texts' shingles."""
    one, two = shingles(a, n), shingles(b, n)
    return len(one & two) / len(one | two) if one | two else 1.0


class Grams:
    """The n-grams of some texts, and which of them other texts have."""

    def __init__(self, texts: Iterable[str], n: int) -> None:
        self._n, self._number = n, dict[str, int]()
        self._powers = np.array([pow(BASE, k, 1 << 64) for k in range(n)], np.uint64)
        self._texts = [self._numbers(own_words(text), learn=True) for text in texts]
        found = [self._hashes(numbers) for numbers in self._texts]
        self._known = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
        self._met = np.zeros(len(self._known), bool)

    def _numbers(self, words: list[str], *, learn: bool) -> npt.NDArray[np.uint64]:
        """A 64-bit number for each word; 0 for one that no text to be covered has."""
        if learn:
            for word in words:
                if word not in self._number:
                    self._number[word] = (len(self._number) + 1) * 0xD6E8FEB86659FD93 & 0xFFFFFFFFFFFFFFFF
        return np.fromiter((self._number.get(word, 0) for word in words), np.uint64, len(words))

    def _hashes(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        count = len(numbers) - self._n + 1
        if count < 1:
            return np.empty(0, np.uint64)
        sums, known = np.zeros(count, np.uint64), np.ones(count, bool)
        for k, power in enumerate(self._powers):
            sums += numbers[k : k + count] * power
            known &= numbers[k : k + count] != 0
        return sums[known]

    def meet(self, text: str) -> None:
        """Mark the n-grams that `text` has."""
        if len(self._known):
            grams = self._hashes(self._numbers(own_words(text), learn=False))
            places = np.minimum(np.searchsorted(self._known, grams), len(self._known) - 1)
            self._met[places[self._known[places] == grams]] = True

    def covered(self) -> list[tuple[int, int]]:
        """Of each text (words, words that lie in a marked n-gram)."""
        found = list[tuple[int, int]]()
        for numbers in self._texts:
            inside = np.zeros(len(numbers), bool)
            if len(numbers) >= self._n:
                for start in np.flatnonzero(self._met[np.searchsorted(self._known, self._hashes(numbers))]).tolist():
                    inside[start : start + self._n] = True
            found.append((len(numbers), int(inside.sum())))
        return found
