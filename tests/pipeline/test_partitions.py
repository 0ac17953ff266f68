"""The driver of the data stages: groups that are finished stay finished, and an artifact exists whole or not at all. RULE 9."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.partitions import GroupResult, Output, Results, Step, run_stage
from storage.artifact import Manifest, find, identity, read_entry, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.strict import Strict


class Config(Strict):
    """Nothing to choose."""


def halve(worked: list[str], n: int, output: Output) -> None:
    """Step one: a file between the steps, and a note that JSON changes."""
    worked.append(f"halve {n}")
    with output.create(f"between-{n}") as file:
        file.write(b"%d" % n)
    output.counts["halved"] += 1
    output.note = {"pair": (n, n)}


def join(store: Store, worked: list[str], before: Callable[[], object], results: list[GroupResult], output: Output) -> None:
    """Step two: reads the files of step one."""
    worked.append("join")
    before()
    with output.create("whole") as file:
        file.write(b"".join(read_entry(store, result.root, result.files[0]) for result in results))
    output.note = [result.note for result in results]


def steps(store: Store, worked: list[str], before: Callable[[], object] = lambda: None) -> list[Step]:
    """Three groups, then one."""
    return [
        Step("halve", lambda _: range(3), partial(halve, worked), final=False),
        Step("join", lambda results: [results["halve"]], partial(join, store, worked, before)),
    ]


def run(store: Store, worked: list[str], **changes: Any) -> Manifest:
    """The stage, complete."""
    asked: dict[str, Any] = {"steps": steps(store, worked), **changes}
    return run_stage(store=store, stage="toy", version=1, config=Config(), inputs={}, **asked)


def killed() -> None:
    """Ends the work in the middle."""
    raise RuntimeError("killed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_what_finished_before_a_kill_is_not_done_again(store: Store) -> None:
    """The second attempt does the group that failed, alone; the third does nothing; files between the steps are gone at the end."""
    worked = list[str]()
    with pytest.raises(RuntimeError, match="killed"):
        run(store, worked, steps=steps(store, worked, killed))
    assert find(store, "toy", identity("toy", 1, Config(), {})[0]) is None
    made = run(store, worked)
    assert run(store, worked) == made
    assert worked == ["halve 0", "halve 1", "halve 2", "join", "join"]
    assert read_verified(store, made, "whole") == b"012"
    assert made.counts == {"halved": 3}
    assert [info.path for info in store.list_files(made.root) if "between" in info.path] == []


def test_a_plan_cannot_tell_a_group_that_was_just_done_from_one_found(store: Store) -> None:
    """A note is what its record holds, the first time too."""
    seen = list[Any]()

    def look(results: Results) -> None:
        seen.append([(step, result.n, result.counts, result.note) for step, found in results.items() for result in found])
        raise ConfigError("not yet")

    for _ in range(2):
        with pytest.raises(ConfigError, match="not yet"):
            run(store, [], check=look)
    assert seen[0] == seen[1]
    assert seen[0][0][-1] == {"pair": [0, 0]}


def test_an_attempt_that_loses_its_files_to_one_that_finished_gives_that_ones_artifact(store: Store) -> None:
    """Two runs of one stage at once: the slower finds the files between the steps removed."""
    first, second = list[str](), list[str]()
    made = run(store, first, steps=steps(store, first, lambda: run(store, second)))
    assert (first[-1], second) == ("join", ["join"])
    assert read_verified(store, made, "whole") == b"012"


def test_a_file_between_the_steps_that_is_gone_is_an_error_while_no_artifact_stands(store: Store) -> None:
    """Nothing is made of half of the work."""
    worked = list[str]()

    def lose() -> None:
        for info in list(store.list_files("")):
            if info.path.endswith("between-1"):
                store.remove(info.path)

    with pytest.raises(IntegrityError, match=r"between-1: expected sha256 .* found no such file"):
        run(store, worked, steps=steps(store, worked, lose))


@pytest.mark.parametrize("what", ["record", "file", "file that is gone"])
def test_a_finished_group_that_is_damaged_is_done_again(store: Store, caplog: pytest.LogCaptureFixture, what: str) -> None:
    """It is said, in a line, unless a file is only gone; the others stay; the artifact is what it would have been. It stopped the stage."""
    worked = list[str]()
    with pytest.raises(RuntimeError, match="killed"):
        run(store, worked, steps=steps(store, worked, killed))
    (record,) = [info.path for info in store.list_files("") if "/groups/halve-00001" in info.path]
    (between,) = [info.path for info in store.list_files("") if info.path.endswith("between-1")]
    if what == "record":
        data = store.read(record)
        store.write(record, data.replace(b'"halved": 1', b'"halved": 3'))
    elif what == "file":
        store.write(between, b"7")
    else:
        store.remove(between)
    made = run(store, worked)
    assert worked == ["halve 0", "halve 1", "halve 2", "join", "halve 1", "join"]
    assert read_verified(store, made, "whole") == b"012"
    assert made.counts == {"halved": 3}
    said = {"record": "halve-00001", "file": "between-1", "file that is gone": None}[what]
    assert len(caplog.messages) == (said is not None)
    assert all(str(said) in line and line.endswith("that group of work is done again") for line in caplog.messages)


def test_two_groups_may_not_write_one_file(store: Store) -> None:
    """One of them would be lost."""

    def write(_: int, output: Output) -> None:
        with output.create("same") as file:
            file.write(b"x")

    with pytest.raises(AssertionError, match="two groups wrote \\['same'\\]"):
        run(store, [], steps=[Step("write", lambda _: range(2), write)])
