"""`run_groups` on one machine: threads whose work runs in child processes from a clean server. DESIGN decision 7.

A worker serves group after group, and is replaced after `GROUPS_PER_WORKER` of them: a fork of a process with so much imported takes up to
a second. One that is killed loses its group alone; that group is run again by a new worker. An error in a group stops the call and is
raised here with the worker's traceback as its cause.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from flows.processes import exit_text, kill_all
from flows.running.nursery import REQUEST, STATUS, WorkerTraceback
from flows.running.plain_output import LOGS_IN_UTF8
from storage.errors import RetryableError

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

GROUP_TRIES = 3
GROUPS_PER_WORKER = 64
CLOSE_TIMEOUT_S = 10
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
PROJECT = Path(__file__).resolve().parents[2]
# Imported once, before any fork. Nothing here opens a connection or starts a thread when it is imported.
PRELOAD = (
    "pyarrow.parquet",
    "pyarrow.compute",
    "pipeline.ingest.documents",
    "pipeline.dedup.stage",
    "pipeline.quality.stage",
    "pipeline.domains.stage",
    "pipeline.selection",
    "pipeline.coverage",
    "pipeline.tokenize_documents",
    "pipeline.eval_tasks",
    "training.mix",
)
PRELOAD_S3 = (*PRELOAD, "s3fs")


Progress = Callable[[int, int], None]


class WorkerDied(RetryableError):
    """A worker ended before it answered; its group can be run again."""


class _Worker:
    """One child process: its job connection, and the pipe that tells how it ended."""

    def __init__(self, nursery: Nursery) -> None:
        ours, theirs = socket.socketpair()
        status_read, status_write = os.pipe()
        with theirs:
            try:
                nursery.request([theirs.fileno(), status_write])
            finally:
                os.close(status_write)
        self._jobs, self._status = Connection(ours.detach()), status_read
        self.n_jobs = 0
        try:
            self.pid: int = self._jobs.recv()
        except EOFError as error:
            raise WorkerDied(f"a worker could not start: {exit_text(self.exit_code())}") from error

    def run(self, body: bytes, environment: Mapping[str, str]) -> Any:
        """Run one pickled job. Raises the job's error, or RetryableError when the worker died."""
        self.n_jobs += 1
        try:
            self._jobs.send(dict(environment))
            self._jobs.send_bytes(body)
            answer = pickle.loads(self._jobs.recv_bytes())
            for line in self._jobs.recv():
                log.warning("%s", line)
        except (EOFError, ConnectionResetError, BrokenPipeError) as error:
            raise WorkerDied(f"a worker died: {exit_text(self.exit_code())}") from error
        if answer[0]:
            return answer[1]
        raise answer[1] from WorkerTraceback(answer[2])

    def exit_code(self) -> int:
        """How the worker ended; waits for its end."""
        data = os.read(self._status, STATUS.size)
        return int(STATUS.unpack(data)[0]) if data else -9  # no word: the server of workers was killed, and its workers with it

    @property
    def is_open(self) -> bool:
        """Whether it can take another job."""
        return not self._jobs.closed

    def close(self) -> None:
        """Let the worker end. Closing again does nothing."""
        if not self._jobs.closed:
            self._jobs.close()
            os.close(self._status)


