"""A stopped training goes on as if it had not been.

    python -m tests.training.resume

On the same mesh the checkpoint is bit-identical, after SIGTERM as after kill -9; on another mesh, across a step of batch size and sequence
length, the same samples are fed at the same steps. Sabotage: a resume that repeats a step must be noticed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.training.launch import run_ranks
from tests.training.stages import StageUnderTest, result
from training import loop, worker
from training.data import Batch, batches
from training.order import Order
from training.parallel.dims import ParallelDims
from training.parallel.mesh import Meshes

MESH, OTHER_MESH = ParallelDims(tp=2, dp=2), ParallelDims(cp=2, pp=2)
STOP_AFTER = 5  # steps; the batch grows at step 6, and checkpoints are saved every 4


def rank(spec: Path, signal_number: int = 0, after_steps: int = 0) -> int:
    """A rank of an attempt, by the trainer's own entry point; it sends itself a signal in its `after_steps`-th step."""
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", category=UserWarning)  # torch on checkpoints of one process
    with mock.patch.object(loop, "agree", _signalling(loop.agree, signal_number, after_steps)):
        return worker.main(["--spec", str(spec)])


def _signalling(agree: Callable[[Tensor, bool, Meshes], tuple[float, bool]], signal_number: int, after_steps: int) -> Callable[..., Any]:
    steps = 0

    def counted(loss: Tensor, stop: bool, meshes: Meshes) -> tuple[float, bool]:
        nonlocal steps
        steps += 1
        if signal_number and steps == after_steps:
            os.kill(os.getpid(), signal_number)
        return agree(loss, stop or (signal_number == signal.SIGTERM and steps >= after_steps), meshes)

    return counted


def attempt(stage: StageUnderTest, dims: ParallelDims, *signalled: int) -> tuple[Path, list[int]]:
    """Run an attempt on a mesh; its spec and its ranks' exit codes. An attempt that was killed has none."""
    spec = stage.spec(parallel=dims, micro_batch_size=2)
    try:
        return spec, run_ranks(rank, dims.world_size, spec, *signalled, initialize=False)
    except RuntimeError:
        if signal.SIGKILL not in signalled:
            raise
        return spec, []


def whole(folder: Path) -> tuple[StageUnderTest, str]:
    """A stage trained without a stop, and its digest."""
    stage = StageUnderTest(folder)
    spec, codes = attempt(stage, MESH)
    assert codes == [worker.EXIT_OK] * MESH.world_size, codes
    return stage, str(result(spec)["digest"])


def stopped_and_resumed(folder: Path, signal_number: int, resume_on: ParallelDims) -> tuple[StageUnderTest, str]:
    """A stage that a signal stopped in its fifth step on `MESH`, and that went on on another or the same; and its digest."""
    stage = StageUnderTest(folder)
    spec, codes = attempt(stage, MESH, signal_number, STOP_AFTER)
    if signal_number == signal.SIGTERM:
        assert codes == [worker.EXIT_STOPPED] * MESH.world_size, codes
        assert result(spec) == {"status": "stopped", "step": STOP_AFTER}, result(spec)
    else:
        assert not (spec.parent / "result.json").exists(), "nothing was said by ranks that were killed"
    spec, codes = attempt(stage, resume_on)
    assert codes == [worker.EXIT_OK] * resume_on.world_size, codes
    return stage, str(result(spec)["digest"])


def repeats_a_step(order: Order, *args: Any, first_step: int, **kwargs: Any) -> Iterator[Batch]:
    """Sabotage: a resume whose data begins one step too early, under the numbers of the right steps."""
    late = int(first_step > 0)
    for batch in batches(order, *args, first_step=first_step - late, **kwargs):
        if batch.step + late < order.n_steps:
            yield Batch(batch.step + late, batch.samples, batch.tokens)


def loss_gap(one: StageUnderTest, other: StageUnderTest) -> float:
    """The largest relative difference of a step's loss."""
    ours, theirs = one.metrics(), other.metrics()
    assert ours.keys() == theirs.keys() == set(range(10))
    return float(max(abs(ours[step]["loss"] - theirs[step]["loss"]) / ours[step]["loss"] for step in ours))


def main() -> int:
    """The command; exit code 0 when everything holds."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="caravan-resume-") as name:
        folder = Path(name)
        reference, digest = whole(folder / "whole")
        held = []
        for number, how in ((signal.SIGTERM, "SIGTERM"), (signal.SIGKILL, "kill -9")):
            stage, found = stopped_and_resumed(folder / how, number, MESH)
            same = found == digest and stage.fed() == reference.fed() and loss_gap(reference, stage) == 0.0
            held.append(same)
            print(
                f"{how} in step {STOP_AFTER}, resumed on {MESH}: {'bit-identical' if same else 'DIFFERENT'} ({found[:16]}, {digest[:16]})"
            )
        stage, _ = stopped_and_resumed(folder / "moved", signal.SIGTERM, OTHER_MESH)
        gap, same = loss_gap(reference, stage), stage.fed() == reference.fed()
        held.append(same and gap < 1e-5)
        samples = sum(len(hashes) for hashes in reference.fed().values())
        verdict = f"{samples} samples {'the same' if same else 'DIFFERENT'}, losses within {gap:.1e}"
        print(f"resumed on {OTHER_MESH}, across a batch-size step: {verdict}", flush=True)
        with mock.patch.object(worker, "batches", repeats_a_step):
            stage, _ = stopped_and_resumed(folder / "sabotage", signal.SIGTERM, OTHER_MESH)
        held.append(stage.fed() != reference.fed())
        print(f"sabotage: a resume that repeats a step: {'caught' if held[-1] else 'NOT CAUGHT'}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
