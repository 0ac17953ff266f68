"""`caravan verify`: what is damaged is listed with its remedy, what is sound is not, and repairing removes nothing that cannot be made."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.graph.runs import open_run
from flows.history.damage import find_damage, repair
from flows.running.driver import Plan
from storage.artifact import artifact_root
from storage.store import SET_ASIDE, Store
from tests.acceptance.chaos_flips import flips, whole_groups

runner = CliRunner()


@pytest.fixture
def copied(finished: Plan, tmp_path: Path) -> Store:
    """A copy of the finished run's store that a test may damage."""
    shutil.copytree(finished.store.local_path(""), tmp_path / "store", copy_function=os.link)
    return Store(str(tmp_path / "store"))


def paths(store: Store, *, deep: bool = False) -> list[str]:
    return sorted({found.path for found in find_damage(store, deep=deep)})


def test_a_sound_store_has_no_damage(finished: Plan) -> None:
    assert paths(finished.store) == paths(finished.store, deep=True) == []


def test_one_flipped_bit_of_any_file_is_named_and_believed_by_no_reader(copied: Store) -> None:
    """Two of every kind of file in the store, and nothing that is sound is named with it."""
    found = flips(copied, 64, random.Random(0))
    assert len(found.kinds) >= 29
    assert (found.missed, found.believed, found.sound_named) == ([], [], [])


def test_without_reading_large_files_their_sizes_count(copied: Store) -> None:
    run = open_run(copied, "test")
    large = max((entry.size_bytes, f"{manifest.root}/{entry.path}") for manifest in [run.need("export")] for entry in manifest.files)[1]
    data = copied.read(large)
    copied.write(large, data[:-1] + bytes([data[-1] ^ 1]))
    assert paths(copied) == []
    assert paths(copied, deep=True) == [large]
    copied.write(large, data[:-1])
    assert paths(copied) == [large]
    copied.remove(large)
    assert paths(copied) == [large]


def test_an_artifact_that_a_run_points_at_and_that_is_gone_is_damage_of_the_run(copied: Store) -> None:
    pointer = open_run(copied, "test").artifacts["select"]
    copied.remove_tree(artifact_root("select", pointer.fingerprint))
    assert paths(copied) == []  # of the store alone nothing is missing
    (found,) = find_damage(copied, "test")
    assert found.path.endswith(f"{pointer.fingerprint}/manifest.json")
    assert found.remedy == "the next run makes the artifact again"


def first(store: Store, part: str, end: str) -> str:
    """The first file whose path holds `part` and ends so."""
    return next(file.path for file in store.list_files("") if part in file.path and file.path.endswith(end))


@pytest.mark.parametrize(
    "pick",
    [
        lambda store: artifact_root("select", open_run(store, "test").artifacts["select"].fingerprint) + "/manifest.json",
        lambda store: sorted(whole_groups(open_run(store, "test")))[0],
        lambda store: "runs/test/run.json",
        lambda store: "runs/test/report.html",
        lambda store: first(store, "cache/", ".json"),
        lambda store: first(store, "/lease/", ""),
        lambda store: next(
            file.path for file in store.list_files("artifacts") if "/steps/" in file.path and file.path.endswith("manifest.json")
        ),
        lambda store: first(store, "runs/", "files.json"),
        lambda store: first(store, "runs/", "metrics.jsonl"),
    ],
    ids=["manifest", "record", "run", "page", "cache", "lease", "step", "list of logs", "log"],
)
def test_repairing_takes_it_out_of_the_way_and_what_is_left_is_sound(copied: Store, pick: Callable[[Store], str]) -> None:
    """Set aside, not removed, but for caches and pages."""
    path = pick(copied)
    data = copied.read(path)
    copied.write(path, data + b" ")
    (found,) = find_damage(copied, deep=True)
    assert found.path == path
    assert found.remedy
    assert repair(found)
    assert paths(copied, deep=True) == []
    aside = [file.path for file in copied.list_files("") if file.path.startswith(f"{path}{SET_ASIDE}")]
    if "cache/" in path or path.endswith("report.html") or "/lease/" in path:
        assert aside == []
    else:
        assert [copied.read(name) for name in aside] == [data + b" "]


def test_the_command_lists_repairs_and_says_what_comes_next(copied: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_STORE", copied.uri)
    sound = runner.invoke(app, ["verify", "--execution", "test"])
    assert sound.exit_code == 0
    assert "no damage found in" in sound.output
    assert "--deep reads every byte" in sound.output
    path = "runs/test/run.json"
    copied.write(path, copied.read(path).replace(b'"name": "test"', b'"name": "tess"'))
    listed = runner.invoke(app, ["verify", "--execution", "test"])
    assert listed.exit_code == 1
    assert f"{path}: expected a run with sha256" in listed.output
    assert "the next `caravan run` of its recipe makes it again" in listed.output
    repaired = runner.invoke(app, ["verify", "--execution", "test", "--repair"])
    assert repaired.exit_code == 0
    assert "1 damaged file(s) out of the way" in repaired.output
    unknown = runner.invoke(app, ["verify", "--execution", "test", "--run", "nobody"])
    assert unknown.exit_code == 1
