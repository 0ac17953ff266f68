"""RULE 18: a percentile becomes a score, by whole counts that add up in any order, whatever the partitions."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import selection
from pipeline.dedup.exact import split_hash, text_key
from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.config import ContrastConfig, QualityClassifier
from pipeline.quality.thresholds import ClassThresholds, Thresholds, bounds
from pipeline.select.cuts import BINS, added, counted, cut, cuts_of, with_cuts
from pipeline.select.funnel import thresholds_line
from storage.artifact import read_verified
from storage.store import Store
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_inputs
from tests.pipeline.test_selection import by_class, config

QUALITY = QualityConfig(classifier=QualityClassifier(contrast=ContrastConfig(sources=("web",))))
SCORES = st.one_of(st.none(), st.floats(0, 1, width=32))
CLASSES = st.sampled_from(["web", "general", "code"])


def decided(
    folder: Path, docs: list[Doc], partitions: int, percentile: float, held_out: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows by key and the funnel, of a web class with a percentile."""
    store, wanted = Store(str(folder)), config(thresholds=by_class(web=Thresholds(min_quality_percentile=percentile)))
    inputs = write_inputs(store, docs, partitions, held_out, quality=QUALITY)
    manifest = selection.run(store=store, config=wanted, inputs=inputs)
    return rows_by_key(store, manifest, docs), json.loads(read_verified(store, manifest, "funnel.json"))


@given(st.lists(st.tuples(CLASSES, SCORES), max_size=40), st.lists(st.integers(0, 40), max_size=4), st.floats(0, 99.9))
def test_cuts_do_not_depend_on_how_documents_are_parted(rows: list[tuple[str, float | None]], places: list[int], percentile: float) -> None:
    edges = [0, *sorted(places), len(rows)]
    parts = [counted(*zip(*rows[a:b], strict=True)) for a, b in pairwise(edges) if rows[a:b]]
    whole = counted([name for name, _ in rows], [score for _, score in rows])
    assert cuts_of(added(parts[::-1]), {"web": percentile}) == cuts_of(whole, {"web": percentile})


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.floats(0, 99.9))
def test_at_most_the_percentile_lies_below_and_a_bin_more_would_be_too_many(scores: list[float], percentile: float) -> None:
    """Scores as they are stored, in 32 bits, and the edge as the thresholds compare it."""
    found = cut(counted(["web"] * len(scores), scores).get("web", {}), percentile)
    (bound,) = bounds(Thresholds(min_quality_score=found))
    assert bound.value == found
    assert 100 * sum(score < found for score in scores) <= percentile * len(scores)
    assert 100 * sum(score < found + 1 / BINS or found == 1 - 1 / BINS for score in scores) > percentile * len(scores)


def test_the_lowest_go_and_the_cut_is_recorded_whatever_the_partitions(tmp_path: Path) -> None:
    """A fifth of the web class; the funnel and its line say from which score, and the other class loses nothing."""
    docs = [Doc(f"w{i}", f"page number {i}", quality_score=float(np.float32(i / 50))) for i in range(50)]
    docs += [Doc(f"b{i}", f"book number {i}", source="books", quality_score=0.0) for i in range(5)]
    found = [decided(tmp_path / str(partitions), docs, partitions, 20) for partitions in (1, 4)]
    for rows, funnel in found:
        assert {key for key, row in rows.items() if row["reason"] == "quality_score"} == {f"w{i}" for i in range(10)}
        assert funnel["quality_cuts"] == {"web": {"percentile": 20, "score": int(10 / 50 * BINS) / BINS, "documents": 50}}
    line = thresholds_line(found[0][1])
    assert line.endswith("Of web the lowest 20 % by quality score go: those below 0.199 (50 texts ranked).")


