"""What the model reads of a page: whole numbers alone, by array operations over all blocks at once, the same on every machine.

Numbers of a block (0 to 127 each): lengths, links, punctuation, repetition, place, and the same of the elements around it. Words: those at
the start of a block, and those in the class, id and role of elements, each as a 64-bit hash of its lower-case letters.

Letters and their case are read by a table of our own, so that a newer Unicode in Python changes nothing.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.main_text.blocks import Page

MAX_LEVEL = 127
LEVELS_PER_DOUBLING = 8
HEAD_CHARS, HEAD_WORDS = 200, 24  # of a block's beginning that are read as words
NAME_CHARS, NAME_WORDS = 120, 12  # of the names of an element
LONG_WORDS, LONG_LINK_PERCENT = 12, 30  # a block of so many words, and links below this, is running text
ANCESTORS = (0, 1, 2, 3, 5)  # whose measures a block is given: its own element, the parent, …
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_END, _COMMA, _UPPER, _DIGIT, _LETTER, _SPACE, _LINE, _MARK, _WIDE = (1 << n for n in range(9))
_KINDS = {
    "end": _END, "comma": _COMMA, "upper": _UPPER, "digit": _DIGIT, "space": _SPACE, "line": _LINE, "mark": _MARK, "wide": _WIDE,
    "letter": _LETTER,
}  # fmt: skip
_THRESHOLDS = np.array([int(np.ceil(2 ** (level / LEVELS_PER_DOUBLING) - 1e-9)) for level in range(1, MAX_LEVEL + 1)], np.int64)
_HIGHEST = int(_THRESHOLDS[-1]) - 1  # the least value of the highest level
_POWERS = np.cumprod(np.full(64, 0x9E3779B97F4A7C15, np.uint64), dtype=np.uint64)


@dataclass(frozen=True)
class Signals:
    """`numbers`: blocks x signals. `words`: hashes of the words of blocks, with the block of each. `names`: hashes of the words of the
    page's different names, with the name of each; `inline` and `of_elements` say which name is each block's and each element's."""

    numbers: Ints
    words: Hashes
    words_of: Ints
    names: Hashes
    names_of: Ints
    inline: Ints
    of_elements: Ints
    ancestors: Ints  # blocks x 6 elements: its own, its parent, …; the root's own at the top
    n_words: Ints


def levels(values: Ints) -> Ints:
    """Whole numbers on a logarithmic scale: 0 for 0, eight levels a doubling of 1 + value, at most 127."""
    return _levels_of_small()[np.minimum(values, _HIGHEST)]


@functools.cache
def _levels_of_small() -> Ints:
    return np.searchsorted(_THRESHOLDS, np.arange(_HIGHEST + 1) + 1, side="right")


def _share(part: Ints, whole: Ints) -> Ints:
    return MAX_LEVEL * np.minimum(part, whole) // np.maximum(whole, 1)


@functools.cache
def _tables() -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """Flags and the lower case of each code point below 65,536 (the last stands for all above)."""
    flags, lower = np.zeros(65_536, np.uint16), np.arange(65_536, dtype=np.uint64)
    for first, last, flag in (
        (0x41, 0x5A, _LETTER | _UPPER), (0x61, 0x7A, _LETTER), (0x30, 0x39, _DIGIT), (0xC0, 0xD6, _LETTER | _UPPER),
        (0xD8, 0xDE, _LETTER | _UPPER), (0xDF, 0xF6, _LETTER), (0xF8, 0x1FFF, _LETTER), (0x2C00, 0x2DFF, _LETTER),
        (0x3040, 0xD7FF, _LETTER | _WIDE), (0xF900, 0xFAFF, _LETTER | _WIDE), (0xFB00, 0xFDFF, _LETTER), (0xFFFF, 0xFFFF, _LETTER | _WIDE),
        (0xAC00, 0xD7AF, _LETTER), (0x0E00, 0x0EFF, _LETTER | _WIDE), (0x1780, 0x17FF, _LETTER | _WIDE), (0x1000, 0x109F, _LETTER | _WIDE),
    ):  # fmt: skip
        flags[first : last + 1] = flag
    flags[0x391:0x3AA] |= _UPPER
    flags[0x400:0x430] |= _UPPER
    for first, last, distance in (
        (0x41, 0x5A, 32),
        (0xC0, 0xD6, 32),
        (0xD8, 0xDE, 32),
        (0x391, 0x3A9, 32),
        (0x410, 0x42F, 32),
        (0x400, 0x40F, 80),
    ):
        lower[first : last + 1] += np.uint64(distance)
    for characters, flag in ((".!?:;…。！？", _END), (",、，", _COMMA), (" ", _SPACE), ("\n", _LINE), ("|»›•·/>", _MARK)):  # noqa: RUF001
        for character in characters:
            flags[ord(character)] |= flag
    return flags, lower


