"""flows/running/server.py: a server for one run, and none after it, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.processes import descendants, wait_gone
from flows.running.server import prefect_server
from storage.errors import ConfigError

GONE_TIMEOUT_S = 15.0
RUN = """
import sys, time, pathlib, urllib.request
from prefect.settings import PREFECT_API_URL
from flows.running.server import prefect_server
with prefect_server(pathlib.Path(sys.argv[1])):
    try:
        print(PREFECT_API_URL.value(), flush=True)
        time.sleep(float(sys.argv[2]))
    except KeyboardInterrupt:
        time.sleep(1)
        print(urllib.request.urlopen(PREFECT_API_URL.value() + "/health").status, flush=True)
"""


@contextmanager
def started(tmp_path: Path, sleep_s: float, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds a server, and the address that it says; gone after the block, whatever the block found."""
    variables = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    variables |= {"PREFECT_HOME": str(tmp_path / "prefect"), **env}
    command = [sys.executable, "-c", RUN, str(tmp_path / "server.log"), str(sleep_s)]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_kill_9_of_the_run_leaves_no_server(tmp_path: Path) -> None:
    """Prefect's own ephemeral server stays behind here, because atexit does not run."""
    with started(tmp_path, 600) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        tree = descendants(process.pid)
        assert tree, "the server is a process of its own"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait_gone(tree, GONE_TIMEOUT_S) == []


def test_ctrl_c_leaves_the_server_until_the_run_has_told_it(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the whole group: without its server, Prefect's engine tried for minutes to report the end."""
    with started(tmp_path, 600) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        tree = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "200"
        assert process.wait() == 0
        assert wait_gone(tree, GONE_TIMEOUT_S) == []


KEPT = """
import os, pathlib, signal, sys, time, urllib.request
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from flows.processes import descendants
from flows.running.server import prefect_server
from flows.running.terminal import tell_warnings
tell_warnings()
with prefect_server(pathlib.Path(sys.argv[1])):
    with get_client(sync_client=True) as client:
        client.hello()
        (server,) = descendants(os.getpid())
        os.kill(server, signal.SIGKILL)
        print(client.hello().status_code, flush=True)  # it tries until the new one answers
    (again,) = descendants(os.getpid())
    print(again != server, flush=True)
"""


def test_a_server_that_is_killed_is_started_again_and_its_clients_do_not_notice(tmp_path: Path) -> None:
    """It is said in a line that names its log. The run ended after minutes, in a traceback."""
    variables = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    variables |= {"PREFECT_HOME": str(tmp_path / "prefect")}
    log = tmp_path / "server.log"
    done = subprocess.run([sys.executable, "-c", KEPT, str(log)], env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["200", "True"]
    assert f"ended with SIGKILL (out of memory, or somebody killed it): it is started again; see {log}" in " ".join(done.stderr.split())


def test_a_configured_server_is_taken_and_none_started(tmp_path: Path) -> None:
    """Who has a server gets no second one."""
    with started(tmp_path, 600) as (_, configured), started(tmp_path / "second", 1, PREFECT_API_URL=configured) as (process, address):
        assert address == configured
        time.sleep(0.2)
        assert descendants(process.pid) == {}
        assert process.wait() == 0
    assert not (tmp_path / "second" / "server.log").exists()


def test_a_configured_server_that_does_not_answer_is_refused_in_one_line(tmp_path: Path) -> None:
    """By its address without what is secret in it, and what to do; the engine's own answer is a page of traceback after minutes."""
    with (
        temporary_settings({PREFECT_API_URL: "http://somebody:secret@127.0.0.1:1/api"}),
        pytest.raises(ConfigError, match=r"no Prefect server answers at http://127\.0\.0\.1:1/api \(ConnectError\); start it") as caught,
        prefect_server(tmp_path / "server.log"),
    ):
        pass
    assert "secret" not in str(caught.value)


PROXIES = {
    "in either case": {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy")},
    "socks, with hosts of the user's own": {"ALL_PROXY": "socks5h://127.0.0.1:9", "NO_PROXY": "example.org", "no_proxy": "example.org"},
}
ASK = """
import pathlib, sys
from prefect import flow, task
from prefect.client.orchestration import get_client
from flows.running.driver import set_up_prefect
from flows.running.server import prefect_server
set_up_prefect()
@task
def one():
    return 1
@flow
def asked():
    return one()
with prefect_server(pathlib.Path(sys.argv[1])):
    with get_client(sync_client=True) as client:
        assert client.api_healthcheck() is None
    print(asked())
"""


@pytest.mark.parametrize("kind", PROXIES)
def test_our_own_server_is_reached_without_the_proxy(kind: str, tmp_path: Path) -> None:
    """Also by flows and tasks, which have clients of their own; nothing listens where these proxies are said to be."""
    names = [
        spelling for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "PREFECT_API_URL") for spelling in (name, name.lower())
    ]
    variables = {key: value for key, value in os.environ.items() if key not in names}
    variables |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR", **PROXIES[kind]}
    done = subprocess.run([sys.executable, "-c", ASK, str(tmp_path / "log")], env=variables, capture_output=True, text=True, timeout=300)
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr[-2000:]
