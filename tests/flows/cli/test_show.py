"""flows/cli/show.py: what stands alike is one row, and nothing is left out of a sum."""

from __future__ import annotations

import pytest
from rich.table import Table

from flows.cli.show import decision, explanation, garbage_table, grouped, shards_of, status_table
from flows.graph.walk import StageName, State, Visit
from flows.history.garbage import Garbage
from flows.history.lineage import Copy, Tokens
from storage.store import FileInfo
from tests.flows.rendering import rendered


def visit(key: str, stage: StageName, state: State, reason: str = "") -> Visit:
    return Visit(key, stage, state, reason, True, None)


def test_what_is_fresh_is_one_row_a_stage_and_what_is_stale_keeps_its_name_and_reason() -> None:
    visits = [
        visit("extract/web/a", "ingest", "fresh"),
        visit("documents/web", "ingest", "fresh"),
        visit("signals/web", "quality", "stale", "quality.x: 1 → 2"),
        visit("signals/code", "quality", "stale", "quality.x: 1 → 2"),
        visit("extract/web/b", "ingest", "stale", "new file"),
        visit("extract/web/c", "ingest", "stale", "new file"),
    ]
    assert grouped(visits) == [
        ("ingest", 2, "fresh", ""),
        ("signals/web", 1, "stale", "quality.x: 1 → 2"),
        ("signals/code", 1, "stale", "quality.x: 1 → 2"),
        ("extract/web", 2, "stale", "new file"),
    ]


def test_of_a_run_never_made_each_stage_is_one_row() -> None:
    """What another run made of it already is fresh; the rest is not made yet, whatever it waits for."""
    visits = [
        visit("snapshot", "snapshot", "fresh"),
        visit("extract/web/a", "ingest", "stale", "not made yet"),
        visit("documents/web", "ingest", "stale", "input extract.a: extract/web/a not made yet"),
        visit("dedup", "dedup", "stale", "input documents.web: extract/web/a not made yet"),
    ]
    assert grouped(visits, is_new=True) == [
        ("snapshot", 1, "fresh", ""),
        ("ingest", 2, "stale", "not made yet"),
        ("dedup", 1, "stale", "not made yet"),
    ]


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    """A page of a web framework is called `[slug]`; a closing tag in a name ended the command."""
    names = ["extract/app/[slug]/page.tsx", "documents/a[/b].txt"]
    rows = rendered(status_table([visit(name, "ingest", "stale", f"new file {name}") for name in names]))
    assert all(name in row for name, row in zip(["extract/app", names[1]], rows[1:], strict=True))
    assert all(f"new file {name}" in row for name, row in zip(names, rows[1:], strict=True))


def test_garbage_of_one_stage_and_reason_is_one_row_and_the_sum_counts_all_of_it() -> None:
    one, two = FileInfo("artifacts/extract/a/x", 5), FileInfo("artifacts/extract/b/x", 7)
    garbage = [
        Garbage("artifacts/extract/a", "no run refers to it", (one,)),
        Garbage("artifacts/extract/b", "no run refers to it", (two, two)),
        Garbage("artifacts/pretrain/c", "unfinished", (one,)),
    ]
    rows = rendered(garbage_table(garbage))
    assert "artifacts/extract/ (2 artifacts) no run refers to it 3 19" in rows
    assert "artifacts/pretrain/c unfinished 1 5" in rows
    assert "all 4 24" in rows


def test_the_decision_follows_a_copy_through_the_groups_that_it_lost_in() -> None:
    """Its page was renewed, and the newer page was nearly another one."""
    lost_to = [Copy(b"\1" * 16, "web", "url", None, "near"), Copy(b"\2" * 16, "books", "near", 0.912, None)]
    row = {"keep": False, "reason": "url", "domain": "general", "component": None, "split": "train"}
    assert decision({"select": row, "stale": {}, "lost_to": lost_to}) == {
        "dropped": "url: another document of its URL stayed",
        "01" * 16: "web, of the same URL, was itself dropped as near",
        "02" * 16: "books, of nearly the same text (Jaccard 0.91), is kept",
    }


@pytest.mark.parametrize(("split", "shards"), [(None, "tokenize"), ("train", "tokenize"), ("held_out", "held_out_tokens")])
def test_the_shards_of_a_document_are_those_of_its_side(split: str | None, shards: str) -> None:
    assert shards_of(None if split is None else Tokens(split, "code", 0, 3, 9)) == shards


