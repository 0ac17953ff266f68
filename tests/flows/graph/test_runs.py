"""flows/graph/runs.py: one process at a time runs a run of this machine, and who was killed does not count."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from flows.graph.runs import open_run
from flows.processes import start_of
from storage.errors import ConfigError
from storage.store import Store


def test_a_second_run_of_the_same_name_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """Both would write run.json: the state of the first to end would let `gc` remove what the other is writing."""
    run = open_run(Store(str(tmp_path)), "r")
    run.begin({}, {}, "")
    run.check_not_running()  # this process itself may
    with subprocess.Popen(["sleep", "60"]) as other:
        run = replace(run, pid=other.pid, pid_start=start_of(other.pid) or 0)
        with pytest.raises(ConfigError, match=f"run r is running already, as process {other.pid}"):
            run.check_not_running()
        replace(run, pid_start=run.pid_start + 1).check_not_running()  # another process got the number of one that was killed
        replace(run, host="elsewhere").check_not_running()
        other.kill()
        other.wait()
    run.check_not_running()
    assert not run.is_alive
    assert replace(run, host="elsewhere").is_alive
