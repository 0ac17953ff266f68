"""Staleness is named field by field; --from, --only and their refusals; nothing is written by looking."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows import data_to_checkpoint
from flows.graph.differences import differences
from flows.graph.runs import Run, open_run
from flows.graph.walk import Asked, Job, Stage, Walk
from storage.artifact import Attempt, FileEntry, Manifest
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict

DEDUP, QUALITY, SELECT = (
    Stage("dedup", "pipeline.dedup.stage"),
    Stage("quality", "pipeline.quality.stage"),
    Stage("select", "pipeline.selection"),
)


def test_names_and_versions_are_those_of_the_modules() -> None:
    """They are read from the source, without an import; an import says the same."""
    stages = [value for value in vars(data_to_checkpoint).values() if isinstance(value, Stage)]
    assert len(stages) >= 14
    for stage in [*stages, *data_to_checkpoint.TRAINING.values()]:
        module = importlib.import_module(stage.module)
        assert stage.version == getattr(module, f"{stage.prefix}VERSION")
        assert stage.artifact == getattr(module, f"{stage.prefix}NAME", stage.name)


class Config(Strict):
    threshold: int = 50
    content: str = "bytes"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def make(store: Store, made: list[str]):  # type: ignore[no-untyped-def]
    """A `perform` that publishes the config's content."""

    def perform(jobs: Sequence[Job]) -> list[Manifest]:
        found = []
        for job in jobs:
            attempt, entries = Attempt(store, job.stage.artifact, job.fingerprint), list[FileEntry]()
            with attempt.create("file", entries) as file:
                file.write(job.config.content.encode())  # type: ignore[attr-defined]
            made.append(job.key)
            found.append(attempt.publish(job.payload, entries, counts={}, info={}))
        return found

    return perform


def path(walk: Walk, dedup: BaseModel, select: BaseModel) -> None:
    """dedup, then select."""
    clusters = walk(DEDUP, dedup, {})
    walk(SELECT, select, {"clusters": clusters})


def run_path(store: Store, dedup: BaseModel, select: BaseModel, asked: Asked | None = None) -> list[str]:
    made: list[str] = []
    run = open_run(store, "r")
    path(Walk(store, store, run, asked or Asked(), make(store, made)), dedup, select)
    run.end("finished")
    return made


def reasons(store: Store, dedup: BaseModel, select: BaseModel) -> dict[str, str]:
    walk = Walk(store, store, open_run(store, "r"))
    path(walk, dedup, select)
    return {visit.key: visit.reason for visit in walk.visits if visit.state == "stale"}


def test_a_changed_field_is_named_with_both_values(store: Store) -> None:
    """And what follows names it as the cause."""
    assert reasons(store, Config(), Config()) == {"dedup": "not made yet", "select": "input clusters: dedup not made yet"}
    assert run_path(store, Config(), Config()) == ["dedup", "select"]
    assert reasons(store, Config(), Config()) == {}
    assert reasons(store, Config(), Config(threshold=60)) == {"select": "select.threshold: 50 → 60"}
    changed = reasons(store, Config(threshold=60), Config())
    assert changed == {"dedup": "dedup.threshold: 50 → 60", "select": "input clusters: dedup.threshold: 50 → 60"}


def test_an_input_rebuilt_to_the_same_bytes_makes_nothing_stale(store: Store) -> None:
    """The digest is of bytes alone; other bytes are named as the input that changed, with the field that changed it."""
    run_path(store, Config(), Config())
    assert run_path(store, Config(threshold=60), Config()) == ["dedup"]
    run_path(store, Config(content="other"), Config(), Asked("dedup", "dedup"))
    assert reasons(store, Config(content="other"), Config()) == {"select": "input clusters: dedup.content: 'bytes' → 'other'"}