def _codes(text: str) -> NDArray[np.uint32]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.minimum(codes, 65_535)


def _hashes(texts: list[str], max_words: int, camel: bool) -> tuple[Hashes, Ints]:
    """Hashes of the words (runs of letters) at the start of each text, with the text's index; `camel`: a capital begins a word."""
    flags, lower = _tables()
    codes = _codes("\0".join(texts))
    kinds = flags[codes]
    is_letter = (kinds & _LETTER) > 0
    before = np.concatenate([[False], is_letter[:-1]])
    starts = is_letter & ~before
    if camel:
        is_upper = (kinds & _UPPER) > 0
        starts |= is_letter & is_upper & ~np.concatenate([[False], is_upper[:-1]])
    at = np.flatnonzero(starts)
    if not len(at):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    ends = np.cumsum([len(text) + 1 for text in texts])
    of = np.searchsorted(ends, at, side="right")
    place = np.arange(len(codes)) - at[np.maximum(np.cumsum(starts) - 1, 0)]
    terms = np.where(is_letter, lower[codes] * _POWERS[np.clip(place, 0, 63)], np.uint64(0))
    found = np.add.reduceat(terms, at)
    first = np.searchsorted(of, of)  # the first word of the same text
    keep = np.arange(len(at)) - first < max_words
    return found[keep], of[keep]


def word_hash(word: str) -> int:
    """The hash of one word, as `signals_of` reads it."""
    found, _ = _hashes([word], 1, camel=False)
    return int(found[0])


@dataclass(frozen=True)
class _Counts:
    """Sums over the blocks before each, so that any range's is a difference: (blocks + 1) each."""

    words: Ints
    chars: Ints
    links: Ints
    long_words: Ints
    sentences: Ints


def signals_of(page: Page) -> Signals:
    """The signals of a page that has at least one block."""
    words, words_of = _hashes([text[:HEAD_CHARS] for text in page.texts], HEAD_WORDS, camel=False)
    numbered: dict[str, int] = {}  # most names of a page occur many times in it: each is read once
    inline = np.array([numbered.setdefault(name, len(numbered)) for name in page.inline_names])
    of_elements = np.array([numbered.setdefault(name, len(numbered)) for name in page.names])
    names, names_of = _hashes([name[:NAME_CHARS] for name in numbered], NAME_WORDS, camel=True)
    elements, parents = np.array(page.elements), np.array(page.parents)
    up = np.where(parents >= 0, parents, np.arange(len(parents)))
    ancestors = [elements]
    for _ in range(5):
        ancestors.append(up[ancestors[-1]])
    numbers, n_words = _numbers(page, ancestors)
    return Signals(numbers, words, words_of, names, names_of, inline, of_elements, np.stack(ancestors, 1), n_words)


@functools.cache
def _counted() -> list[NDArray[np.int64]]:
    """For each two kinds of characters a table that counts one in the upper and one in the lower half of a number."""
    flags, _ = _tables()
    is_kind = [((flags & flag) > 0).astype(np.int64) for flag in _KINDS.values()]
    return [is_kind[n] | (is_kind[n + 1] << 32 if n + 1 < len(is_kind) else 0) for n in range(0, len(is_kind), 2)]


