"""What the model reads of a page: whole numbers alone, by array operations over all blocks at once, the same on every machine.

Numbers of a block (0 to 127 each): lengths, links, punctuation, repetition, place, and the same of the elements around it. Words: those at
the start of a block, and those in the class, id and role of elements, each as a 64-bit hash of its lower-case letters.

Letters and their case are read by a table of our own, so that a newer Unicode in Python changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.main_text.blocks import Ints, Page
from pipeline.native.words import count_kinds, hash_words, number_items

MAX_LEVEL = 127
LEVELS_PER_DOUBLING = 8
HEAD_CHARS, HEAD_WORDS = 200, 24  # of a block's beginning that are read as words
NAME_CHARS, NAME_WORDS = 120, 12  # of the names of an element
LONG_WORDS, LONG_LINK_PERCENT = 12, 30  # a block of so many words, and links below this, is running text
ANCESTORS = (0, 1, 2, 3, 5)  # whose measures a block is given: its own element, the parent, …
Hashes = NDArray[np.uint64]
Item = TypeVar("Item", bound=Hashable)

_END, _COMMA, _UPPER, _DIGIT, _LETTER, _SPACE, _LINE, _MARK, _WIDE = (1 << n for n in range(9))
_KINDS = ("end", "comma", "upper", "digit", "letter", "space", "line", "mark", "wide")  # by bit
_THRESHOLDS = np.array([int(np.ceil(2 ** (level / LEVELS_PER_DOUBLING) - 1e-9)) for level in range(1, MAX_LEVEL + 1)], np.int64)
_HIGHEST = int(_THRESHOLDS[-1]) - 1  # the least value of the highest level


@dataclass(frozen=True)
class Signals:
    """`numbers`: blocks x signals. `words`: hashes of the words of blocks, with the block of each. `names`: hashes of the words of the
    page's different names, with the name of each; `inline` and `of_elements` say which name is each block's and each element's. `tags`: the
    page's different tags; `tags_of` says which is each element's."""

    numbers: Ints
    words: Hashes
    words_of: Ints
    names: Hashes
    names_of: Ints
    inline: Ints
    of_elements: Ints
    ancestors: Ints  # blocks x 6 elements: its own, its parent, …; the root's own at the top
    n_words: Ints
    n_names: int
    tags: list[str]
    tags_of: Ints


def levels(values: Ints) -> Ints:
    """Whole numbers on a logarithmic scale: 0 for 0, eight levels a doubling of 1 + value, at most 127."""
    return _levels_of_small().take(values, mode="clip")


@functools.cache
def _levels_of_small() -> Ints:
    return np.searchsorted(_THRESHOLDS, np.arange(_HIGHEST + 1) + 1, side="right")


def _share(part: Ints, whole: Ints) -> Ints:
    return MAX_LEVEL * np.minimum(part, whole) // np.maximum(whole, 1)


@functools.cache
def _tables() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Flags and the lower case of each code point below 65,536 (the last stands for all above)."""
    flags, lower = np.zeros(65_536, np.uint16), np.arange(65_536, dtype=np.uint16)
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
        lower[first : last + 1] += np.uint16(distance)
    for characters, flag in ((".!?:;…。！？", _END), (",、，", _COMMA), (" ", _SPACE), ("\n", _LINE), ("|»›•·/>", _MARK)):  # noqa: RUF001
        for character in characters:
            flags[ord(character)] |= flag
    return flags, lower


def _hashes(texts: list[str], max_chars: int, max_words: int, camel: bool) -> tuple[Hashes, Ints]:
    """Hashes of the words (runs of letters) at the start of each text, with the text's index; `camel`: a capital begins a word."""
    hashes, of = hash_words(texts, max_chars, max_words, camel, *_tables())
    return np.frombuffer(hashes, np.uint64), np.frombuffer(of, np.int64)


def word_hash(word: str) -> int:
    """The hash of one word, as `signals_of` reads it."""
    found, _ = _hashes([word], len(word), 1, camel=False)
    return int(found[0])


def signals_of(page: Page) -> Signals:
    """The signals of a page that has at least one block."""
    words, words_of = _hashes(page.texts, HEAD_CHARS, HEAD_WORDS, camel=False)
    page_names, name_of = _numbered(page.inline_names + page.names)  # most names of a page occur many times in it: each is read once
    inline, of_elements = name_of[: len(page.texts)], name_of[len(page.texts) :]
    tags, tags_of = _numbered(page.tags)
    names, names_of = _hashes(page_names, NAME_CHARS, NAME_WORDS, camel=True)
    up = np.where(page.parents >= 0, page.parents, np.arange(len(page.parents)))
    ancestors = np.empty((6, len(page.texts)), np.int64)
    ancestors[0] = page.elements
    for level in range(1, 6):
        ancestors[level] = up[ancestors[level - 1]]
    alike = _alike(page, of_elements, tags_of)
    numbers, n_words = _numbers(page, ancestors, alike)
    return Signals(
        numbers, words, words_of, names, names_of, inline, of_elements, np.ascontiguousarray(ancestors.T), n_words, len(page_names), tags,
        tags_of,
    )  # fmt: skip


