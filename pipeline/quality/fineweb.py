"""FineWeb's own signals. Penedo et al., arXiv 2406.17557, section 3.5; lines as datatrove 0.10's FineWebQualityFilter cuts them."""

from __future__ import annotations

from datatrove.utils.text import TERMINAL_PUNCTUATION

from pipeline.quality.gopher import duplicates
from pipeline.quality.view import View, ratio

RATIOS = ("fineweb_line_punctuation_ratio", "fineweb_short_line_ratio", "fineweb_duplicate_char_ratio", "fineweb_newline_ratio")
SHORT_LINE_CHARS = 30


def signals(view: View) -> dict[str, float]:
    """Lines with terminal punctuation, lines of at most 30 characters, characters in repeated lines, line ends per word."""
    text = view.text
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    newlines = text.count("\n")
    return {
        "fineweb_line_punctuation_ratio": ratio(sum(line[-1] in TERMINAL_PUNCTUATION for line in lines), len(lines)),
        "fineweb_short_line_ratio": ratio(sum(len(line) <= SHORT_LINE_CHARS for line in lines), len(lines)),
        "fineweb_duplicate_char_ratio": ratio(duplicates(lines)[1], len(text) - newlines),
        "fineweb_newline_ratio": ratio(newlines, len(view.words)),
    }
