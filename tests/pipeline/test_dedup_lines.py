"""Repeated lines: what counts as one, and spans that leave clean text."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.lines import LINE, LinesConfig, bucket_of, frequent, line_keys, spans
from pipeline.documents import Edit, apply_edits

CONFIG = LinesConfig()
LINES = st.lists(st.sampled_from(["", "menu", "Über uns ©", "  ", "text", "東京都", "\t"]), min_size=1, max_size=10)


def _without(text: str, removed: list[bool]) -> str:
    return apply_edits(text, [Edit(start, end, "") for start, end in spans(text.encode(), removed)])


def test_lines_count_without_their_white_space_and_whatever_its_language() -> None:
    """Indentation, doubled spaces and carriage returns do not count; case and punctuation do; blank lines never."""
    same = line_keys("Home | About us\n  Home |  About us\r\nHome\u00a0| About us", CONFIG)
    assert len(set(same)) == 1
    other = line_keys("home | About us\nHome | About us.\n\n \t", CONFIG)
    assert len({*same, *other[:2]}) == 3
    assert other[2:] == [None, None]


@pytest.mark.parametrize("line", ["}", "};", "{", "Proof.", "  });", "* * *", "Log in", "- - - - -", "© 2024", "東京", "end if"])
def test_lines_of_fewer_than_three_words_never_count(line: str) -> None:
    """RULE 15: what closes a block, a proof or a menu's entry stands in texts that share nothing else; marks are no words."""
    assert line_keys(line, CONFIG) == [None]


@pytest.mark.parametrize("line", ["All rights reserved", "版权所有", "All rights reserved.", "Home | About | Help", "x = y + 1;"])
def test_lines_of_three_words_count(line: str) -> None:
    """A character of a script written without spaces is a word."""
    assert line_keys(line, CONFIG) != [None]
    assert line_keys(line, LinesConfig(min_words=5)) == [None]


def test_frequent_counts_distinct_clusters_in_one_bucket() -> None:
    """Seven clusters in one bucket are over six; six are not, nor are seven spread over buckets, nor one cluster seven times."""
    rows = [(1, 0, c) for c in range(7)] + [(2, 0, c) for c in range(6)] + [(3, c % 2, c) for c in range(7)] + [(4, 0, 5)] * 7
    assert frequent(np.array(rows, LINE), CONFIG).tolist() == [1]
    assert frequent(np.array(rows[::-1], LINE), CONFIG).tolist() == [1]


def test_buckets_hold_about_as_many_documents_as_asked() -> None:
    """1,000 documents in buckets of 100: ten buckets, none twice as full as meant; one bucket of a language where they all fit."""
    ids = [n.to_bytes(16, "big") for n in range(1000)]
    filled = Counter(bucket_of(i, "en", 1000, LinesConfig(bucket_documents=100)) for i in ids)
    assert len(filled) == 10
    assert max(filled.values()) < 200
    assert len({bucket_of(i, language, 1000, CONFIG) for i in ids for language in ("en", "de")}) == 2


@pytest.mark.parametrize(
    ("text", "menus", "left"),
    [
        ("menu\ntext\n", "menu", "text\n"),
        ("text\nmenu\n", "menu", "text\n"),
        ("text\nmenu", "menu", "text"),
        ("a\nmenu\nb", "menu", "a\nb"),
        ("a\n\nmenu\n\nb", "menu", "a\n\nb"),
        ("a\n\nmenu\nb", "menu", "a\n\nb"),
        ("menu\n\n\ntext", "menu", "text"),
        ("text\n\nmenu\n\n", "menu", "text\n"),
        ("text\n\nmenu\n\nmenu", "menu", "text"),
        ("menu\nmenu", "menu", ""),
        ("\n\nmenu\n", "menu", ""),
        ("ü\nmenü\nü", "menü", "ü\nü"),
        ("a\n\n\nb", "menu", "a\n\n\nb"),
    ],
)
def test_removal_leaves_clean_text(text: str, menus: str, left: str) -> None:
    """No double gaps, no blank ends, the last line feed as it was; text without repeated lines is not touched."""
    assert _without(text, [line == menus for line in text.split("\n")]) == left


@given(lines=LINES, data=st.data())
def test_spans_are_valid_and_keep_every_other_line(lines: list[str], data: st.DataObject) -> None:
    """Spans are disjoint, ascending, on character boundaries; what is left is valid text whose non-blank lines are the unmarked ones."""
    text = "\n".join(lines)
    removed = [bool(line.strip()) and data.draw(st.booleans()) for line in lines]
    found = spans(text.encode(), removed)
    assert all(start < end for start, end in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))
    for start, end in found:
        assert text.encode()[start:end].decode()
    left = _without(text, removed)
    assert [line for line in left.split("\n") if line.strip()] == [
        x for x, gone in zip(lines, removed, strict=True) if x.strip() and not gone
    ]
    if not any(removed):
        assert found == []
