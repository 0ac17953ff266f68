"""Gopher's quality and repetition signals. Rae et al., arXiv 2112.11446, section A1.1 and Table A1; measured as in datatrove 0.10.

`gopher_alpha_word_ratio` is of words, as the paper has it; datatrove divides by tokens, punctuation marks among them, so that it drops
prose of short sentences and many quotation marks: its reading is `gopher_alpha_token_ratio`.

Deviations: n-grams are compared by 64-bit hashes of their words, where datatrove joins strings; an empty text has all signals 0 (datatrove
divides by zero).
"""

from __future__ import annotations

import re

import numpy as np
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from numpy.typing import NDArray

from pipeline.quality.view import HAS_LETTER, LENGTH_SHIFT, NOT_SYMBOL, View, ratio

COUNTS = ("gopher_word_count", "gopher_stop_words")
TOP_NGRAMS, DUPLICATE_NGRAMS = (2, 3, 4), (5, 6, 7, 8, 9, 10)
RATIOS = (
    "gopher_mean_word_length",
    "gopher_hash_ratio",
    "gopher_ellipsis_ratio",
    "gopher_bullet_line_ratio",
    "gopher_ellipsis_line_ratio",
    "gopher_alpha_word_ratio",
    "gopher_alpha_token_ratio",
    "gopher_duplicate_paragraph_ratio",
    "gopher_duplicate_paragraph_char_ratio",
    "gopher_duplicate_line_ratio",
    "gopher_duplicate_line_char_ratio",
    *(f"gopher_top_{n}gram_char_ratio" for n in TOP_NGRAMS),
    *(f"gopher_duplicate_{n}gram_char_ratio" for n in DUPLICATE_NGRAMS),
)
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: n-grams are polynomials in it, modulo 2^64
_STOP_WORDS = frozenset(STOP_WORDS)
_PARAGRAPH = re.compile(r"\n{2,}")


def quality_signals(view: View) -> dict[str, float]:
    """Word count, mean length, symbols, bullets, ellipses, letters and stop words."""
    text, n_words, lines = view.text, len(view.words), view.text.splitlines()
    solid = view.facts[(view.facts & NOT_SYMBOL) != 0]
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines) if "-" in text or "•" in text else 0
    has_ellipsis = "..." in text or "…" in text
    return {
        "gopher_word_count": len(solid),
        "gopher_stop_words": len(_STOP_WORDS.intersection(view.words)),
        "gopher_mean_word_length": ratio(int((solid >> LENGTH_SHIFT).sum()), len(solid)),
        "gopher_hash_ratio": ratio(text.count("#"), n_words),
        "gopher_ellipsis_ratio": ratio(text.count("...") + text.count("…"), n_words) if has_ellipsis else 0.0,
        "gopher_bullet_line_ratio": ratio(bullets, len(lines)),
        "gopher_ellipsis_line_ratio": ratio(sum(s.rstrip().endswith(("...", "…")) for s in lines), len(lines)) if has_ellipsis else 0.0,
        "gopher_alpha_word_ratio": ratio(view.count(HAS_LETTER), len(solid)),
        "gopher_alpha_token_ratio": ratio(view.count(HAS_LETTER), n_words),
    }


def repetition_signals(view: View) -> dict[str, float]:
    """Duplicate lines and paragraphs, characters in the most frequent and in repeated n-grams; all per element or character of the text."""
    text = view.text
    paragraphs, lines = _PARAGRAPH.split(text.strip()), split_lines(text)
    n_paragraphs, paragraph_chars = duplicates(paragraphs)
    n_lines, line_chars = duplicates(lines)
    found = {
        "gopher_duplicate_paragraph_ratio": ratio(n_paragraphs, len(paragraphs)),
        "gopher_duplicate_paragraph_char_ratio": ratio(paragraph_chars, len(text)),
        "gopher_duplicate_line_ratio": ratio(n_lines, len(lines)),
        "gopher_duplicate_line_char_ratio": ratio(line_chars, len(text)),
    }
    return found | _ngram_signals(view.hashes, view.lengths, len(text))


def split_lines(text: str) -> list[str]:
    r"""The pieces of `re.split(r"\n+", text)`, in another order and faster: a text that begins or ends with \n has an empty piece there."""
    lines = [line for line in text.split("\n") if line]
    return lines + [""] * (text.startswith("\n") + text.endswith("\n") + (not text))


def duplicates(elements: list[str]) -> tuple[int, int]:
    """How many elements were seen before in the list, and their characters."""
    if len(set(elements)) == len(elements):
        return 0, 0
    seen = set[str]()
    count = chars = 0
    for element in elements:
        if element in seen:
            count += 1
            chars += len(element)
        else:
            seen.add(element)
    return count, chars


def _ngram_signals(hashes: NDArray[np.uint64], lengths: NDArray[np.int64], chars: int) -> dict[str, float]:
    ends = np.concatenate(([0], np.cumsum(lengths)))
    found = {f"gopher_top_{n}gram_char_ratio": 0.0 for n in TOP_NGRAMS} | {
        f"gopher_duplicate_{n}gram_char_ratio": 0.0 for n in DUPLICATE_NGRAMS
    }
    ngrams, places = hashes, np.arange(len(hashes))  # places: where an n-gram starts that may be a repeated one
    for n in range(2, min(DUPLICATE_NGRAMS[-1], len(hashes)) + 1):
        ngrams = ngrams[:-1] * HASH_BASE + hashes[n - 1 :]
        places = places[places < len(ngrams)]
        here = ngrams[places]
        ordered = np.sort(here)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else np.empty(0, np.int64)
        counts = np.diff(np.append(starts, len(ordered)))
        repeated = ordered[starts[counts > 1]]
        if n in TOP_NGRAMS:
            best = int(counts.max(initial=1))
            first = int(places[np.isin(here, ordered[starts[counts == best]])][0]) if best > 1 else 0
            found[f"gopher_top_{n}gram_char_ratio"] = ratio((int(ends[first + n] - ends[first]) + n - 1) * best, chars)
        # Only where an n-gram is repeated can a longer one be.
        group = np.searchsorted(repeated, here)
        inside = np.concatenate((repeated, [np.uint64(0)]))[group] == here if len(repeated) else np.zeros(len(here), bool)
        places = places[inside]
        if n in DUPLICATE_NGRAMS and len(repeated):
            found[f"gopher_duplicate_{n}gram_char_ratio"] = ratio(_repeated_chars(places.tolist(), group[inside].tolist(), ends, n), chars)
    return found


def _repeated_chars(places: list[int], groups: list[int], ends: NDArray[np.int64], n: int) -> int:
    """Characters of repeated n-grams, walked from the left: a repeated one is counted and skipped as a whole, so none counts twice.

    `places` ascend; equal n-grams have one number in `groups`.
    """
    seen = set[int]()
    chars = following = 0
    for place, group in zip(places, groups, strict=True):
        if place < following:
            continue
        if group in seen:
            chars += int(ends[place + n] - ends[place])
            following = place + n
        else:
            seen.add(group)
    return chars
