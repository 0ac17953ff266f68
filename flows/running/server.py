"""A Prefect server of our own for one run, where none is configured: it ends with this process, also by kill -9.

Prefect's own ephemeral server is stopped by `atexit`, which a kill -9 never reaches: every killed run left one behind. This is the same
server, started with the kernel's death signal.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows.processes import death_signal_setter
from flows.running.plain_output import LOGS_IN_UTF8
from storage.errors import ConfigError, RetryableError
from storage.proxies import reach_loopback_directly, without_socks_proxies

HOST = "127.0.0.1"
POLL_S = 0.1
STOP_TIMEOUT_S = 5
DRAIN_TIMEOUT_S = 10
# What Prefect gives its ephemeral server: no UI, no services of a long-lived one.
EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def prefect_server(log: Path) -> Iterator[None]:
    """The configured Prefect server, or one of our own for the length of the block; its output goes to `log`.

    Raises ConfigError when the configured one does not answer, RetryableError when our own does not start in
    `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS`.
    """
    if url := PREFECT_API_URL.value():
        _check_answers(url)
        yield
        return
    with without_socks_proxies():  # nothing that Prefect asks here is behind one
        reach_loopback_directly()
        with _our_server(log):
            yield


@contextlib.contextmanager
def _our_server(log: Path) -> Iterator[None]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = _start(port, output.fileno())
    try:
        _wait(process, port, log)
        with temporary_settings({PREFECT_API_URL: f"http://{HOST}:{port}/api"}):
            try:
                yield
            finally:  # while it still answers: what is sent at exit would be tried again and again, for a minute
                for queue in (APILogWorker, EventsWorker):
                    queue.drain_all(timeout=DRAIN_TIMEOUT_S)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check_answers(url: str) -> None:
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        shown = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()  # it may hold a password
        raise ConfigError(
            f"PREFECT_API_URL: no Prefect server answers at {shown} ({type(error).__name__}); start it (prefect server start), or unset the"
            " variable: a run starts a server of its own then"
        )


def _start(port: int, output: int) -> subprocess.Popen[bytes]:
    application = ["--factory", "prefect.server.api.server:create_app", "--host", HOST, "--port", str(port)]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *application, "--log-level", "error", "--lifespan", "on"],
        env={**os.environ, **LOGS_IN_UTF8, **get_current_settings().to_environment_variables(exclude_unset=True), **EPHEMERAL},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C reaches us alone: the run's end is still to be reported to it
        preexec_fn=death_signal_setter(signal.SIGKILL),
    )


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server answers."""
    timeout_s = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):  # it does not listen yet
            connection.request("GET", "/api/health")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(POLL_S)
    how = f"ended with {process.returncode}" if process.returncode is not None else f"did not answer in {timeout_s} s"
    raise RetryableError(f"the Prefect server {how}; see {log}")
