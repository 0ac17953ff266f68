"""Pipeline parallelism: each rank of `pp` holds a range of layers, and micro-batches pass through them one forward, one backward (1F1B).

torch's schedules fix their shapes at the first step, so a `Pipeline` is for one (sequence length, number of micro-batches); another needs
another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from training.loss import TargetLoss
from training.parallel.mesh import Meshes


class Pipeline:
    """The 1F1B schedule of this rank's `part`, for `n_micro_batches` of one shape."""

    def __init__(self, part: nn.Module, meshes: Meshes, loss: TargetLoss, n_micro_batches: int, device: torch.device) -> None:
        root = meshes.root
        assert root is not None
        self._meshes = meshes
        stage = PipelineStage(
            part,
            meshes.coordinates.pp,
            meshes.dims.pp,
            device,
            group=meshes.pp_group,
            get_mesh=lambda names, layout=None: root[names],  # where the stage's activations are DTensors
        )
        # Gradients are sums over the global batch: no scaling by the number of micro-batches.
        self._schedule = Schedule1F1B(stage, n_micro_batches, loss_fn=loss, scale_grads=False)

    def forward_backward(self, inputs: Tensor, targets: Tensor, positions: Tensor, documents: Tensor) -> Tensor:
        """Run all micro-batches of this rank's batch, tensors [b, s]; the batch's loss on the last stage, 0 on the others."""
        losses: list[Tensor] = []
        last: dict[str, Any] = {"target": targets, "losses": losses} if self._meshes.is_last_stage else {}
        arguments = (inputs,) if self._meshes.is_first_stage else ()
        self._schedule.step(*arguments, positions=positions, documents=documents, return_outputs=False, **last)
        if not losses:
            return torch.zeros((), device=inputs.device)
        return torch.stack([loss.detach() for loss in losses]).sum()
