"""flows/server.py: a server for one run, and none after it, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flows.processes import descendants, wait_gone

GONE_TIMEOUT_S = 15.0
RUN = """
import sys, time, pathlib
from prefect.settings import PREFECT_API_URL
from flows.server import prefect_server
with prefect_server(pathlib.Path(sys.argv[1])):
    print(PREFECT_API_URL.value(), flush=True)
    time.sleep(float(sys.argv[2]))
"""


def started(tmp_path: Path, sleep_s: float, **env: str) -> subprocess.Popen[str]:
    """A process that holds a server."""
    variables = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    variables |= {"PREFECT_HOME": str(tmp_path / "prefect"), **env}
    command = [sys.executable, "-c", RUN, str(tmp_path / "server.log"), str(sleep_s)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


def test_kill_9_of_the_run_leaves_no_server(tmp_path: Path) -> None:
    """Prefect's own ephemeral server stays behind here, because atexit does not run."""
    process = started(tmp_path, 600)
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline().startswith("http://127.0.0.1:")
    tree = descendants(process.pid)
    assert tree, "the server is a process of its own"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_gone(tree, GONE_TIMEOUT_S) == []


def test_a_configured_server_is_taken_and_none_started(tmp_path: Path) -> None:
    """Who has a server gets no second one."""
    process = started(tmp_path, 1, PREFECT_API_URL="http://127.0.0.1:1/api")
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline().strip() == "http://127.0.0.1:1/api"
    time.sleep(0.2)
    assert descendants(process.pid) == {}
    assert process.wait() == 0
    assert not (tmp_path / "server.log").exists()
