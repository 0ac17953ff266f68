"""flows/graph/staleness.py: after a run in part, what was made from earlier artifacts says so, by the field; what was not, does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.graph.runs import Run
from flows.graph.staleness import stale_artifacts, stale_lines
from storage.artifact import Attempt, FileEntry, Manifest, identity
from storage.store import Store

FIELD = "select.min_words: 40 → 250"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A whole run of few stages, in a store."""
    run = Run(Store(str(tmp_path)), "r")
    documents = publish(run, "documents/web", {}, {})
    select = publish(run, "select", {"min_words": 40}, {"documents.web": documents})
    tokens = publish(run, "tokenize", {}, {"documents.web": documents, "selection": select})
    plan = publish(run, "mix/pretrain", {}, {"tokens": tokens})
    pretrain = publish(run, "pretrain", {}, {"tokens": tokens, "plan": plan})
    anneal = publish(run, "anneal", {}, {"tokens": tokens, "checkpoint": pretrain})
    publish(run, "export", {}, {"checkpoint": anneal})
    return run


def publish(run: Run, key: str, config: dict[str, Any], inputs: dict[str, Manifest], text: str = "") -> Manifest:
    """Make an artifact whose bytes are its config and `text`, and let the run point at it."""
    stage = key.partition("/")[0]
    fingerprint, payload = identity(stage, 1, {**config, "text": text}, {name: value.digest for name, value in inputs.items()})
    attempt, entries = Attempt(run.store, stage, fingerprint), list[FileEntry]()
    with attempt.create("file", entries) as file:
        file.write(f"{key} {config} {text}".encode())
    manifest = attempt.publish(payload, entries, counts={}, info={})
    run.point(key, manifest)
    return manifest


def test_of_a_whole_run_nothing_is_stale(run: Run) -> None:
    assert stale_artifacts(run) == {}


def test_everything_behind_a_new_selection_is_stale_by_the_field_that_made_it_new(run: Run) -> None:
    """Whether its own inputs changed or those of something before it; one line for all of it."""
    publish(run, "select", {"min_words": 250}, {"documents.web": run.need("documents/web")})
    run.store.write("artifacts/select/of-another-run/manifest.json", b"damaged")  # its own readers say so
    stale = stale_artifacts(run)
    assert stale["tokenize"] == f"input selection: {FIELD}"
    assert stale["export"] == f"input checkpoint: {FIELD}"
    said = f"made from an earlier selection ({FIELD}); run again to renew"
    assert stale_lines(stale) == [f"tokenize, mix, pretrain, anneal, export: {said}"]
    assert stale_lines(stale, ["select", "export"]) == [f"export: {said}"]


def test_a_selection_of_other_thresholds_and_the_same_bytes_makes_nothing_stale(run: Run) -> None:
    """The digest is of bytes alone."""
    old = run.need("select")
    fingerprint, payload = identity("select", 1, {"min_words": 41}, {})
    equal = Manifest("select", fingerprint, old.digest, payload, old.files)
    run.store.write(f"{equal.root}/manifest.json", equal.to_json())
    assert run.point("select", equal)
    assert stale_artifacts(run) == {}


def test_renewed_shards_leave_only_what_is_behind_them_stale(run: Run) -> None:
    documents = run.need("documents/web")
    select = publish(run, "select", {"min_words": 250}, {"documents.web": documents})
    publish(run, "tokenize", {}, {"documents.web": documents, "selection": select}, "other")
    stale = stale_artifacts(run)
    assert list(stale) == ["mix/pretrain", "pretrain", "anneal", "export"]
    assert "input tokens: tokenize.text: '' → 'other'" in stale["mix/pretrain"]
    assert FIELD in stale["mix/pretrain"]


def test_a_new_source_and_a_training_that_has_not_ended_are_named(run: Run) -> None:
    run.training = {"anneal": "0" * 32}
    assert stale_artifacts(run) == {
        "anneal": "a newer one was begun and has not ended",
        "export": "input checkpoint: anneal a newer one was begun and has not ended",
    }
    assert stale_lines(stale_artifacts(run), ["anneal"]) == ["anneal: a newer one was begun and has not ended; run again to renew"]
    publish(run, "documents/books", {}, {}, "books")
    assert stale_artifacts(run)["select"] == "input documents.books: new"
    assert stale_artifacts(run)["mix/pretrain"] == "input tokens: tokenize input documents.books: new"
