"""One Prefect server for the tests of a module, and one run of the whole path that they look at.

The server ends with its module, not with the session: its websocket's keep-alive draws from the global `random` every 20 s in a thread
of this process, and Hypothesis fails a test, any test, in which that state moves while it draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.driver import Plan, open_plan
from flows.prefect_flows import whole_path
from tests.flows.small_corpus import write_corpus


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """A server of this module's tests."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def finished(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """The test recipe, run to the end by the Prefect flow in a store of its own; the variables point there while tests run."""
    folder = tmp_path_factory.mktemp("path")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CARAVAN_STORE", str(folder / "store"))
        patch.setenv("CARAVAN_RAW_ROOT", str(write_corpus(folder / "raw")))
        whole_path("test", "test", None)
        yield open_plan("test", "test", None)


@pytest.fixture
def corpus(finished: Plan) -> Path:
    """The raw files of the finished run."""
    return Path(finished.execution.raw_root)
