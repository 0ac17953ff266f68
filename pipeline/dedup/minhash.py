"""MinHash: signatures of datasketch, bands, and the exact Jaccard similarity that verifies a candidate.

A document's shingles are its word n-grams (`pipeline.words`: lower case, no punctuation; characters where a script has no spaces),
as 64-bit hashes. The signature is datasketch's: scheme affine32, its permutations for `seed`, over the upper 32 bits of each shingle's
hash, so that `datasketch.MinHash(num_perm, seed, hashfunc=lambda shingle: shingle >> 32, scheme="affine32")` gives the same values
(a test says so). What is replaced is the speed: shingles and permutations are computed in numpy for many documents at once.

Sources: Broder 1997 (MinHash); datasketch 2.0 (scheme); bands and rows as in FineWeb (14 x 8, 5-grams). A pair of Jaccard s becomes a
candidate with probability 1 - (1 - s^rows)^bands: 0.92 at 0.8 and 1.00 at 0.9 by default. Deviation: candidates are verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.words import mix64, ngram_hashes, word_hashes
from storage.strict import Strict

U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

BATCH_CHARACTERS = 1 << 18  # texts are hashed in batches of about this many characters: the arrays stay in the cache
_CHUNK_SHINGLES = 512  # 128 permutations of this many fill 256 KiB
_BAND_BASE = 0xC2B2AE3D27D4EB4F  # odd


class MinHashConfig(Strict):
    """Near-duplicate search. Defaults are FineWeb's (5-grams, 14 bands of 8), verified at Jaccard 0.8."""

    ngram_words: int = Field(5, ge=1, description="words in a shingle")
    bands: int = Field(14, ge=1, description="bands of the signature; two documents that agree on one whole band are candidates")
    rows: int = Field(8, ge=1, description="permutations in a band")
    seed: int = Field(1, ge=0, lt=2**32, description="seed of datasketch's permutations")
    scheme: Literal["affine32"] = Field(
        "affine32", description="datasketch's permutation scheme, recorded because signatures differ between them"
    )
    min_jaccard: float = Field(
        0.8, gt=0, le=1, description="candidates with at least this Jaccard similarity of shingle sets are near duplicates"
    )
    full_bucket: int = Field(32, ge=1, description="documents of a bucket that are compared with all others in it; see candidates.py")

    @property
    def num_perm(self) -> int:
        """Permutations in a signature."""
        return self.bands * self.rows


@lru_cache(4)
def permutations(num_perm: int, seed: int) -> tuple[U32, U32]:
    """datasketch's multipliers (odd) and offsets of scheme affine32, uint32 [num_perm] each.

    Drawn here as datasketch draws them, because importing it takes two seconds of processor time in every worker.
    """
    generator = np.random.RandomState(seed)
    multipliers = generator.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return multipliers, generator.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut a sequence of texts into ranges (start, end) of about BATCH_CHARACTERS characters. Results do not depend on it."""
    start, characters = 0, 0
    for i, text in enumerate(texts):
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield start, i + 1
            start, characters = i + 1, 0
    if start < len(texts):
        yield start, len(texts)


def shingles(texts: Sequence[str], ngram_words: int) -> tuple[U64, I64]:
    """Hashed shingles of each text in order, repeats included: (uint64 [shingles], offsets int64 [texts + 1]).

    A text of fewer than `ngram_words` words has one shingle, all its words; a text without words has none.
    """
    return ngram_hashes(*word_hashes(texts), ngram_words)


def shingle_sets(texts: Sequence[str], ngram_words: int) -> list[U64]:
    """The distinct shingles of each text, sorted, uint64. Equal sets of n-grams give equal arrays."""
    found: list[U64] = []
    for start, end in batches(texts):
        hashes, offsets = shingles(texts[start:end], ngram_words)
        found += [np.unique(hashes[offsets[i] : offsets[i + 1]]) for i in range(end - start)]
    return found


def signatures(texts: Sequence[str], config: MinHashConfig) -> tuple[U32, npt.NDArray[np.bool_]]:
    """MinHash signatures, uint32 [texts, num_perm], and which texts have any shingle, bool [texts] (rows of the others are all ones)."""
    result = np.full((len(texts), config.num_perm), 0xFFFFFFFF, np.uint32)
    filled = np.zeros(len(texts), np.bool_)
    multipliers, offsets = (values[:, None] for values in permutations(config.num_perm, config.seed))
    space = np.empty((config.num_perm, _CHUNK_SHINGLES), np.uint32)
    for start, end in batches(texts):
        hashes, limits = shingles(texts[start:end], config.ngram_words)
        inputs = _mix32((hashes >> np.uint64(32)).astype(np.uint32))
        filled[start:end] = limits[1:] > limits[:-1]
        bounds = limits.tolist()
        for i in range(end - start):
            for low in range(bounds[i], bounds[i + 1], _CHUNK_SHINGLES):
                chunk = inputs[low : min(low + _CHUNK_SHINGLES, bounds[i + 1])]
                values = space[:, : len(chunk)]
                np.multiply(multipliers, chunk, out=values)
                np.add(values, offsets, out=values)
                np.minimum(result[start + i], values.min(axis=1), out=result[start + i])
    return result, filled


def _mix32(values: U32) -> U32:
    """The 32-bit finalizer of MurmurHash3, datasketch's pre-mix, in place."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def band_keys(signature: U32, config: MinHashConfig) -> U64:
    """A 64-bit key for each band of each signature: uint64 [texts, bands]. Equal bands of one number have equal keys.

    64 bits suffice, as two documents that meet by chance are told apart when they are verified.
    """
    rows = signature.reshape(len(signature), config.bands, config.rows).astype(np.uint64)
    powers = np.array([pow(_BAND_BASE, k + 1, 1 << 64) for k in range(config.rows)], np.uint64)
    keys = (mix64(rows + np.uint64(1)) * powers).sum(axis=2, dtype=np.uint64) + np.arange(config.bands, dtype=np.uint64)
    return mix64(keys)


def jaccard(a: U64, b: U64) -> float:
    """Exact Jaccard similarity of two shingle sets, both sorted and distinct; 1 for two empty sets."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 1.0


def similarities(a: U64, others: Sequence[U64], min_jaccard: float) -> npt.NDArray[np.float64]:
    """Jaccard similarity of `a` with each of `others`, exact where it is at least `min_jaccard`, else exact or 0. float64 [others].

    Sets are sorted, distinct and not empty. Those whose sizes alone rule it out (J <= smaller / larger) are not looked at.
    """
    sizes = np.fromiter(map(len, others), np.int64, len(others))
    possible = np.minimum(sizes, len(a)) / np.maximum(sizes, len(a)) >= min_jaccard
    chosen = np.flatnonzero(possible)
    result = np.zeros(len(others), np.float64)
    if len(chosen):
        joined = np.concatenate([others[i] for i in chosen.tolist()])
        place = np.minimum(np.searchsorted(a, joined), len(a) - 1)
        starts = np.concatenate(([0], np.cumsum(sizes[chosen])[:-1]))
        common = np.add.reduceat((a[place] == joined).astype(np.int64), starts)
        result[chosen] = common / (len(a) + sizes[chosen] - common)  # the same division as in `jaccard`
    return result
