"""The entry point under torchrun: how an attempt ends, and that no rank outlives its agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.artifact import artifact_root
from storage.errors import ConfigError, DiskError, InputError, IntegrityError
from storage.lease import hold
from tests.training.stages import StageUnderTest, result
from training import worker
from training.config import TrainSpec
from training.parallel.dims import ParallelDims

WAIT_S = 120.0
TWO_RANKS = ParallelDims(dp=2)


@contextmanager
def torchrun(project: Path, spec: Path, n_ranks: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun on a spec, killed at the end of the block; its output is beside the spec."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=0", f"--nproc-per-node={n_ranks}"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "8",
    }
    with (spec.parent / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "-m", "training.run", "--spec", str(spec)], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], Any], spec: Path) -> Any:
    """Wait until `what()` is true, and return it."""
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, (spec.parent / "output.log").read_text()[-4000:]
        time.sleep(0.1)
    return found


def ranks_of(spec: Path) -> list[int]:
    """Processes that run this spec as a rank."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(spec).encode() in words and b"torch.distributed.run" not in words:
            found.append(int(path.parent.name))
    return found


def test_a_stage_is_stopped_by_sigterm_and_finished_by_the_next_attempt(tmp_path: Path, project: Path) -> None:
    """SIGTERM to the agent: all ranks stop after the same step, which is saved, and say so; the next attempt goes on and publishes."""
    stage = StageUnderTest(tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    slow = stage.spec(parallel=TWO_RANKS, micro_batch_size=1)
    with torchrun(project, slow) as agent:
        wait_for(lambda: metrics.exists() and metrics.read_text(), slow)
        agent.send_signal(signal.SIGTERM)
        wait_for(lambda: agent.poll() is not None, slow)
    ended = result(slow)
    assert ended["status"] in ("stopped", "ok"), ended  # a fast machine may have been done
    spec = stage.spec(parallel=TWO_RANKS)
    with torchrun(project, spec) as agent:
        assert agent.wait(WAIT_S) == 0, (spec.parent / "output.log").read_text()[-4000:]
    assert result(spec)["status"] == "ok"
    assert result(spec)["step"] == 10
    assert sorted(stage.metrics()) == list(range(10))
    assert ranks_of(spec) == ranks_of(slow) == []


def test_no_rank_outlives_its_agent(tmp_path: Path, project: Path) -> None:
    """kill -9 of the agent takes its ranks with it."""
    stage = StageUnderTest(tmp_path)
    # Rank 0 waits for a lease that somebody else holds, so that the ranks are there for as long as we look.
    spec = stage.spec(parallel=TWO_RANKS, lease_timeout_s=600.0)
    fingerprint = json.loads(spec.read_text())["fingerprint"]
    with hold(stage.store, artifact_root(stage.stage, fingerprint), 600.0), torchrun(project, spec) as agent:
        wait_for(lambda: len(ranks_of(spec)) == 2 and (spec.parent / "output.log").exists(), spec)
        time.sleep(0.5)  # past the first lines of a rank, which come before it imports torch
        agent.kill()
        agent.wait()
        wait_for(lambda: ranks_of(spec) == [], spec)
    assert not (spec.parent / "result.json").exists()


def test_a_failing_rank_says_why(tmp_path: Path, project: Path) -> None:
    """A missing input: each rank leaves its file, and result.json holds class, message and exit code 2 of a ConfigError."""
    stage = StageUnderTest(tmp_path)
    path = stage.spec()
    spec = TrainSpec.model_validate_json(path.read_bytes())
    path.write_text(spec.model_copy(update={"tokens": spec.tokens.model_copy(update={"fingerprint": "f" * 32})}).model_dump_json())
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-m", "training.run", "--spec", str(path)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == worker.EXIT_CONFIG, done.stderr.decode()[-3000:]
    for name in ("result.json", "rank-00000.json"):
        said = json.loads((path.parent / name).read_text())
        assert (said["status"], said["rank"], said["error"]["class"]) == ("failed", 0, "ConfigError")
        assert "artifacts/tokenize/" + "f" * 32 in said["error"]["message"]


def test_the_first_to_end_writes_the_result(tmp_path: Path) -> None:
    """Errors that follow from another rank's do not hide it."""
    assert worker.write_result(tmp_path / "attempt", {"status": "failed", "rank": 3})
    assert not worker.write_result(tmp_path / "attempt", {"status": "failed", "rank": 0})
    assert json.loads((tmp_path / "attempt" / "result.json").read_text())["rank"] == 3
    assert [path.name for path in (tmp_path / "attempt").iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (
            IntegrityError("a.ds", expected="x", actual="y"),
            "IntegrityError",
            {"file": "a.ds", "expected": "x", "actual": "y", "remedy": ""},
        ),
        (
            DiskError("/a", folder="work_dir", problem="full"),
            "DiskError",
            {"path": "/a", "folder": "work_dir", "problem": "full", "needed": ""},
        ),
        (InputError("bad", file="f", offset=3), "InputError", {"reason": "bad", "file": "f", "offset": 3, "detail": ""}),
        (ConfigError("wrong"), "ConfigError", {}),
        (RuntimeError("connection closed by peer"), "RetryableError", {}),
    ],
)
def test_errors_are_data(error: Exception, name: str, arguments: dict[str, Any]) -> None:
    """Ours with the arguments that make them anew; anything else is worth another try."""
    said = worker.describe(error)
    assert (said["class"], said["arguments"]) == (name, arguments)
    assert str(error) in said["message"]


def test_a_wrong_spec_is_refused_by_field(tmp_path: Path) -> None:
    """The error names file, field and value."""
    path = StageUnderTest(tmp_path).spec()
    path.write_text(path.read_text().replace('"n_kv_heads":2', '"n_kv_heads":3'))
    with pytest.raises(ConfigError, match=r"(?s)spec.json.*n_heads 4 is not a multiple of n_kv_heads 3"):
        worker.read_spec(path)
    with pytest.raises(ConfigError, match="nowhere"):
        worker.read_spec(tmp_path / "nowhere.json")


def test_a_mesh_that_does_not_divide_is_refused_before_any_work(tmp_path: Path) -> None:
    """The degree and the field are named."""
    with pytest.raises(ConfigError, match="n_kv_heads 2 is not a multiple of TP 4"):
        StageUnderTest(tmp_path).spec(parallel=ParallelDims(tp=4))