def _numbered(items: list[Item]) -> tuple[list[Item], Ints]:
    """The different ones of the items, and which of them each is."""
    numbers = np.empty(len(items), np.int64)
    return number_items(items, numbers), numbers


def _occurrences(items: list[Item]) -> Ints:
    """How often each item occurs among them."""
    _, numbers = _numbered(items)
    return np.bincount(numbers)[numbers]


def _alike(page: Page, names: Ints, tags: Ints) -> Ints:
    """How many blocks stand in an element of the tag and the names of each block's, inside such a parent."""
    parents = page.parents[page.elements]
    is_inside = parents >= 0
    shapes = [tags[page.elements], names[page.elements], np.where(is_inside, tags[parents], -1), np.where(is_inside, names[parents], -1)]
    rows: list[bytes] = np.stack(shapes, axis=1).view("V32").ravel().tolist()
    return _occurrences(rows)


def _per_block(page: Page) -> tuple[dict[str, Ints], Ints]:
    """Counts of characters of a kind in each block, and marks of its first and its last character."""
    n = len(page.texts)
    counts, edges = np.empty((n, len(_KINDS)), np.int64), np.empty((n, 2), np.uint16)
    count_kinds(page.texts, _tables()[0], counts, edges)
    found: dict[str, Ints] = dict(zip(_KINDS, counts.T, strict=True))
    found["chars"] = np.array([len(text) for text in page.texts])
    marks = [edges[:, 0] & flag > 0 for flag in (_UPPER, _DIGIT)] + [edges[:, 1] & flag > 0 for flag in (_END, _DIGIT, _LETTER)]
    return found, np.stack(marks).astype(np.int64)


def _numbers(page: Page, ancestors: Ints, alike: Ints) -> tuple[Ints, Ints]:
    """The numbers of each block, and its words (in a script without spaces, two characters a word)."""
    count, edges = _per_block(page)
    n, chars = len(page.texts), count["chars"]
    words = 1 + count["space"] + count["line"] + count["wide"] // 2
    links = np.minimum(page.link_chars, chars)
    is_long = (words >= LONG_WORDS) & (100 * links < LONG_LINK_PERCENT * chars)
    sums = np.zeros((5, n + 1), np.int64)  # over the blocks before each, so that any range's is a difference
    np.cumsum([words, chars, links, words * is_long, count["end"]], axis=1, out=sums[:, 1:])
    words_before, total_words, total_chars = sums[0, :-1], sums[0, -1], sums[1, -1]
    depths, controls, place = page.depths[ancestors[0]], page.controls[ancestors[:2]], np.arange(n)
    logs = [
        words, chars, count["comma"], count["end"], count["line"], count["mark"], _occurrences(page.texts) - 1, alike - 1, depths,
        *controls, place, n - 1 - place, words_before, total_words - sums[0, 1:], total_words, n, words.max(),
    ]  # fmt: skip
    shares = [
        (links, chars), (count["upper"], count["letter"]), (count["digit"], chars), (2 * place + 1, 2 * n), (words_before, total_words),
        (sums[3, -1], total_words), (sums[2, -1], total_chars), (count["letter"], chars),
    ]  # fmt: skip
    first, end = page.first_block[ancestors[ANCESTORS, :]], page.end_block[ancestors[ANCESTORS, :]]
    blocks, places = end - first, 2 * (place - first) + 1
    in_words, in_chars, in_links, in_long_words, in_sentences = sums.take(end, axis=1) - sums.take(first, axis=1)
    means, sentences = 16 * in_words // blocks, 256 * in_sentences // in_words
    for level in range(len(ANCESTORS)):
        logs += [in_words[level], blocks[level], means[level], sentences[level]]
        shares += [(in_links[level], in_chars[level]), (in_long_words[level], in_words[level])]
        if ANCESTORS[level] in (1, 3):
            shares.append((places[level], 2 * blocks[level]))
    parts, wholes = (_rows(columns, n) for columns in zip(*shares, strict=True))
    marks = [page.is_pre, page.has_formula, *edges]
    return np.concatenate([levels(_rows(logs, n)), _share(parts, wholes), 64 * _rows(marks, n)]).T, words


def _rows(columns: Sequence[Ints | int], n: int) -> Ints:
    """Columns of `n` numbers, or of one number throughout, as the rows of one array."""
    rows = np.empty((len(columns), n), np.int64)
    for row, column in enumerate(columns):
        rows[row] = column
    return rows
