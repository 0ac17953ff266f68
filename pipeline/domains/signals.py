"""What the domain classifier reads of a text: words, and cheap signals of its form as words of their own.

fastText averages the vectors of a line's words, so a signal must be repeated to be heard among two hundred words. Signals are ratios of
characters and lines: symbols, digits, identifiers, TeX commands, mathematical characters, indentation, line ends.

Extraction from HTML loses much of the form (TeX, indentation) and documentation is prose about code. So each piece of text gives two lines,
one with its form and one of natural words alone, in training and in prediction. For a classifier trained on plain files the second line
raised the accuracy on web pages from 57 to 84 % (general, math and code; benchmarks/measure_domains.py).
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from pipeline.fasttext_training import LABEL
from pipeline.words import words

_TEX, _IDENTIFIER = re.compile(r"\\[A-Za-z]+"), re.compile(r"[a-z0-9]_[a-z0-9]|[a-z][A-Z]|\w\(\)|\w\.\w+\(|::|->|=>")
_PLAIN_WORD = re.compile(r"[^\W\d_A-Z]{2,}|[A-Z][^\W\d_A-Z]+")
_MATH = re.compile(r"[\u2200-\u22ff\u2a00-\u2aff\u03b1-\u03c9\u2070-\u209f\u2100-\u214f±×÷∂√∞≤≥≠≈\U0001d400-\U0001d7ff]")  # noqa: RUF001
_CHARACTERS = (
    ("digit", re.compile(r"[0-9]")),
    ("brace", re.compile(r"[{}]")),
    ("bracket", re.compile(r"[\[\]<>]")),
    ("paren", re.compile(r"[()]")),
    ("equals", re.compile(r"[=+*/^]")),
    ("semicolon", re.compile(r";")),
    ("dollar", re.compile(r"\$")),
    ("underscore", re.compile(r"_")),
    ("backslash", re.compile(r"\\")),
    ("hash", re.compile(r"#")),
    ("stop", re.compile(r"[.,!?]")),
    ("upper", re.compile(r"[A-Z]")),
    ("math", _MATH),
    ("tex", _TEX),
    ("identifier", _IDENTIFIER),
)
_LINES = (
    ("indented", re.compile(r"^(?:\t| {2,})\S", re.MULTILINE)),
    ("codeend", re.compile(r"[;{}),:]\s*$", re.MULTILINE)),
    ("sentenceend", re.compile(r"[.!?\u3002]\s*$", re.MULTILINE)),
)
WORDS_PER_REPEAT = 40


def level(ratio: float) -> int:
    """A ratio as a whole number on a logarithmic scale: 0 for none, then 1 from about 1/1,000 and up by one each time it doubles."""
    return 0 if ratio <= 0 else max(1, 11 + math.floor(math.log2(min(1.0, ratio))))


def form(text: str) -> list[str]:
    """The signals of a text as words: `x<signal><level>`."""
    characters, lines = max(1, len(text)), text.count("\n") + 1
    found = [f"x{name}{level(len(pattern.findall(text)) / characters)}" for name, pattern in _CHARACTERS]
    found += [f"x{name}{level(len(pattern.findall(text)) / lines)}" for name, pattern in _LINES]
    found.append(f"xline{min(9, math.floor(math.log2(1 + characters / lines)))}")
    wide = 0 if text.isascii() else sum(len(piece) for piece in re.findall(r"[^\x00-\x7f]+", text))
    found.append(f"xwide{level(wide / characters)}")
    return found


def chunks(text: str, chunk_chars: int, max_chunks: int) -> list[str]:
    """Pieces of `chunk_chars` characters spread over the text, at most `max_chunks`; a short text is one piece, none of a blank one."""
    if not text.strip():
        return []
    count = max(1, min(max_chunks, len(text) // chunk_chars))
    span = max(0, len(text) - chunk_chars)
    starts = [span * i // max(1, count - 1) for i in range(count)] if count > 1 else [0]
    return [text[start : start + chunk_chars] for start in starts]


def line_of(text: str) -> str:
    """What fastText reads of a piece of text: its words in lower case, and its form."""
    tokens = words(text)
    line = " ".join([*tokens, *form(text) * max(1, len(tokens) // WORDS_PER_REPEAT)]).lower()
    return line.replace(LABEL, "label") if LABEL in line else line


def plain_line_of(text: str) -> str:
    """The piece as extraction from HTML might leave it: words alone, identifiers cut into theirs, no TeX, no symbols."""
    return " ".join(_PLAIN_WORD.findall(_TEX.sub(" ", text))).lower()


def lines_of(text: str, chunk_chars: int, max_chunks: int) -> list[str]:
    """The lines of a document's pieces."""
    pieces = chunks(text, chunk_chars, max_chunks)
    return [line for piece in pieces for line in (line_of(piece), plain_line_of(piece)) if line]


def mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the lines' probabilities, per label, of the lines that have a vote; NaN where none has."""
    voted = rows[~np.isnan(rows).any(axis=1)]
    return voted.mean(axis=0) if len(voted) else np.full(rows.shape[1], np.nan)
