"""A Prefect server of our own for one run, where none is configured: it ends with this process, also by kill -9.

Prefect's own ephemeral server is stopped by `atexit`, which a kill -9 never reaches: every killed run left one behind. This is the same
server, started with the kernel's death signal. When it ends before we do, it is started again at the same port, on the same database:
Prefect's clients try for half a minute, and do not notice.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows.processes import death_signal_setter, exit_text
from flows.running.plain_output import LOGS_IN_UTF8
from storage.errors import ConfigError, RetryableError
from storage.proxies import reach_loopback_directly, without_socks_proxies

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
POLL_S = 0.1
STOP_TIMEOUT_S = 5
DRAIN_TIMEOUT_S = 10
# What Prefect gives its ephemeral server: no UI, no services of a long-lived one.
EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def prefect_server(log_path: Path) -> Iterator[None]:
    """The configured Prefect server, or one of our own for the length of the block; its output goes to `log_path`.

    Raises ConfigError when the configured one does not answer, RetryableError when our own does not start in
    `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS`.
    """
    if url := PREFECT_API_URL.value():
        _check_answers(url)
        yield
        return
    with without_socks_proxies():  # nothing that Prefect asks here is behind one
        reach_loopback_directly()
        with _our_server(log_path):
            yield


@contextlib.contextmanager
def _our_server(log_path: Path) -> Iterator[None]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with _Kept(port, log_path) as server, temporary_settings({PREFECT_API_URL: f"http://{HOST}:{port}/api"}):
        try:
            yield
        except httpx.TransportError as error:
            raise RetryableError(f"the Prefect server of this run {server.problem or 'does not answer'}; see {log_path}") from error
        finally:  # while it still answers: what is sent at exit would be tried again and again, for a minute
            for queue in (APILogWorker, EventsWorker):
                queue.drain_all(timeout=DRAIN_TIMEOUT_S)


class _Kept:
    """The server, kept running by a thread until the block ends. `problem` says why it could not be."""

    def __init__(self, port: int, log_path: Path) -> None:
        self._port, self._log = port, log_path
        self._started, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="prefect server", daemon=True)
        self._error: BaseException | None = None
        self.problem = ""

    def __enter__(self) -> _Kept:
        self._thread.start()  # the kernel's death signal follows the thread that started the process: one that lives as long
        try:
            self._started.wait()
        except BaseException:  # Ctrl-C
            self._stop.set()
            raise
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            process = self._start()
        except BaseException as error:  # raised by __enter__
            self._error = error
            return
        finally:
            self._started.set()
        while not self._stop.wait(POLL_S):
            if process.poll() is not None and not self.problem:
                log.warning(
                    "the Prefect server of this run ended with %s: it is started again; see %s", exit_text(process.returncode), self._log
                )
                try:
                    process = self._start()
                except (RetryableError, OSError) as error:
                    self.problem = f"could not be started again ({error})"
        _end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            process = _start(self._port, output.fileno())
        try:
            _wait(process, self._port, self._log, self._stop)
        except BaseException:
            _end(process)
            raise
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
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


def _wait(process: subprocess.Popen[bytes], port: int, log_path: Path, stop: threading.Event) -> None:
    """Wait until the server answers, or `stop` is set."""
    timeout_s = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        if stop.is_set():
            return
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):  # it does not listen yet
            connection.request("GET", "/api/health")
            if connection.getresponse().status == http.client.OK and process.poll() is None:
                return
        time.sleep(POLL_S)
    how = f"ended with {process.returncode}" if process.returncode is not None else f"did not answer in {timeout_s} s"
    raise RetryableError(f"the Prefect server {how}; see {log_path}")
