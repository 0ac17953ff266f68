"""flows/running/prefect_flows.py: the words for how a run ended."""

from __future__ import annotations

import signal

import pytest
from prefect.exceptions import TerminationSignal

from flows.running.prefect_flows import how_it_ended
from storage.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (KeyboardInterrupt(), ("cancelled", "stopped by Ctrl-C")),
        (TerminationSignal(signal=signal.SIGTERM), ("cancelled", "stopped by SIGTERM, as a cancelled flow run is")),
        (ConfigError("wrong"), ("failed", "ConfigError: wrong")),
    ],
)
def test_a_cancelled_run_is_not_a_failed_one(error: BaseException, ended: tuple[str, str]) -> None:
    assert how_it_ended(error) == ended
