"""Workers: order, errors that travel, a killed worker's group run again, and nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flows.processes import descendants, still_running, wait_gone
from flows.running.workers import GROUP_TRIES, PROJECT, WorkerDied, Workers
from storage.errors import InputError, RetryableError


def square(n: int) -> int:
    return n * n


def pid_of(_: int) -> int:
    return os.getpid()


def fail_on(bad: int, n: int) -> int:
    if n == bad:
        raise InputError("bad_record", file="a.warc", offset=7, detail=f"group {n}")
    return n


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_unpicklable(_: int) -> None:
    raise Unpicklable(1, 2)


def die_once(folder: Path, n: int) -> int:
    """kill -9 of itself, the first time that group 2 is run."""
    mark = folder / "died"
    if n == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"ran-{n}-{os.getpid()}").touch()
    return n


def die_always(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def variable(name: str) -> str | None:
    return os.environ.get(name)


def loaded(_: int) -> list[str]:
    return sorted(name for name in ("prefect", "torch", "s3fs", "typer") if name in sys.modules)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(2, log=tmp_path_factory.mktemp("workers") / "workers.log", preload=["storage.errors"]) as running:
        yield running


def test_results_have_the_order_of_the_groups(workers: Workers) -> None:
    assert workers.run_groups(square, list(range(40))) == [n * n for n in range(40)]
    assert workers.run_groups(square, []) == []


def test_work_runs_in_other_processes_a_few_of_them(workers: Workers) -> None:
    pids = set(workers.run_groups(pid_of, list(range(20))))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_workers_are_clean(workers: Workers) -> None:
    """No Prefect, no torch, no s3fs of this process reaches a worker."""
    assert workers.run_groups(loaded, [0]) == [[]]


def test_an_error_travels_with_its_fields_and_its_traceback(workers: Workers) -> None:
    with pytest.raises(InputError, match=r"a\.warc at 7: bad_record") as caught:
        workers.run_groups(partial(fail_on, 3), list(range(8)))
    assert (caught.value.file, caught.value.offset) == ("a.warc", 7)
    assert "fail_on" in str(caught.value.__cause__)


def test_an_error_that_cannot_be_pickled_still_says_what_it_was(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        workers.run_groups(raise_unpicklable, [0])


def test_a_killed_worker_loses_its_group_alone_and_it_is_run_again(workers: Workers, tmp_path: Path) -> None:
    assert workers.run_groups(partial(die_once, tmp_path), list(range(6))) == list(range(6))
    assert len(list(tmp_path.glob("ran-2-*"))) == 1
    assert len(list(tmp_path.glob("ran-*"))) == 6


def test_a_group_that_always_kills_its_worker_is_a_retryable_error(workers: Workers) -> None:
    with pytest.raises(RetryableError, match=rf"group 1 of 1: a worker died: SIGKILL .*try {GROUP_TRIES} of {GROUP_TRIES}"):
        workers.run_groups(die_always, [0])


def warn(n: int) -> int:
    """A group that warns of something, beside what a library does."""
    logging.getLogger("storage.somewhere").warning("group %d was set aside", n)
    logging.getLogger("a_library").warning("deprecated")
    return n


def test_what_a_worker_warns_of_is_told_in_the_flows_process(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Damage that a worker mends is said where a person looks; what libraries warn of stays in the workers' log."""
    assert workers.run_groups(warn, range(3)) == [0, 1, 2]
    assert sorted(caplog.messages) == ["group 0 was set aside", "group 1 was set aside", "group 2 was set aside"]


def test_progress_counts_to_the_end(workers: Workers) -> None:
    seen: list[tuple[int, int]] = []
    workers.run_groups(square, list(range(9)), lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 9)
    assert seen[-1] == (9, 9)


def test_call_sets_variables_before_the_work_is_unpickled(workers: Workers) -> None:
    assert workers.call(partial(variable, "CARAVAN_TEST"), environment={"CARAVAN_TEST": "7"}) == "7"


def test_the_server_is_started_again_after_it_was_killed(tmp_path: Path) -> None:
    with Workers(1, log=tmp_path / "log", preload=[]) as workers:
        (first,) = workers.run_groups(pid_of, [0])
        assert workers._nursery is not None
        os.kill(workers._nursery._process.pid, signal.SIGKILL)
        workers._nursery._process.wait()
        (second,) = workers.run_groups(pid_of, [0])
    assert first != second


def test_nothing_is_left_when_the_block_ends(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    with Workers(2, log=tmp_path / "log", preload=[]) as workers:
        workers.run_groups(square, [1, 2, 3])
        tree = {pid: start for pid, start in descendants(os.getpid()).items() if pid not in before}
        assert tree
    assert wait_gone(tree, 10) == []


PARENT = """
import time
from pathlib import Path
from flows.running.workers import Workers
from tests.flows.running.test_workers import sleep_long
with Workers(2, log=Path({log!r}), preload=[]) as workers:
    workers.run_groups(sleep_long, [0, 1])
"""


def sleep_long(_: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_flow_however_it_dies(tmp_path: Path, death: signal.Signals) -> None:
    code = PARENT.format(log=str(tmp_path / "log"))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(tree := descendants(parent.pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    parent.send_signal(death)
    parent.wait(30)
    assert wait_gone(tree, 15) == []
    assert still_running(tree) == []


def test_a_worker_that_dies_is_told_from_a_group_that_fails() -> None:
    assert issubclass(WorkerDied, RetryableError)
