"""`caravan gc` removes what no run refers to and nothing else, says what and what it would cost, and asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.graph.runs import Run, open_run
from flows.history.garbage import find_garbage, remove
from storage.artifact import Attempt, FileEntry, Manifest, identity, read_verified
from storage.disk import TEMPORARY_PREFIX
from storage.errors import ConfigError
from storage.lease import hold
from storage.store import Store

COMMAND = ["gc", "--execution", "test"]


def made(store: Store, name: str, **inputs: str) -> Manifest:
    """A finished artifact, with a group record and a file of an attempt that came to nothing beside it."""
    fingerprint, payload = identity("select", 1, {"name": name}, inputs)
    attempt, entries = Attempt(store, "select", fingerprint), list[FileEntry]()
    with attempt.create("table", entries) as file:
        file.write(name.encode())
    store.write(f"{attempt.root}/groups/decide-00000.json", b"{}")
    with Attempt(store, "select", fingerprint).create("table", []) as file:
        file.write(b"killed")
    return attempt.publish(payload, entries, counts={}, info={})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of the execution file `test`, empty."""
    monkeypatch.setenv("CARAVAN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CARAVAN_RAW_ROOT", str(tmp_path))
    return Store(str(tmp_path / "store"))


def a_run(store: Store, name: str, **artifacts: Manifest) -> Run:
    """A finished run that points at artifacts."""
    run = Run(store, name)
    for key, manifest in artifacts.items():
        run.point(key, manifest)
    run.end("finished")
    return run


def test_it_says_what_and_asks_and_removes_exactly_what_no_run_refers_to(store: Store) -> None:
    """What two runs share stays; a no removes nothing; afterwards every run's bytes verify and there is nothing more to remove."""
    shared, own, unused = made(store, "shared"), made(store, "own"), made(store, "unused")
    runs = [a_run(store, "one", select=shared, other=own), a_run(store, "two", select=shared)]
    before = {file.path for file in store.list_files("")}
    asked = CliRunner().invoke(app, COMMAND, input="n\n")
    assert "Remove all of this?" in asked.output
    assert unused.fingerprint in asked.output
    assert "no run refers to it" in asked.output
    assert "gc would remove 8 files" in asked.output
    assert "caravan gc --yes" in asked.output
    assert "nothing was removed" in asked.output
    assert {file.path for file in store.list_files("")} == before
    removed = CliRunner().invoke(app, COMMAND, input="y\n")
    assert removed.exit_code == 0
    assert "removed 8 files" in removed.output  # of the unused one: manifest, two tables, a group record; of the others the last two
    kept = {f"{manifest.root}/{name}" for manifest in (shared, own) for name in ("manifest.json", manifest.file("table").path)}
    assert {file.path for file in store.list_files("artifacts")} == kept
    for run in runs:
        for key in run.artifacts:
            read_verified(store, open_run(store, run.name).need(key), "table")
    assert "nothing to remove" in CliRunner().invoke(app, COMMAND).output


def test_a_run_whose_file_was_damaged_keeps_what_it_pointed_at(store: Store) -> None:
    """Nobody knows what that was: gc says so and removes nothing, until the run was made again or is given up."""
    own = made(store, "own")
    run = a_run(store, "one", select=own)
    store.set_aside("runs/one/run.json")
    refused = CliRunner().invoke(app, [*COMMAND, "--yes"])
    assert refused.exit_code == 1
    assert "run one: its file was damaged, and nobody knows what it points at: run its recipe first" in refused.output
    assert store.exists(f"{own.root}/manifest.json")
    run.end("finished")
    assert CliRunner().invoke(app, [*COMMAND, "--yes"]).exit_code == 0
    assert store.exists(f"{own.root}/manifest.json")
    assert [file.path for file in store.list_files("runs") if "damaged" in file.path] == []


def test_what_was_made_from_an_artifact_keeps_it(store: Store) -> None:
    """A run whose selection was made anew and whose checkpoint was not: the selection behind the checkpoint stays, at any depth."""
    first = made(store, "selection")
    tokens = made(store, "tokens", selection=first.digest)
    checkpoint = made(store, "checkpoint", tokens=tokens.digest)
    unused = made(store, "unused", tokens=tokens.digest)
    a_run(store, "in-part", select=made(store, "another selection"), pretrain=checkpoint)
    whole = {item.what for item in find_garbage(store) if item.reason.startswith("no run refers")}
    assert whole == {unused.root}


def test_what_a_run_that_goes_on_writes_is_not_offered(store: Store) -> None:
    """Nothing is removed while a run says that it runs and its process lives; a run whose process is gone hinders nothing."""
    made(store, "unused")
    run = a_run(store, "going-on")
    run.begin({}, {}, "")
    before = {file.path for file in store.list_files("")}
    refused = CliRunner().invoke(app, [*COMMAND, "--yes"])
    assert refused.exit_code == 1
    assert {file.path for file in store.list_files("")} == before
    run.pid = 2**22 + 1  # no process of Linux has this id
    run.save()
    assert CliRunner().invoke(app, [*COMMAND, "--yes"]).exit_code == 0
    assert list(store.list_files("artifacts")) == []


def test_what_a_trainer_without_a_run_writes_is_not_offered(store: Store) -> None:
    """Training runs without Prefect too: a lease that moves is somebody's, one that stands still is nobody's."""
    root = f"artifacts/pretrain/{'a' * 32}"
    store.write(f"{root}/steps/000000004/manifest.json", b"{}")
    with hold(store, root, 0.5), pytest.raises(ConfigError, match="its lease moves"):
        find_garbage(store, watch_s=10)
    (let_go,) = find_garbage(store, watch_s=10)
    store.write(f"{root}/lease/2", store.read(f"{root}/lease/1").replace(b"true", b"false"))  # as a kill -9 leaves it
    (killed,) = find_garbage(store, watch_s=0.5)
    assert let_go.what == killed.what == root


def test_what_a_killed_process_was_writing_is_found(tmp_path: Path) -> None:
    """No listing shows a temporary file, so nothing else would ever remove it."""
    store = Store(str(tmp_path))
    store.write("artifacts/toy/f/part", b"whole")
    left = store.local_path(f"artifacts/toy/f/{TEMPORARY_PREFIX}x")
    left.write_bytes(b"half")
    found = next(item for item in find_garbage(store) if item.what == "temporary files")
    assert found.size_bytes == 4
    remove(store, [found])
    assert not left.exists()
    assert store.exists("artifacts/toy/f/part")


def test_the_checkpoints_of_an_interrupted_training_are_named_as_such(tmp_path: Path) -> None:
    """No run points at what is unfinished, yet the next run would go on from it: whoever is asked must see that."""
    store = Store(str(tmp_path))
    for step in (4, 12):
        store.write(f"artifacts/pretrain/{'a' * 32}/steps/{step:09d}/manifest.json", b"{}")
    store.write(f"artifacts/dedup/{'b' * 32}/groups/keys-0.json", b"{}")
    reasons = {item.what.split("/")[1]: item.reason for item in find_garbage(store)}
    assert reasons == {"dedup": "no run refers to it", "pretrain": "unfinished: a run of its recipe would go on from step 12"}
