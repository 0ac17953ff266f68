"""What the quality classifier reads of a text: seven numbers about its form, none about its subject.

On little data words tell sources apart, not good text from bad; and the more numbers about lines a classifier is given, the more it learns
to tell navigation from main text, and the less a short or thin page from a good one (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.quality.view import CAPITAL, View, ratio

SIGNALS = (
    "stop_word_ratio",
    "gopher_word_count",
    "gopher_stop_words",
    "c4_sentences_any_end",
    "words_per_line",
    "capital_word_ratio",
    "title_line_ratio",
)
TITLE_WORDS = 6


def prose_numbers(view: View, signals: Mapping[str, float | None]) -> list[float]:
    """`SIGNALS` of a text, of which the first four are among its `signals`; the others are words for each line that is not blank, words
    that begin with a capital per word, and lines of at most six words that begin with a capital per line."""
    lines = [line for line in map(str.strip, view.text.split("\n")) if line]
    titles = sum(line[0].isupper() and len(line.split(None, TITLE_WORDS)) <= TITLE_WORDS for line in lines)
    found = dict(signals) | {
        "words_per_line": ratio(len(view.words), len(lines)),
        "capital_word_ratio": ratio(view.count(CAPITAL), len(view.words)),
        "title_line_ratio": ratio(titles, len(lines)),
    }
    return [float(found[name] or 0.0) for name in SIGNALS]
