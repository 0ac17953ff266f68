"""Fixtures: one Prefect server for the tests of a module, and one run of the whole path that tests of all folders look at.

The server ends with its module, not with the session: its websocket's keep-alive draws from the global `random` every 20 s in a thread
of this process, and Hypothesis fails a test, any test, in which that state moves while it draws. The run has a server of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.running.driver import Plan, open_plan
from flows.running.prefect_flows import whole_path
from tests.flows.small_corpus import write_corpus


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """A server of this module's tests."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test recipe, run to the end by the Prefect flow: `store`, and `raw` with its corpus. Tests leave both as they are.

    It is run once for all processes of pytest-xdist, and each has a copy.
    """
    own = tmp_path_factory.getbasetemp()
    made = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made"
    made.mkdir(exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "whole").exists():
            make_run(made / "path")
            (made / "whole").touch()
    return shutil.copytree(made / "path", own / "path")


def make_run(folder: Path) -> None:
    """Write the corpus and run the recipe."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, prefect_test_harness(server_startup_timeout=120):
        point_at(patch, folder)
        write_corpus(folder / "raw")
        whole_path("test", "test", None)


def point_at(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the execution file `test` mean this folder."""
    patch.chdir(folder)
    patch.setenv("CARAVAN_STORE", str(folder / "store"))
    patch.setenv("CARAVAN_RAW_ROOT", str(folder / "raw"))


@pytest.fixture(scope="module")
def finished(finished_folder: Path, prefect_server: None) -> Iterator[Plan]:
    """The finished run; the variables point at it while tests run."""
    with pytest.MonkeyPatch.context() as patch:
        point_at(patch, finished_folder)
        yield open_plan("test", "test", None)


@pytest.fixture
def corpus(finished: Plan) -> Path:
    """The raw files of the finished run."""
    return Path(finished.execution.raw_root)