def test_after_a_run_in_part_what_comes_later_names_the_field_at_any_depth(store: Store) -> None:
    """The run points at the new input already; without the artifact of before, nobody can say more than that it changed."""

    def longer(walk: Walk, content: str) -> list[str]:
        clusters = walk(DEDUP, Config(content=content), {})
        quality = walk(QUALITY, Config(content=content), {"clusters": clusters})
        walk(SELECT, Config(), {"clusters": clusters, "quality": quality})
        return [visit.reason for visit in walk.visits if visit.state == "stale"]

    run = open_run(store, "r")
    longer(Walk(store, store, run, Asked(), make(store, [])), "bytes")
    old = run.need("dedup")
    longer(Walk(store, store, run, Asked(last="quality"), make(store, [])), "other")
    field = "'bytes' → 'other'"
    assert longer(Walk(store, store, run), "other") == [f"input clusters: dedup.content: {field}; input quality: quality.content: {field}"]
    store.remove(f"{old.root}/manifest.json")
    (reason,) = longer(Walk(store, store, run), "other")
    assert reason == f"input clusters: digest changed; input quality: quality.content: {field}"


def test_going_back_runs_nothing(store: Store) -> None:
    """The artifact of the old threshold is still there."""
    run_path(store, Config(), Config())
    assert run_path(store, Config(), Config(threshold=60)) == ["select"]
    assert run_path(store, Config(), Config()) == []


def test_only_refuses_stale_inputs_and_names_them(store: Store) -> None:
    """RULE 11."""
    run_path(store, Config(), Config())
    with pytest.raises(ConfigError, match=r"select: its input clusters is stale \(dedup\.threshold: 50 → 60\); run it too: --from dedup"):
        run_path(store, Config(threshold=60), Config(), Asked("select", "select"))
    assert run_path(store, Config(), Config(threshold=1), Asked("select", "select")) == ["select"]


def test_the_advice_of_a_refusal_runs(store: Store) -> None:
    """The stage to begin at is the first stale one, not the nearest: beginning there would be refused again."""

    def longer(walk: Walk) -> None:
        clusters = walk(DEDUP, Config(), {})
        walk(SELECT, Config(), {"quality": walk(QUALITY, Config(), {"clusters": clusters})})

    with pytest.raises(ConfigError, match=r"select: its input quality is stale .*run it too: --from dedup"):
        longer(Walk(store, store, open_run(store, "r"), Asked("select", "select")))
    longer(Walk(store, store, open_run(store, "r"), Asked("dedup", "select")))


def test_to_stops_there(store: Store) -> None:
    """What comes after is left."""
    assert run_path(store, Config(), Config(), Asked(last="dedup")) == ["dedup"]


def test_looking_writes_nothing(store: Store) -> None:
    """A dry run and a status leave the store as it was."""
    reasons(store, Config(), Config())
    assert list(store.list_files("")) == [] if Path(store.uri).exists() else True


def test_a_version_and_many_fields_are_summed_up() -> None:
    """At most three fields are spelled out."""
    before = {"version": 1, "config": {"a": 1, "b": {"c": [1, 2]}, "d": 1, "e": 1}, "inputs": {"x": "1", "y": "1"}}
    now = {"version": 2, "config": {"a": 2, "b": {"c": [1, 3]}, "d": 2, "e": 2}, "inputs": {"y": "2", "z": "1"}}
    assert differences(before, now, "dedup") == [
        "dedup version: 1 → 2",
        "dedup.a: 1 → 2",
        "dedup.b.c[1]: 2 → 3",
        "dedup.d: 1 → 2",
        "and 1 more fields",
        "input z: new",
        "input x: no longer there",
        "input y: digest changed",
    ]


def test_force_executes_again_what_stands(store: Store) -> None:
    """And only what is asked for."""
    run_path(store, Config(), Config())
    again: list[str] = []
    walk = Walk(store, store, open_run(store, "r"), Asked("select", "select", True), make(store, []), lambda job, _: again.append(job.key))
    path(walk, Config(), Config())
    assert again == ["select"]


def test_a_run_survives_its_file(store: Store) -> None:
    """run.json gives the run back."""
    run_path(store, Config(), Config())
    run: Run = open_run(store, "r")
    assert (run.state, sorted(run.artifacts)) == ("finished", ["dedup", "select"])


def test_the_run_is_written_once_for_all_artifacts_of_a_stage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run, saved = open_run(store, "r"), list[int]()
    monkeypatch.setattr(run, "save", lambda: saved.append(len(run.artifacts)))
    walk = Walk(store, store, run, Asked(), make(store, []))
    configs = {name: Config(content=name) for name in ("a", "b", "c")}
    walk.each(DEDUP, configs, {})
    assert saved == [3]
    walk.each(DEDUP, configs, {})  # fresh: nothing new to say
    assert saved == [3]
