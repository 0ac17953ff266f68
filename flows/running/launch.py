"""Starts training and never leaks a rank: submit, poll, cancel, logs. One back end so far, `torchrun` on this machine.

The trainer writes a result file per attempt, and that, with the back end's state, is the truth; an exit code alone is not. Restarts are
made here, never by torchrun: an attempt that died in a way that another try can mend is followed by the next, which resumes from the
newest step checkpoint that verifies.

What keeps ranks from staying behind (FACTS.md): output goes to a file; the agent gets SIGTERM when this process dies, even by kill -9;
each rank gets SIGKILL when its agent dies (`training.run` asks for it first thing); the agent gives ranks 8 s to end, and a cancel
kills what is left of the tree.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from flows.processes import death_signal_setter, descendants, exit_text, kill_all, send_signal, still_running, wait_gone
from flows.running.plain_output import LOGS_IN_UTF8
from storage.disk import full
from storage.errors import CaravanError, ConfigError, DiskError, InputError, IntegrityError, RetryableError
from training.config import ROOM_BYTES

PROJECT = Path(__file__).resolve().parents[2]
SHUTDOWN_S = 8
CANCEL_GRACE_S = SHUTDOWN_S + 4
POLL_S = 0.5
TAIL_BYTES = 6000


@dataclass(frozen=True)
class Attempt:
    """One try: what to start, with how many ranks, and where its output and its result file go."""

    command: tuple[str, ...]
    n_ranks: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the agent and its ranks print."""
        return self.folder / "output.log"

    @property
    def result(self) -> Path:
        """Where the trainer says how it ended."""
        return self.folder / "result.json"


Status = Literal["running", "ended"]


class Launcher(Protocol):
    """Starts attempts somewhere. `submit` returns a handle that the others take."""

    def submit(self, attempt: Attempt) -> Any: ...
    def poll(self, handle: Any) -> Status: ...
    def cancel(self, handle: Any) -> None: ...
    def ending(self, handle: Any) -> str: ...
    def logs(self, handle: Any) -> str: ...


@dataclass
class Running:
    """A torchrun of this machine, and the processes seen below it."""

    attempt: Attempt
    process: subprocess.Popen[bytes]
    tree: dict[int, int] = field(default_factory=dict)


class TorchrunHere:
    """torchrun as a child of this process, one node."""

    def submit(self, attempt: Attempt) -> Running:
        """Start the attempt. The calling thread has to live as long as it does: the death signal follows the thread."""
        attempt.folder.mkdir(parents=True, exist_ok=True)
        agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
        agent += [f"--nproc-per-node={attempt.n_ranks}", f"--log-dir={attempt.folder / 'ranks'}"]
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {
            **LOGS_IN_UTF8,
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_S),
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with attempt.log.open("ab") as output:
            process = subprocess.Popen(
                [*agent, *attempt.command],
                env={**os.environ, **settings, **attempt.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
                preexec_fn=death_signal_setter(signal.SIGTERM),
            )
        return Running(attempt, process)

    def poll(self, handle: Running) -> Status:
        """Whether it still runs; remembers the processes below it, so that a cancel finds them when the agent is gone."""
        handle.tree.update(descendants(handle.process.pid))
        return "running" if handle.process.poll() is None else "ended"

    def cancel(self, handle: Running) -> None:
        """End it: SIGTERM, time for the agent to end its ranks, then kill -9 for whatever is left. Returns when nothing is."""
        self.poll(handle)
        if send_signal(handle.process.pid, signal.SIGTERM):
            try:
                handle.process.wait(CANCEL_GRACE_S)
            except subprocess.TimeoutExpired:
                handle.tree.update(descendants(handle.process.pid))
                handle.process.kill()
                handle.process.wait()
        kill_all(still_running(handle.tree))
        wait_gone(handle.tree, CANCEL_GRACE_S)

    def ending(self, handle: Running) -> str:
        """How the agent ended, in words."""
        return exit_text(handle.process.wait())

    def logs(self, handle: Running) -> str:
        """The end of what it printed."""
        with handle.attempt.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace")


def _read_result(path: Path) -> dict[str, Any] | None:
    """The result file, or None when the trainer wrote none."""
    try:
        result = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return result if isinstance(result, dict) else None


ERRORS: dict[str, type[CaravanError]] = {
    error.__name__: error for error in (ConfigError, DiskError, InputError, IntegrityError, RetryableError)
}


def _error_of(result: Mapping[str, Any]) -> CaravanError:
    """The error that a result file describes, made anew; one that is none of ours can be mended by another try, or not at all."""
    described = result.get("error") or {"class": "RetryableError", "message": f"it ended as {result.get('status')}", "arguments": {}}
    kind = ERRORS.get(described["class"], RetryableError)
    return kind(**described["arguments"]) if described["arguments"] else kind(described["message"])


def run_attempts(
    launcher: Launcher,
    prepare: Callable[[int], Attempt],
    *,
    max_attempts: int,
    timeout_s: float | None = None,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run attempts 1, 2, … until one succeeds; returns its result file. `watch()` is called while one runs.

    Raises ConfigError, DiskError, InputError or IntegrityError where a trainer ended with one, RetryableError when every attempt failed
    otherwise. Whatever ends this function (an error, a cancel, Ctrl-C) ends the attempt with it.
    """
    problem = ""
    for number in range(1, max_attempts + 1):
        attempt = prepare(number)
        attempt.result.unlink(missing_ok=True)
        handle = launcher.submit(attempt)
        started = time.monotonic()
        try:
            while launcher.poll(handle) == "running":
                watch()
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    problem = f"it ran longer than {timeout_s:g} s"
                    break
                time.sleep(POLL_S)
        finally:
            launcher.cancel(handle)
        watch()
        result = _read_result(attempt.result)
        if result is None and (refused := full(attempt.folder, ROOM_BYTES, "work_dir")):
            raise refused
        if result and result.get("status") == "ok":
            return result
        error = _error_of(result) if result else None
        if error is not None and not isinstance(error, RetryableError):
            raise error
        problem = str(error) if error else problem or f"no result; {launcher.ending(handle)}"
        print(f"attempt {number} of {max_attempts}: {problem}", file=sys.stderr)
    # torchrun's own words about a rank that failed are long, and the last: what the rank said comes first.
    said = f"rank {result['rank']}: {result['traceback'][-TAIL_BYTES:]}" if result and "traceback" in result else launcher.logs(handle)
    raise RetryableError(f"{max_attempts} attempts failed, the last: {problem}; see {attempt.log}\n{said}")
