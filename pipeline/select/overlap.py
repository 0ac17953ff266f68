"""Overlap with evaluation tasks: which documents go for it, and what of each task is left in the selection. Pure functions. RULE 33."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

REASON = "eval_overlap"
MIN_PARTIAL_COVERAGE = 0.2  # less of an item in one document is hardly a trace of it
Tally = dict[str, dict[str, Any]]  # by task: {dropped_documents, dropped: items, selected: {item: coverage}}


def overlap_reasons(overlaps: pa.ChunkedArray, min_item_coverage: float) -> list[str | None]:
    """`eval_overlap` for each document that covers so much of some item, else None. `overlaps`: the column of the signals (OVERLAPS)."""
    reasons: list[str | None] = [None] * len(overlaps)
    column = overlaps.combine_chunks()
    coverage = pc.struct_field(pc.list_flatten(column), "coverage")
    covering = pc.greater_equal(coverage, pa.scalar(np.float32(min_item_coverage), pa.float32()))  # as it is stored: 0.7 reaches 0.7
    for row in pc.unique(pc.list_parent_indices(column).filter(covering)).to_pylist():
        reasons[row] = REASON
    return reasons


def count_overlaps(
    tally: Tally, overlaps: Sequence[Mapping[str, Any]] | None, *, reason: str | None, split: str, min_item_coverage: float
) -> None:
    """Add one document to the tally: which items it goes for, or, of a selected training document, how much it covers of which."""
    if reason == REASON:
        covered = [found for found in overlaps or () if found["coverage"] >= np.float32(min_item_coverage)]
        for task in {found["task"] for found in covered}:
            _row(tally, task)["dropped_documents"] += 1
        for found in covered:
            _row(tally, found["task"])["dropped"][str(found["item"])] = 1.0
    elif reason is None and split == "train":
        for found in overlaps or ():
            if found["coverage"] >= min(MIN_PARTIAL_COVERAGE, min_item_coverage):
                _keep_largest(_row(tally, found["task"])["selected"], {str(found["item"]): found["coverage"]})


def add_overlaps(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies: an item is covered as far as one document covers it, so of several the largest coverage counts."""
    total: Tally = {}
    for tally in tallies:
        for task, row in tally.items():
            into = _row(total, task)
            into["dropped_documents"] += row["dropped_documents"]
            for name in ("dropped", "selected"):
                _keep_largest(into[name], row[name])
    return total


def _row(tally: Tally, task: str) -> dict[str, Any]:
    return tally.setdefault(task, {"dropped_documents": 0, "dropped": {}, "selected": {}})


def _keep_largest(into: dict[str, float], other: Mapping[str, float]) -> None:
    for item, coverage in other.items():
        into[item] = max(coverage, into.get(item, 0.0))


def overlap_of(total: Tally, totals: Mapping[str, Mapping[str, Any]], min_item_coverage: float) -> dict[str, Any]:
    """The part `eval_overlap` of funnel.json: for each task file, by path,

    items, unreachable               as the quality stage counts them (`totals`, of eval_overlap.totals_of)
    hardly_reachable                 other items that no document can cover, since fewer of their words are in n-grams that count
    dropped_documents                documents with the reason `eval_overlap` that cover an item of the task
    dropped_items                    items that those cover
    selected_items                   items that a selected training document covers: none, or select is wrong
    partly_selected_items            items of which one covers at least MIN_PARTIAL_COVERAGE, but not min_item_coverage
    """
    tasks = {}
    for task, counts in sorted(totals.items()):
        row = total.get(task, {"dropped_documents": 0, "dropped": {}, "selected": {}})
        covered = sum(coverage >= np.float32(min_item_coverage) for coverage in row["selected"].values())
        below = sum(n for percent, n in counts["reach"].items() if int(percent) < 100 * min_item_coverage)
        tasks[task] = {
            "items": counts["items"],
            "unreachable": counts["unreachable"],
            "hardly_reachable": below - counts["unreachable"],
            "dropped_documents": row["dropped_documents"],
            "dropped_items": len(row["dropped"]),
            "selected_items": int(covered),
            "partly_selected_items": len(row["selected"]) - int(covered),
        }
    return {"min_item_coverage": min_item_coverage, "min_partial_coverage": MIN_PARTIAL_COVERAGE, "tasks": tasks}
