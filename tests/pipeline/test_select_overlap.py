"""Documents that go because they cover an item of an evaluation task, and what is said of each task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import selection
from pipeline.quality import stage as quality
from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.config import EvalTasks, resolve_files
from pipeline.quality.eval_overlap import OVERLAPS
from pipeline.quality.thresholds import Thresholds
from pipeline.select.overlap import add_overlaps, count_overlaps, overlap_of, overlap_reasons
from storage.artifact import read_verified
from storage.store import Store
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_clusters, write_documents, write_domains
from tests.pipeline.test_quality_eval_overlap import prose
from tests.pipeline.test_quality_files import raw_with, resolved
from tests.pipeline.test_selection import by_class, config, render

TASK = "tasks/t.jsonl"
ITEMS = [prose(n, 40) for n in range(8)]


def part(item: int, n_words: int) -> str:
    """The first words of an item, in a document of its own."""
    return f"{prose(100 + item, 30)} {' '.join(ITEMS[item].split()[:n_words])} {prose(200 + item, 30)}"


DOCS = [
    Doc("whole", ITEMS[0]),
    Doc("half", part(1, 20), source="books"),
    Doc("two", part(1, 20) + part(2, 40)),
    Doc("less", part(3, 19)),
    Doc("more of another", part(3, 14) + part(4, 16)),
    Doc("thirteen words", part(5, 13)),
    Doc("a hit too few", part(6, 12)),
    Doc("bad", ITEMS[7], domains={"code": 1.0}),
    Doc("nothing", prose(300, 50)),
]


def select(tmp_path: Path, *, partitions: int = 4, held_out: float = 0.0, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reason by key, and the funnel, of the two stages."""
    raw = raw_with(tmp_path / "raw", {TASK: "\n".join(json.dumps({"q": item}) for item in [*ITEMS, "too short"]).encode()})
    store, scored = Store(str(tmp_path / "store")), resolved(raw, QualityConfig(eval_tasks=(EvalTasks(path="tasks/*"),)))
    inputs = {**write_documents(store, DOCS, partitions), "clusters": write_clusters(store, DOCS, partitions, held_out)}
    signals = quality.run(store=store, raw=raw, config=scored, inputs=inputs)
    every = {**inputs, "quality": signals, "domains": write_domains(store, DOCS, partitions)}
    manifest = selection.run(
        store=store, config=config(thresholds=by_class(code=Thresholds(min_gopher_word_count=99)), **changes), inputs=every
    )
    funnel = json.loads(read_verified(store, manifest, "funnel.json"))
    return {key: row["reason"] for key, row in rows_by_key(store, manifest, DOCS).items() if not row["keep"]}, funnel


@pytest.mark.parametrize("partitions", [1, 4])
def test_half_of_an_item_drops_a_document_and_less_does_not(tmp_path: Path, partitions: int) -> None:
    """RULE 33, and the figures of the task: no item is covered in what is kept, and near misses are seen."""
    reasons, funnel = select(tmp_path, partitions=partitions)
    assert reasons == {"bad": "gopher_word_count", **dict.fromkeys(("whole", "half", "two"), "eval_overlap")}
    assert funnel["total"]["dropped"]["eval_overlap"]["documents"] == 3
    assert funnel["eval_overlap"] == {
        "min_item_coverage": 0.5,
        "min_partial_coverage": 0.2,
        "tasks": {
            TASK: {
                "items": 9,
                "unreachable": 1,
                "hardly_reachable": 0,
                "dropped_documents": 3,
                "dropped_items": 3,
                "selected_items": 0,
                "partly_selected_items": 3,
            }
        },
    }
    (printed,) = [line.split() for line in render(funnel, None).splitlines() if line.startswith(TASK)]
    assert printed == [TASK, *map(str, (9, 1, 0, 3, 3, 0, 3))]


def test_the_threshold_is_the_recipes(tmp_path: Path) -> None:
    """At 1 the whole item alone drops; the coverage of what is kept is not hidden."""
    reasons, funnel = select(tmp_path, min_item_coverage=1.0)
    assert set(reasons) == {"bad", "whole", "two"}
    assert funnel["eval_overlap"]["tasks"][TASK]["partly_selected_items"] == 4
    reasons, funnel = select(tmp_path, min_item_coverage=0.3)
    assert set(reasons) == {"bad", "whole", "two", "half", "less", "more of another", "thirteen words"}
    assert funnel["eval_overlap"]["tasks"][TASK]["partly_selected_items"] == 0


