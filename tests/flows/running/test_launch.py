"""The launcher: the result file is the truth, attempts follow each other, and no process stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.processes import descendants, wait_gone
from flows.running.launch import Attempt, TorchrunHere, run_attempts
from flows.running.workers import PROJECT
from storage.errors import ConfigError, IntegrityError, RetryableError

# A rank that asks for its agent's death signal as training.run does, and ignores SIGTERM.
STUBBORN = """
import os, pathlib, signal, sys, time
from flows.processes import die_with_parent
die_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1], f"rank-{os.environ['RANK']}").touch()
time.sleep(600)
"""
FLOW = """
import sys
from pathlib import Path
from flows.running.launch import Attempt, TorchrunHere, run_attempts
folder = Path(sys.argv[1])
run_attempts(TorchrunHere(), lambda n: Attempt((str(folder / "rank.py"), str(folder)), 2, folder / "attempt"), max_attempts=1)
"""


class Pretended:
    """A launcher whose attempts only write the result files that a test gives."""

    def __init__(self, results: list[dict[str, object] | None]) -> None:
        self.results, self.cancelled = list(results), 0

    def submit(self, attempt: Attempt) -> Attempt:
        attempt.folder.mkdir(parents=True, exist_ok=True)
        attempt.log.write_text("the end of the log")
        if (result := self.results.pop(0)) is not None:
            attempt.result.write_text(json.dumps(result))
        return attempt

    def poll(self, handle: Attempt) -> str:
        return "ended"

    def cancel(self, handle: Attempt) -> None:
        self.cancelled += 1

    def ending(self, handle: Attempt) -> str:
        return "SIGKILL"

    def logs(self, handle: Attempt) -> str:
        return handle.log.read_text()


def failed(kind: str, message: str, **arguments: object) -> dict[str, object]:
    return {"status": "failed", "rank": 0, "error": {"class": kind, "message": message, "arguments": arguments}, "traceback": ""}


def attempts(launcher: Pretended, folder: Path, max_attempts: int = 3) -> dict[str, object]:
    return run_attempts(launcher, lambda n: Attempt((), 1, folder / str(n)), max_attempts=max_attempts)  # type: ignore[arg-type]


def test_a_killed_attempt_is_followed_by_the_next(tmp_path: Path) -> None:
    """No result file, or one that another try can mend: again."""
    launcher = Pretended([None, failed("RetryableError", "storage"), {"status": "stopped", "step": 3}, {"status": "ok", "step": 9}])
    assert attempts(launcher, tmp_path, 4)["step"] == 9
    assert launcher.cancelled == 4


def test_what_no_try_can_mend_is_raised_at_once(tmp_path: Path) -> None:
    """A recipe's error and damaged bytes keep their class and fields."""
    with pytest.raises(ConfigError, match="seq_len"):
        attempts(Pretended([failed("ConfigError", "seq_len")]), tmp_path)
    with pytest.raises(IntegrityError) as caught:
        attempts(Pretended([failed("IntegrityError", "", file="f", expected="a", actual="b")]), tmp_path)
    assert (caught.value.file, caught.value.expected, caught.value.actual) == ("f", "a", "b")


def test_when_every_attempt_fails_the_error_shows_the_log(tmp_path: Path) -> None:
    """And how the last one ended."""
    with pytest.raises(RetryableError, match=r"2 attempts failed, the last: no result; SIGKILL.*\nthe end of the log"):
        attempts(Pretended([None, None]), tmp_path, 2)


def test_the_error_shows_what_the_failing_rank_said_before_what_torchrun_says(tmp_path: Path) -> None:
    """torchrun's report alone is longer than what is shown of a log."""
    result = {**failed("RetryableError", "MemoryError: 2 GiB"), "rank": 5, "traceback": "Traceback …\nMemoryError: 2 GiB\n"}
    with pytest.raises(RetryableError, match=r"the last: MemoryError: 2 GiB; see .*output\.log\nrank 5: Traceback …\nMemoryError: 2 GiB"):
        attempts(Pretended([result]), tmp_path, 1)


def start_flow(folder: Path) -> tuple[subprocess.Popen[bytes], dict[int, int]]:
    """A flow's process with two stubborn ranks under torchrun, and its tree once both run."""
    (folder / "rank.py").write_text(STUBBORN)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    flow = subprocess.Popen([sys.executable, "-c", FLOW, str(folder)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("rank-*"))) < 2:
        assert time.monotonic() < deadline
        assert flow.poll() is None
        time.sleep(0.1)
    return flow, descendants(flow.pid)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_no_rank_outlives_its_flow_even_if_it_ignores_sigterm(tmp_path: Path, death: signal.Signals) -> None:
    """kill -9 of the flow, and an orderly end of it: the whole tree is gone."""
    flow, tree = start_flow(tmp_path)
    assert len(tree) >= 3
    flow.send_signal(death)
    assert wait_gone(tree, 40) == []
    flow.wait(40)


def test_a_cancel_kills_ranks_that_ignore_sigterm(tmp_path: Path) -> None:
    """It returns when nothing is left."""
    (tmp_path / "rank.py").write_text(STUBBORN)
    launcher = TorchrunHere()
    os.environ.setdefault("PYTHONPATH", str(PROJECT))
    running = launcher.submit(Attempt((str(tmp_path / "rank.py"), str(tmp_path)), 1, tmp_path / "attempt"))
    while not list(tmp_path.glob("rank-*")):
        assert launcher.poll(running) == "running"
        time.sleep(0.1)
    tree = descendants(running.process.pid)
    launcher.cancel(running)
    assert launcher.poll(running) == "ended"
    assert wait_gone(tree, 0) == []
