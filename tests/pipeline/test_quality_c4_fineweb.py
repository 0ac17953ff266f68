"""C4's and FineWeb's signals: each rule at its threshold, and decisions equal to datatrove's blocks on any text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality import c4, fineweb
from pipeline.quality.config import DatatroveFilter
from pipeline.quality.datatrove_blocks import build, verdict
from pipeline.quality.sentences import sentence_count, sentence_spans
from pipeline.quality.thresholds import Thresholds, keep
from pipeline.quality.view import view

FILTERS = "datatrove.pipeline.filters."
C4 = build(DatatroveFilter(name="c", block=f"{FILTERS}c4_filters.C4QualityFilter"))
C4_ANY_END = build(DatatroveFilter(name="n", block=f"{FILTERS}c4_filters.C4QualityFilter", kwargs={"filter_no_terminal_punct": False}))
FINEWEB = build(DatatroveFilter(name="f", block=f"{FILTERS}fineweb_quality_filter.FineWebQualityFilter"))
KNOWN: dict[str, Any] = {"document": "", "url": None, "language": "en", "language_probability": 1.0}
GOOD = "One two three. Four five six. Seven eight nine. Ten and eleven. Twelve of them."

C4_CASES = [
    ("min_c4_sentences", 5, GOOD, GOOD.replace(". Twelve", ", twelve")),
    ("min_c4_sentences", 5, GOOD, GOOD.replace("them.", "them")),  # the line has no terminal punctuation
    ("min_c4_sentences", 5, GOOD, GOOD.replace("them.", "them...")),  # an ellipsis is none
    ("min_c4_sentences", 5, GOOD + " " + "x" * 999 + ".", GOOD + " " + "x" * 1000 + "."),  # a line with a word that is too long goes
    ("min_c4_sentences_any_end", 5, GOOD.replace("them.", "them"), GOOD.replace(". Twelve of them.", ", twelve of them")),
    ("max_c4_lorem_ipsum_lines", 0, "Lorem and the ipsum.", "See Lorem ipsum."),
    ("max_c4_curly_bracket_lines", 0, "if (x) then y {", "if (x) then {y}."),
    ("max_c4_curly_bracket_lines_any_end", 0, "a {", "if (x) then y {"),
    ("min_c4_kept_line_ratio", 0.5, "One two three.\nno end here", "One two three.\nno end here\nand here"),
    ("max_c4_javascript_line_ratio", 0.5, "Turn on JavaScript please.\nx", "Turn on JavaScript please.\nOr use javascript now."),
    ("max_c4_policy_line_ratio", 0.5, "Read our Privacy Policy.\nx", "Read our Privacy Policy.\nRead the terms of use."),
]


@pytest.mark.parametrize(("threshold", "value", "passes", "fails"), C4_CASES)
def test_each_c4_rule_drops_just_beyond_its_threshold(threshold: str, value: float, passes: str, fails: str) -> None:
    """The text at the threshold passes; its neighbour is dropped for that signal."""
    thresholds = Thresholds(**{threshold: value})
    assert keep(c4.signals(view(passes)), thresholds) is None
    assert keep(c4.signals(view(fails)), thresholds) == threshold.split("_", 1)[1]


FINEWEB_CASES = [
    ("min_fineweb_line_punctuation_ratio", 0.5, "a.\nb", "a.\nb\nc"),
    ("max_fineweb_short_line_ratio", 0.5, "x" * 30 + "\n" + "y" * 31, "x" * 30 + "\n" + "y" * 30),
    ("max_fineweb_duplicate_char_ratio", 0.25, "ab\nab\ncdef", "ab\nab\ncde"),
    ("max_fineweb_newline_ratio", 0.3, "a b c\nd e f\ng h i\nj", "a b c\nd e f\ng h i\n"),
]


@pytest.mark.parametrize(("threshold", "value", "passes", "fails"), FINEWEB_CASES)
def test_each_fineweb_rule_drops_just_beyond_its_threshold(threshold: str, value: float, passes: str, fails: str) -> None:
    """The text at the threshold passes; its neighbour is dropped for that signal."""
    thresholds = Thresholds(**{threshold: value})
    assert keep(fineweb.signals(view(passes)), thresholds) is None
    assert keep(fineweb.signals(view(fails)), thresholds) == threshold.split("_", 1)[1]


def test_a_long_run_of_marks_takes_linear_time() -> None:
    """No search from every mark of a run to its end."""
    assert sentence_count("Wait" + "!" * 200_000) == sentence_count("Wait") == 1
    assert sentence_count("Wait" + "." * 200_000 + " What") == 2


def test_sentences_end_before_the_next_word() -> None:
    """Titles, initials and numbers end none; punctuation between two words belongs to the sentence before; spans cover the text."""
    text = 'Dr. J. Smith paid 3.50 francs. "Really?" he said! Yes…'
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans] == ['Dr. J. Smith paid 3.50 francs. "', 'Really?" ', "he said! ", "Yes…"]
    assert sentence_count(text) == len(spans) == 4
    assert sentence_count("一。二。三。") == 3
    assert sentence_count("") == 1


WORDS = st.sampled_from(
    ["one", "two.", "three", "Four!", "five?", "{x}", "x", "JavaScript", "lorem", "ipsum", "[12]", "cookie", "policy", "end...", "y" * 1001]
)
LINES = st.lists(WORDS, max_size=9).map(" ".join)
TEXTS = st.lists(LINES, min_size=1, max_size=10).map("\n".join).filter(lambda text: bool(text.strip()))


@given(TEXTS)
def test_c4_decides_as_datatroves_block(text: str) -> None:
    """With the same sentences the published thresholds decide as C4QualityFilter does, with and without its rule on line ends."""
    signals = c4.signals(view(text))
    paper = Thresholds(max_c4_curly_bracket_lines=0, min_c4_sentences=5)
    any_end = Thresholds(max_c4_curly_bracket_lines_any_end=0, min_c4_sentences_any_end=5)
    if signals["c4_lorem_ipsum_lines"] == 0:
        assert (keep(signals, paper) is None) == bool(verdict(C4, text=text, **KNOWN))
        assert (keep(signals, any_end) is None) == bool(verdict(C4_ANY_END, text=text, **KNOWN))
    else:
        assert not verdict(C4_ANY_END, text=text, **KNOWN)


@given(st.one_of(TEXTS, st.tuples(TEXTS, st.integers(1, 3)).map(lambda pair: "\n".join([pair[0]] * pair[1]))))
def test_fineweb_decides_as_datatroves_block(text: str) -> None:
    """With the same words the published thresholds decide as FineWebQualityFilter does with the paper's 0.1."""
    published = Thresholds(
        min_fineweb_line_punctuation_ratio=0.12,
        max_fineweb_short_line_ratio=0.67,
        max_fineweb_duplicate_char_ratio=0.1,
        max_fineweb_newline_ratio=0.3,
    )
    assert (keep(fineweb.signals(view(text)), published) is None) == bool(verdict(FINEWEB, text=text, **KNOWN))


def test_an_empty_text_has_signals_and_no_crash() -> None:
    """Nothing divides by zero."""
    signals = {**c4.signals(view("")), **fineweb.signals(view(""))}
    assert signals.pop("c4_sentences") == 0
    assert set(signals.values()) == {0}