def test_what_is_held_out_is_in_no_selection_to_train_on(tmp_path: Path) -> None:
    """Held-out documents go for it, too; those that stay cover nothing of what is trained on."""
    reasons, funnel = select(tmp_path, held_out=1.0)
    assert set(reasons) == {"bad", "whole", "half", "two"}
    assert funnel["eval_overlap"]["tasks"][TASK]["partly_selected_items"] == 0
    assert funnel["eval_overlap"]["tasks"][TASK]["dropped_items"] == 3


def test_without_tasks_nothing_is_said_and_nothing_goes(tmp_path: Path) -> None:
    """A null column is no overlap."""
    assert overlap_reasons(pa.chunked_array([[None, None]], type=OVERLAPS), 0.5) == [None, None]
    assert overlap_reasons(pa.chunked_array([], type=OVERLAPS), 0.5) == []
    assert resolve_files(QualityConfig(), lambda _: []).eval_tasks == ()
    assert overlap_of({}, {}, 0.5)["tasks"] == {}


COVERAGES = st.integers(1, 64).map(lambda n: n / 64)
FOUND = st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), COVERAGES, max_size=5).map(
    lambda found: [{"task": task, "item": item, "coverage": coverage} for (task, item), coverage in found.items()]
)


@given(st.lists(st.one_of(st.none(), FOUND), max_size=6), st.integers(0, 6), COVERAGES)
def test_reasons_and_figures_agree_however_the_documents_are_cut(rows: list[Any], cut: int, least: float) -> None:
    """A row goes where its largest coverage reaches the threshold; tallies of parts add up to the tally of all."""
    chunks = [pa.array(some, OVERLAPS) for some in (rows[:cut], rows[cut:])]
    reasons = overlap_reasons(pa.chunked_array(chunks, type=OVERLAPS), least)
    assert reasons == ["eval_overlap" if max((x["coverage"] for x in row or ()), default=0) >= least else None for row in rows]

    def tally(some: list[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for i in some:
            count_overlaps(found, rows[i], reason=reasons[i], split="train", min_item_coverage=least)
        return found

    numbers = list(range(len(rows)))
    parts = json.loads(json.dumps([tally(numbers[:cut]), tally(numbers[cut:])]))
    totals = {task: {"items": 4, "unreachable": 0, "reach": {"100": 4}} for task in "ab"}
    figures = overlap_of(add_overlaps(parts), totals, least)["tasks"]
    assert figures == overlap_of(tally(numbers), totals, least)["tasks"]
    for task, row in figures.items():
        mine = [[x for x in found or () if x["task"] == task] for found in rows]
        covering = [[x["item"] for x in found if x["coverage"] >= np.float32(least)] for found in mine]
        assert row["dropped_documents"] == sum(map(bool, covering))
        assert row["dropped_items"] == len({item for items in covering for item in items})
        assert row["selected_items"] == 0
        kept = [found for found, reason in zip(mine, reasons, strict=True) if reason is None]
        assert row["partly_selected_items"] == len({x["item"] for found in kept for x in found if x["coverage"] >= min(0.2, least)})


def test_a_coverage_that_equals_the_threshold_reaches_it() -> None:
    """As stored, in 32 bits: 0.7 is below 0.7 in 64."""
    for least in (0.1, 0.3, 0.7, 1.0):
        column = pa.chunked_array([[[{"task": "t", "item": 0, "coverage": least}]]], type=OVERLAPS)
        assert overlap_reasons(column, least) == ["eval_overlap"]


def test_items_that_no_document_can_cover_are_told_apart() -> None:
    """Those without an n-gram that counts, and those with fewer than the threshold asks."""
    totals = {"t": {"items": 10, "unreachable": 2, "reach": {"0": 3, "49": 1, "50": 2, "100": 4}}}
    row = overlap_of({}, totals, 0.5)["tasks"]["t"]
    assert (row["unreachable"], row["hardly_reachable"]) == (2, 2)
