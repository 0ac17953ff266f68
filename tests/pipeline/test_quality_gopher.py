"""Gopher's signals: a text that just passes and one that just does not for each rule; decisions equal datatrove's blocks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality.config import DatatroveFilter
from pipeline.quality.datatrove_blocks import build, verdict
from pipeline.quality.gopher import duplicates, quality_signals, repetition_signals, split_lines
from pipeline.quality.thresholds import PUBLISHED, Thresholds, keep
from pipeline.quality.view import view

FILTERS = "datatrove.pipeline.filters."
QUALITY = build(DatatroveFilter(name="q", block=f"{FILTERS}gopher_quality_filter.GopherQualityFilter"))
REPETITION = build(DatatroveFilter(name="r", block=f"{FILTERS}gopher_repetition_filter.GopherRepetitionFilter"))
DISTINCT = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600)]


def subset(names: dict[str, float]) -> Thresholds:
    """The published thresholds on the given signals."""
    return Thresholds(**{name: value for name, value in PUBLISHED if value is not None and name.split("_", 1)[1] in names})


def text_of(*parts: str) -> str:
    """Forty distinct words and the parts."""
    return " ".join([*DISTINCT[:40], *parts])


QUALITY_CASES = [
    ("gopher_word_count", {"min_gopher_word_count": 5}, "a b c d e", "a b c d ."),
    ("gopher_word_count", {"max_gopher_word_count": 5}, "a b c d e .", "a b c d e f"),
    ("gopher_mean_word_length", {"min_gopher_mean_word_length": 3}, "abc abcd ab", "abc abc ab"),
    ("gopher_mean_word_length", {"max_gopher_mean_word_length": 3}, "abc abcd ab", "abc abcd abc"),
    ("gopher_hash_ratio", {"max_gopher_hash_ratio": 0.1}, "# " + "x " * 9, "# " + "x " * 8),
    ("gopher_ellipsis_ratio", {"max_gopher_ellipsis_ratio": 0.1}, "… " + "x " * 9, "… " + "x " * 8),
    ("gopher_bullet_line_ratio", {"max_gopher_bullet_line_ratio": 0.5}, "- a\nb", "- a\n• b\nc"),
    ("gopher_ellipsis_line_ratio", {"max_gopher_ellipsis_line_ratio": 0.5}, "a…\nb", "a… \nb...\nc"),
    ("gopher_alpha_word_ratio", {"min_gopher_alpha_word_ratio": 0.8}, 'a, "b" (c) . d 1', "a, b, c 1 2"),
    ("gopher_alpha_token_ratio", {"min_gopher_alpha_token_ratio": 0.8}, "a b c d 1", "a b c 1 2"),
    ("gopher_stop_words", {"min_gopher_stop_words": 2}, "the x and", "the x The the"),
]


@pytest.mark.parametrize(("signal", "threshold", "passes", "fails"), QUALITY_CASES)
def test_each_quality_rule_drops_just_beyond_its_threshold(signal: str, threshold: dict[str, float], passes: str, fails: str) -> None:
    """The text at the threshold passes; its neighbour is dropped for that signal."""
    thresholds = Thresholds(**threshold)
    assert keep(quality_signals(view(passes)), thresholds) is None
    assert keep(quality_signals(view(fails)), thresholds) == signal


REPETITION_CASES = [
    ("gopher_duplicate_paragraph_ratio", 0.5, "aa\n\naa", "aa\n\naa\n\naa"),
    ("gopher_duplicate_paragraph_char_ratio", 0.25, "aa\n\naa\n\nx", "aa\n\naa\n"),
    ("gopher_duplicate_line_ratio", 0.5, "aa\naa", "aa\naa\naa"),
    ("gopher_duplicate_line_char_ratio", 0.25, "aa\naa\nbc", "aa\naa\nb"),
    ("gopher_top_2gram_char_ratio", 0.6, "a b c d a b", "a b c a b"),
    ("gopher_top_3gram_char_ratio", 0.8, "a b c d e a b c", "a b c a b c"),
    ("gopher_top_4gram_char_ratio", 0.9, "a b c d e a b c d", "a b c d a b c d"),
]


@pytest.mark.parametrize(("signal", "threshold", "passes", "fails"), REPETITION_CASES)
def test_each_repetition_rule_drops_just_beyond_its_threshold(signal: str, threshold: float, passes: str, fails: str) -> None:
    """The text at or below the threshold passes; its neighbour is dropped for that signal."""
    thresholds = Thresholds(**{f"max_{signal}": threshold})
    assert keep(repetition_signals(view(passes)), thresholds) is None
    assert keep(repetition_signals(view(fails)), thresholds) == signal


@pytest.mark.parametrize("n", range(5, 11))
def test_repeated_ngrams_count_their_characters_once(n: int) -> None:
    """A block of n words said again counts its characters; the walk skips it whole, so overlapping n-grams do not count twice."""
    block = DISTINCT[:n]
    text = " ".join([*block, *DISTINCT[100:150], *block])
    signals = repetition_signals(view(text))
    expected = sum(map(len, block)) / len(text)
    assert signals[f"gopher_duplicate_{n}gram_char_ratio"] == pytest.approx(expected)
    assert keep(signals, Thresholds(**{f"max_gopher_duplicate_{n}gram_char_ratio": expected})) is None
    assert keep(signals, Thresholds(**{f"max_gopher_duplicate_{n}gram_char_ratio": expected * 0.99})) is not None
    for longer in range(n + 1, 11):
        assert signals[f"gopher_duplicate_{longer}gram_char_ratio"] == 0


def test_an_empty_text_has_signals_and_no_crash() -> None:
    """datatrove's filters divide by zero here."""
    assert set({**quality_signals(view("")), **repetition_signals(view(""))}.values()) == {0}


@given(st.text("a\n", max_size=8))
def test_lines_are_cut_at_runs_of_line_feeds(text: str) -> None:
    """As the regular expression of datatrove's filter cuts them, whatever their order."""
    assert sorted(split_lines(text)) == sorted(re.split("\n+", text))


def test_duplicates_are_elements_seen_before() -> None:
    """The first of equal elements is none."""
    assert duplicates(["aa", "b", "aa", "aa"]) == (2, 4)


WORDS = st.sampled_from([*DISTINCT[:12], "the", "and", "of", "#", "…", "...", "1", "-", "•", ".", "long" * 4])
LINES = st.lists(st.lists(WORDS, min_size=0, max_size=12).map(" ".join), min_size=1, max_size=14).map("\n".join)
TEXTS = st.one_of(
    LINES,
    st.lists(LINES, min_size=1, max_size=4).map("\n\n".join),
    st.tuples(LINES, st.integers(1, 4)).map(lambda t: "\n".join([t[0]] * t[1])),
)


@given(TEXTS.filter(str.strip))
def test_decisions_equal_datatroves_blocks(text: str) -> None:
    """With the same tokenizer the published thresholds decide as datatrove's two Gopher filters do, on any text."""
    seen = view(text)
    known: dict[str, Any] = {"text": text, "document": "", "url": None, "language": "en", "language_probability": 1.0}
    repetition, quality = repetition_signals(seen), quality_signals(seen)
    assert (keep(repetition, subset(repetition)) is None) == bool(verdict(REPETITION, **known))
    if any(character.isalnum() for character in text):  # of symbols alone datatrove's mean word length is not a number
        assert (keep(quality, subset(quality)) is None) == bool(verdict(QUALITY, **known))
