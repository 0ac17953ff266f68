"""The clean process that workers are forked from, and what a worker does. Only `flows/running/workers.py` talks to it.

It imports the heavy modules once, opens nothing (no store, no s3fs, no thread), and forks a worker for each request. A worker
dies with the nursery (death signal), the nursery ends when its control socket closes, which the kernel does when the flow's
process ends in any way: nothing is left behind. multiprocessing's fork server is not used because its children keep it alive
after a kill -9 of their parent, and because it imports the caller's main module (all of Prefect) into each of them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import logging
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from flows.processes import die_with_parent

STATUS = struct.Struct("i")
REQUEST = b"w"


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as text; the cause of the error that was raised there."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


def main(control_fd: int, preload: list[str]) -> None:
    """Serve requests for workers until the control socket closes."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in preload:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pages of what was imported stay shared with the workers
    with socket.socket(fileno=control_fd) as control:
        _serve(control)


def _serve(control: socket.socket) -> None:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    statuses: dict[int, int] = {}  # worker's pid → the pipe its exit code is written to
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == wake_read:
                    os.read(wake_read, 4096)
                    _report_ended(statuses)
                elif not _start_worker(control, statuses, [wake_read, wake_write, selector.fileno()]):
                    return


def _report_ended(statuses: dict[int, int]) -> None:
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        pipe = statuses.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # the flow stopped caring about this worker
            os.write(pipe, STATUS.pack(os.waitstatus_to_exitcode(status)))
        os.close(pipe)


def _start_worker(control: socket.socket, statuses: dict[int, int], own: list[int]) -> bool:
    """Fork a worker onto the two descriptors of a request; False when the control socket is closed."""
    message, (*fds,), _, _ = socket.recv_fds(control, len(REQUEST), 2)
    if not message:
        return False
    job, status = fds
    nursery = os.getpid()
    if pid := os.fork():
        os.close(job)
        statuses[pid] = status
        return True
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        for fd in [control.fileno(), status, *statuses.values(), *own]:
            os.close(fd)
        if os.getppid() == nursery:
            _work(Connection(job))
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Warned(logging.Handler):
    """Keeps what our own modules warn of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        if record.name.partition(".")[0] in ("storage", "pipeline", "training"):
            self._lines.append(record.getMessage())
        else:
            sys.stderr.write(f"{record.name}: {record.getMessage()}\n")

    def take(self) -> list[str]:
        """What was warned of since the last time."""
        lines, self._lines = self._lines, []
        return lines


def _work(jobs: Connection) -> None:
    """Do jobs until the connection closes: (environment), (function, group) in; (True, result) or (False, error) out, all pickled.

    What the job warned of goes out last, as lines: the flow's process tells them.
    """
    warned = Warned()
    logging.getLogger().addHandler(warned)
    jobs.send(os.getpid())
    while True:
        try:
            environment: dict[str, str] = jobs.recv()
            body = jobs.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        os.environ.update(environment)  # before unpickling, which imports: OMP_NUM_THREADS counts at import
        try:
            function, group = pickle.loads(body)
            answer = pickle.dumps((True, function(group)))
        except BaseException as error:  # everything travels back, SystemExit too
            answer = _pickled_error(error)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            jobs.send_bytes(answer)
            jobs.send(warned.take())
        except BrokenPipeError:
            return


def _pickled_error(error: BaseException) -> bytes:
    """(False, error, traceback) as bytes; an error that does not survive pickling becomes a RuntimeError that says what it was."""
    text = "".join(traceback.format_exception(error))
    plain: Any = error
    try:
        if type(pickle.loads(pickle.dumps(error))) is not type(error):
            raise TypeError("another type came back")
    except Exception:  # any failure of a foreign class's pickling
        plain = RuntimeError(f"{type(error).__name__}: {error}")
    return pickle.dumps((False, plain, text))
