"""The training loop: one function, with the optimizer step in sight."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.checkpoint import Checkpointer, model_state, optimizer_state
from training.config import TrainSpec
from training.data import Batch, sample_hash
from training.metrics import JsonLines, mfu, peak_flops
from training.model import Llama
from training.optimizer import clip_gradients, set_learning_rate
from training.order import Order
from training.parallel.mesh import Meshes
from training.schedule import learning_rate
from training.step import ForwardBackward

log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """What one rank trains with. `carried_steps` counts the optimizer steps of the checkpoints that this stage continues."""

    spec: TrainSpec
    order: Order
    meshes: Meshes
    model_parts: list[Llama]
    optimizer: torch.optim.Optimizer
    forward_backward: ForwardBackward
    checkpointer: Checkpointer
    carried_steps: int = 0

    def state(self, step: int) -> dict[str, Tensor]:
        """All tensors of a checkpoint after `step` steps of this stage."""
        return {**model_state(self.model_parts), **optimizer_state(self.model_parts, self.optimizer, self.carried_steps + step)}


def train(trainer: Trainer, batches: Iterable[Batch], stop: Event) -> int:
    """Run the optimizer steps that `batches` holds, saving checkpoints on the way; returns the steps done since the stage began.

    Ends early, with a checkpoint, when `stop` is set on any rank. Raises FloatingPointError when loss or gradient is not finite.
    """
    config, n_steps, done = trainer.spec.training, trainer.order.n_steps, 0
    interval, keep = trainer.spec.execution.checkpoint_interval_steps, {*config.averaged_steps, n_steps}
    with closing(StepLog(trainer)) as step_log:
        for batch in batches:
            rate = learning_rate(config.schedule, config.optimizer.lr_peak, batch.step)
            set_learning_rate(trainer.optimizer, rate)
            loss = trainer.forward_backward(batch.tokens)
            norm = clip_gradients(trainer.model_parts, config.optimizer.clip_norm, trainer.meshes)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()

            global_loss, stopping = agree(loss, stop.is_set(), trainer.meshes)
            step_log.write(batch, loss=global_loss, rate=rate, norm=float(norm))
            if not math.isfinite(global_loss) or not math.isfinite(norm):  # before a checkpoint holds weights that are not numbers
                raise FloatingPointError(
                    f"{trainer.spec.stage}: the loss of step {batch.step:,} is {global_loss}, its gradient's norm {float(norm)};"
                    f" learning rate {rate:.3g}"
                )

            done = batch.step + 1
            if stopping or done in keep or done % interval == 0:
                trainer.checkpointer.save(done, trainer.state(done), extra={"optimizer_steps": trainer.carried_steps + done})
            if stopping:
                log.info("asked to stop: step %d is saved", done)
                break
    trainer.checkpointer.wait()
    return done


def agree(loss: Tensor, stop: bool, meshes: Meshes) -> tuple[float, bool]:
    """The loss of the global batch from each rank's part, and whether any rank was asked to stop; one all-reduce."""
    if not dist.is_initialized():
        return float(loss), stop
    parts = torch.stack([loss / meshes.dims.tp, torch.full_like(loss, float(stop))])  # tensor-parallel ranks hold the same loss
    dist.all_reduce(parts)
    total, asked = parts.tolist()
    return total, asked > 0


class StepLog:
    """The run's metrics, on rank 0, and what this rank was fed."""

    def __init__(self, trainer: Trainer) -> None:
        spec, self._trainer = trainer.spec, trainer
        self._rank = dist.get_rank() if dist.is_initialized() else 0
        self._heading = {"stage": spec.stage, "attempt": Path(spec.attempt_dir).name}
        fed = Path(spec.run_dir) / "fed" / f"{spec.stage}-rank-{self._rank:05d}.jsonl"
        self._fed = JsonLines(fed) if spec.execution.log_fed_samples else None
        self._metrics = JsonLines(Path(spec.run_dir) / "metrics.jsonl") if self._rank == 0 else None
        self._peak = peak_flops(trainer.forward_backward.device, getattr(torch, spec.training.dtype))
        self._last = time.perf_counter()

    def write(self, batch: Batch, *, loss: float, rate: float, norm: float) -> None:
        """Note a step; its time is that since the step before was noted."""
        if self._fed is not None:
            hashes = [sample_hash(tokens) for tokens in batch.tokens]
            where = {"step": batch.step, "rank": self._rank, "dp_rank": self._trainer.meshes.coordinates.dp}
            self._fed.write({**self._heading, **where, "samples": batch.samples.tolist(), "sha256": hashes})
        now = time.perf_counter()
        if self._metrics is not None:
            self._metrics.write({**self._heading, **self._row(batch, now - self._last), "loss": loss, "lr": rate, "grad_norm": norm})
        self._last = now

    def _row(self, batch: Batch, step_s: float) -> dict[str, Any]:
        order, model, world_size = self._trainer.order, self._trainer.spec.model, self._trainer.meshes.dims.world_size
        phase = order.phase_of_step(batch.step)
        tokens_per_s = phase.seq_len * phase.global_batch_size / step_s
        return {
            "step": batch.step,
            "tokens": tokens_consumed(order, batch.step + 1),
            "seq_len": phase.seq_len,
            "global_batch_size": phase.global_batch_size,
            "step_s": round(step_s, 6),
            "tokens_per_s": round(tokens_per_s, 1),
            **mfu(model, phase.seq_len, tokens_per_s, world_size, self._peak),
        }

    def close(self) -> None:
        """Close the files."""
        for file in (self._fed, self._metrics):
            if file is not None:
                file.close()


def tokens_consumed(order: Order, n_steps: int) -> int:
    """Tokens of the first `n_steps` steps."""
    total = 0
    for phase in order.phases:
        taken = min(n_steps, phase.n_steps)
        total += taken * phase.global_batch_size * phase.seq_len
        n_steps -= taken
    return total