def test_copies_count_once_and_held_out_texts_not_at_all(tmp_path: Path) -> None:
    """Ninety copies of the worst page move no cut, nor does what is held out, which the cut judges like the rest."""
    docs = [Doc(f"w{i}", f"page number {i}", quality_score=float(np.float32(i / 50))) for i in range(50)]
    copies = [Doc(f"c{i}", "page number 0", quality_score=0.0) for i in range(90)]
    book = Doc("book", "a book", source="books")
    held_out = [doc for doc in docs if split_hash(text_key(doc.text), "held out") < 0.3]
    apart = [doc for doc in docs if doc not in held_out]
    _, plain = decided(tmp_path / "plain", [*apart, book], 2, 30)
    rows, funnel = decided(tmp_path / "copies", [*docs, *copies, book], 2, 30, held_out=0.3)
    assert 0 < len(held_out) < 30
    assert funnel["quality_cuts"] == plain["quality_cuts"]
    assert funnel["quality_cuts"]["web"]["documents"] == len(apart)
    low = [doc for doc in held_out if doc.quality_score is not None and doc.quality_score < funnel["quality_cuts"]["web"]["score"]]
    assert low
    assert all(rows[doc.key]["reason"] == "quality_score" for doc in low)


def test_a_language_without_the_percentile_is_not_ranked(tmp_path: Path) -> None:
    """Its low scores would take up the share that the others lose."""
    docs = [Doc(f"w{i}", f"page number {i}", quality_score=float(np.float32(i / 50))) for i in range(50)]
    docs += [Doc(f"z{i}", f"页 {i}", language="zh", quality_score=0.0) for i in range(30)]
    docs += [Doc("book", "a book", source="books")]
    web = ClassThresholds.model_validate({"min_quality_percentile": 20, "languages": {"zh": {"min_quality_score": None}}})
    store = Store(str(tmp_path))
    manifest = selection.run(
        store=store, config=config(thresholds=by_class(web=web)), inputs=write_inputs(store, docs, 2, 0.0, quality=QUALITY)
    )
    rows, funnel = rows_by_key(store, manifest, docs), json.loads(read_verified(store, manifest, "funnel.json"))
    assert funnel["quality_cuts"]["web"]["documents"] == 50
    assert {key for key, row in rows.items() if row["reason"] == "quality_score"} == {f"w{i}" for i in range(10)}


def test_without_a_percentile_nothing_is_ranked(tmp_path: Path) -> None:
    store, docs = Store(str(tmp_path)), [Doc("a", "a page"), Doc("b", "a book", source="books")]
    manifest = selection.run(store=store, config=config(), inputs=write_inputs(store, docs, 2))
    assert json.loads(read_verified(store, manifest, "funnel.json"))["quality_cuts"] == {}


def test_a_score_and_a_percentile_of_one_class_are_refused() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        Thresholds(min_quality_score=0.5, min_quality_percentile=20)
    for wrong in (-1, 100):
        with pytest.raises(ValidationError):
            Thresholds(min_quality_percentile=wrong)


def test_the_cut_of_a_class_holds_for_its_languages_unless_they_turn_it_off() -> None:
    """A language's set has the class's score where it inherits the percentile; a percentile of its own is refused."""
    sets = {"zh": {"min_gopher_word_count": None}, "ja": {"min_quality_score": None}, "th": {"min_quality_score": 0.1}}
    given = ClassThresholds.model_validate({"min_gopher_word_count": 50, "min_quality_percentile": 30, "languages": sets})
    assert given.of_language("en").min_quality_percentile == given.of_language("zh").min_quality_percentile == 30
    found = with_cuts(config(thresholds=by_class(web=given)), {"web": {"score": 0.25}}).thresholds.web
    assert {tag: found.of_language(tag).min_quality_score for tag in ("en", "zh", "ja", "th")} == {
        "en": 0.25, "zh": 0.25, "ja": None, "th": 0.1
    }  # fmt: skip
    assert found.of_language("en").min_gopher_word_count == 50
    assert found.of_language("zh").min_gopher_word_count is None
    assert all(found.of_language(tag).min_quality_percentile is None for tag in ("en", "zh", "ja", "th"))
    with pytest.raises(ValidationError, match="a percentile is of the whole class"):
        ClassThresholds.model_validate({"min_quality_percentile": 30, "languages": {"zh": {"min_quality_percentile": 20}}})