def test_the_decision_on_a_text_without_lines_is_right_of_an_empty_one() -> None:
    said = decision({"select": {"keep": False, "reason": "lines"}, "stale": {}})["dropped"]
    assert said == "lines: nothing is left of its text: it is empty, or the lines that many documents repeat are all that it has"


def test_edits_are_shown_with_what_was_there() -> None:
    """Offsets are bytes; a cut is told from a replacement."""
    text = "Écrire à a@b.org\nMenu and more\n"
    edits = [{"start": 11, "end": 18, "replacement": "email@example.com"}, {"start": 19, "end": 33, "replacement": ""}]
    row = {"keep": True, "reason": None, "domain": "math", "component": "math", "split": "train", "edits": edits}
    facts = {"document": {"id": b"1" * 16, "text": text}, "origins": [], "stale": {}, "select": row, "edited_text": "x"}
    sections = {part.title: rendered(part) for part in explanation(facts) if isinstance(part, Table)}
    assert sections["edits"][1:] == [
        "bytes 11 to 18 replaced by email@example.com: a@b.org",
        "bytes 19 to 33 repeated lines, cut: Menu and more",
    ]


def test_the_decision_says_why_a_held_out_document_is_in_neither_set() -> None:
    row = {"keep": False, "reason": "covered", "split": "held_out"}
    said = decision({"select": row, "stale": {}, "dedup": {"twin": "url"}})["dropped"]
    assert said == "covered: it is held out, and a document to train on has its URL"


def test_the_decision_says_where_a_document_is_kept_and_when_there_is_none() -> None:
    kept = {"keep": True, "reason": None, "domain": "math", "component": "essays-only", "split": "train"}
    assert decision({"select": kept, "stale": {}}) == {"kept": "in essays-only, to train on"}
    assert decision({"select": {**kept, "split": "held_out", "component": None}, "stale": {}}) == {"kept": "in math, held out"}
    held_out = {**kept, "split": "held_out", "component": None}
    row = {"verdict": "covered", "coverage": 0.625, "words": 80, "longest_run_words": 0}
    said = "62.5% of its 80 words lie in 13-grams of documents to train on"
    for change, wanted in (
        ({}, f"no, training covers it: {said}"),
        ({"longest_run_words": 50}, f"no, training covers it: {said}, 50 of them in one run"),
        ({"verdict": "evaluated"}, f"yes: {said}"),
        ({"verdict": "over_cap", "coverage": None}, "no: its domain has enough to evaluate without it (coverage.max_held_out_bytes)"),
    ):
        assert decision({"select": held_out, "coverage": {**row, **change}, "stale": {}})["evaluated"] == wanted
    assert decision({"select": held_out, "coverage": None, "stale": {}})["evaluated"].startswith("not known")
    assert decision({"stale": {}}) == {"none": "not made yet: caravan run --to select"}
    assert decision({"select": None, "stale": {}}) == {"stale": "select: it ran on other documents of this source: caravan run"}
    stale = decision({"select": kept, "stale": {"select": "input quality: quality.x: 1 → 2"}})
    assert stale["stale"] == "made from earlier inputs (quality.x: 1 → 2); run again to renew"


def test_an_explanation_says_which_items_of_the_evaluation_a_document_covers() -> None:
    """In a section of its own, the largest share first; the signals do not repeat it."""
    overlaps = [{"task": "bench/a.jsonl", "item": 3, "coverage": 0.25}, {"task": "bench/b.jsonl", "item": 0, "coverage": 1.0}]
    facts = {
        "document": {"id": bytes(16), "text": "x"},
        "origins": [],
        "quality": {"id": bytes(16), "gopher_word_count": 1, "eval_overlap": overlaps},
        "select": {"keep": False, "reason": "eval_overlap"},
        "stale": {},
    }
    sections = {part.title: rendered(part) for part in explanation(facts) if isinstance(part, Table)}
    assert sections["decision"][1:] == ["dropped eval_overlap: it holds an item of an evaluation task, see below"]
    covered = ["bench/b.jsonl item 0 100.0 % of its words", "bench/a.jsonl item 3 25.0 % of its words"]
    assert sections["overlap with evaluation"][1:] == covered
    assert sections["quality"][1:] == ["gopher_word_count 1"]