def _per_block(page: Page) -> tuple[dict[str, Ints], Ints]:
    """Counts of characters of a kind in each block, and the flags of its first and last character."""
    flags, _ = _tables()
    chars = np.array([len(text) for text in page.texts])
    starts = np.concatenate([[0], np.cumsum(chars + 1)[:-1]])
    codes = _codes("\0".join(page.texts))
    pairs = [np.add.reduceat(table[codes], starts) for table in _counted()]
    halves = [half for pair in pairs for half in (pair & 0xFFFFFFFF, pair >> 32)]
    found: dict[str, Ints] = dict(zip(_KINDS, halves, strict=False))
    found["chars"] = chars
    heads, tails = flags[codes[starts]], flags[codes[starts + chars - 1]]
    edges = [heads & flag > 0 for flag in (_UPPER, _DIGIT)] + [tails & flag > 0 for flag in (_END, _DIGIT, _LETTER)]
    return found, np.stack(edges, 1).astype(np.int64)


def _numbers(page: Page, ancestors: list[Ints]) -> tuple[Ints, Ints]:
    count, edge = _per_block(page)
    n, chars = len(page.texts), count["chars"]
    words = 1 + count["space"] + count["line"] + count["wide"] // 2
    links = np.minimum(np.array(page.link_chars), chars)
    is_long = (words >= LONG_WORDS) & (100 * links < LONG_LINK_PERCENT * chars)
    sums = _Counts(*(np.concatenate([[0], np.cumsum(column)]) for column in (words, chars, links, words * is_long, count["end"])))
    repeats = Counter(page.texts)
    shapes = [(tag, name, parent) for tag, name, parent in zip(page.tags, page.names, page.parents, strict=True)]
    shape_of = [(shapes[e][0], shapes[e][1], shapes[p][:2] if (p := shapes[e][2]) >= 0 else None) for e in page.elements]
    shape_counts = Counter(shape_of)
    first, end, controls = np.array(page.first_block), np.array(page.end_block), np.array(page.controls)
    place = np.arange(n)
    total_words, total_chars = int(sums.words[-1]), int(sums.chars[-1])
    logs = [
        words, chars, count["comma"], count["end"], count["line"], count["mark"], np.array([repeats[text] - 1 for text in page.texts]),
        np.array([shape_counts[shape] - 1 for shape in shape_of]), np.array(page.depths)[ancestors[0]], controls[ancestors[0]],
        controls[ancestors[1]], place, n - 1 - place, sums.words[:-1], total_words - sums.words[1:], np.full(n, total_words), np.full(n, n),
        np.full(n, int(words.max())),
    ]  # fmt: skip
    shares = [
        (links, chars), (count["upper"], count["letter"]), (count["digit"], chars), (2 * place + 1, np.full(n, 2 * n)),
        (sums.words[:-1], np.full(n, total_words)), (np.full(n, sums.long_words[-1]), np.full(n, total_words)),
        (np.full(n, sums.links[-1]), np.full(n, total_chars)), (count["letter"], chars),
    ]  # fmt: skip
    for level in ANCESTORS:
        a, z = first[ancestors[level]], end[ancestors[level]]
        inside = {name: getattr(sums, name)[z] - getattr(sums, name)[a] for name in ("words", "chars", "links", "long_words", "sentences")}
        logs += [inside["words"], z - a, 16 * inside["words"] // np.maximum(z - a, 1), 256 * inside["sentences"] // inside["words"]]
        shares += [(inside["links"], inside["chars"]), (inside["long_words"], inside["words"])]
        if level in (1, 3):
            shares.append((2 * (place - a) + 1, 2 * (z - a)))
    marks = [np.array(page.is_pre, np.int64), np.array(page.has_formula, np.int64), *edge.T]
    part, whole = (np.stack(side) for side in zip(*shares, strict=True))
    return np.concatenate([levels(np.stack(logs)), _share(part, whole), 64 * np.stack(marks)]).T, words