class Nursery:
    """The running server of workers (`flows/running/nursery.py`)."""

    def __init__(self, *, log: Path, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._control, self._lock = ours, threading.Lock()
        self.preload = tuple(preload)
        log.parent.mkdir(parents=True, exist_ok=True)
        code = f"from flows.running.nursery import main; main({theirs.fileno()}, {list(preload)!r})"
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **LOGS_IN_UTF8, "PYTHONPATH": path, **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the rest
            )
        self.log = log

    def request(self, fds: list[int]) -> None:
        """Ask for a worker onto the descriptors [job, status]. Raises RetryableError when the server is gone."""
        try:
            with self._lock:
                socket.send_fds(self._control, [REQUEST], fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            code = self._process.wait()
            raise WorkerDied(f"the server of workers died: {exit_text(code)}; see {self.log}") from error

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the server; its workers go with it."""
        self._control.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Workers:
    """Worker processes of this machine: `count` at a time, started when first needed, gone when the block ends.

    `log` takes what workers print. `threads` each: parallelism is over groups. Use as a context manager.
    """

    def __init__(self, count: int, *, log: Path, threads: int = 1, preload: Sequence[str] = PRELOAD) -> None:
        self.count, self._log, self._preload = count, log, preload
        self._environment = {name: str(threads) for name in THREAD_VARIABLES}
        self._nursery: Nursery | None = None
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._drop_idle()
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def take(self, fresh: bool) -> _Worker:
        """An idle worker, or a new one. `fresh`: one that has imported nothing yet."""
        server = self._server()
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        return _Worker(server)

    def give(self, worker: _Worker, fresh: bool) -> None:
        """Take a worker back after its last group; one that was for one call alone ends."""
        if fresh:
            worker.close()
            return
        with self._lock:
            self._idle.append(worker)

    def _server(self) -> Nursery:
        with self._lock:
            if self._nursery is not None and not self._nursery.alive:
                self._drop_idle()
                self._nursery.close()
                self._nursery = None
            if self._nursery is None:
                self._nursery = Nursery(log=self._log, preload=self._preload, environment=self._environment)
            return self._nursery

    def call(
        self, function: Callable[[], R], *, environment: Mapping[str, str] | None = None, watch: Callable[[], None] | None = None
    ) -> R:
        """Run `function` in a worker of its own, with variables of `environment` set before its modules are imported.

        `watch` is called in this thread, some times a second, until that has ended.
        """
        (result,) = self._run(_call, [function], {**self._environment, **(environment or {})}, None, fresh=True, watch=watch)
        return result

    def run_groups(self, function: Callable[[T], R], groups: Sequence[T], /, progress: Progress | None = None) -> list[R]:
        """`list(map(function, groups))`, in worker processes. `progress(done, total)` is called in this thread.

        Raises the first error of a group, or RetryableError when a group's worker died `GROUP_TRIES` times.
        """
        return self._run(function, groups, self._environment, progress)

    def _run(
        self,
        function: Callable[[T], R],
        groups: Sequence[T],
        environment: Mapping[str, str],
        progress: Progress | None,
        fresh: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> list[R]:
        call = _Call(self, fresh, function, groups, environment)
        threads = min(self.count, len(groups))
        if progress:
            progress(0, len(groups))
        if not threads:
            return []
        with ThreadPoolExecutor(threads, thread_name_prefix="worker") as pool:
            waiting: set[Future[None]] = {pool.submit(call.serve) for _ in range(threads)}
            reported = 0
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
                    if progress and call.finished > reported:
                        reported = call.finished
                        progress(reported, len(groups))
                    if watch:
                        watch()
                    for future in done:
                        future.result()
            finally:
                call.stop()
        return [call.results[n] for n in range(len(groups))]


def _call(function: Callable[[], R]) -> R:
    return function()


class _Call:
    """One call of `run_groups`: what is left to do, what is done, and the workers at it."""

    def __init__(
        self, workers: Workers, fresh: bool, function: Callable[[Any], Any], groups: Sequence[Any], environment: Mapping[str, str]
    ) -> None:
        self._workers, self._fresh, self._function, self._groups, self._environment = workers, fresh, function, groups, environment
        self._next = iter(range(len(groups)))
        self._lock = threading.Lock()
        self._stopped = False
        self._pids: set[int] = set()
        self.results: dict[int, Any] = {}

    @property
    def finished(self) -> int:
        """Groups that are done."""
        return len(self.results)

    def stop(self) -> None:
        """Give out nothing more and kill the workers that are still at it (none after a good end)."""
        with self._lock:
            self._stopped = True
            kill_all(self._pids)

    def serve(self) -> None:
        """One thread: a worker, and groups until there are none."""
        worker: _Worker | None = None
        try:
            for n in self._take():
                worker = self._try_group(n, worker)
                if worker.n_jobs >= GROUPS_PER_WORKER:
                    self._release(worker)
                    worker = None
        finally:
            if worker is not None and worker.is_open:
                with self._lock:
                    self._pids.discard(worker.pid)
                self._workers.give(worker, self._fresh or self._stopped)

    def _take(self) -> Iterator[int]:
        while True:
            with self._lock:
                n = None if self._stopped else next(self._next, None)
            if n is None:
                return
            yield n

    def _try_group(self, n: int, worker: _Worker | None) -> _Worker:
        """Run group n, again by a new worker when its worker dies; returns the worker that is alive afterwards."""
        job = pickle.dumps((self._function, self._groups[n]))  # one at a time: many groups may name the same files, each in full
        for attempt in range(1, GROUP_TRIES + 1):
            try:
                if worker is None:
                    worker = self._start()
                self.results[n] = worker.run(job, self._environment)
                return worker
            except WorkerDied as error:
                self._release(worker)
                worker = None
                if self._stopped or attempt == GROUP_TRIES:
                    raise RetryableError(f"group {n + 1} of {len(self._groups)}: {error} (try {attempt} of {GROUP_TRIES})") from error
            except BaseException:
                self._release(worker)
                raise
        raise AssertionError("unreachable")

    def _start(self) -> _Worker:
        worker = self._workers.take(self._fresh)
        with self._lock:
            self._pids.add(worker.pid)
        return worker

    def _release(self, worker: _Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self._pids.discard(worker.pid)
            worker.close()
