"""One optimizer step's forward and backward passes, from this rank's token ids to its gradients, on any mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from training.loss import NO_TARGET, TargetLoss, document_numbers, next_tokens
from training.model import Llama
from training.parallel.context import local_positions
from training.parallel.fsdp import assert_reduced, set_last_micro_batch
from training.parallel.mesh import Meshes
from training.parallel.pipeline import Pipeline


class LocalBatch(NamedTuple):
    """What this rank computes on: tensors [n, s], s its part of the sequence."""

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor


def local_batch(tokens: Tensor, bos_id: int, meshes: Meshes, bos_is_eos: bool = False) -> LocalBatch:
    """This rank's part of samples [n, seq_len + 1]. Documents are numbered in the whole sequence, before it is cut."""
    n, seq_len = tokens.shape[0], tokens.shape[1] - 1
    held = local_positions(seq_len, meshes.dims.cp, meshes.coordinates.cp).to(tokens.device)
    documents, targets = document_numbers(tokens, bos_id, bos_is_eos), next_tokens(tokens, bos_id, bos_is_eos)
    return LocalBatch(tokens[:, held], targets[:, held], held.expand(n, -1), documents[:, held])


class ForwardBackward:
    """Accumulates the gradient of the global batch's loss in the model parts; called once a step.

    `bos_id` begins documents, and ends them too where `bos_is_eos`. `micro_batch_size` is in sequences. Sequence length and batch size
    may change from step to step.
    """

    def __init__(
        self,
        model_parts: Sequence[Llama],
        meshes: Meshes,
        *,
        bos_id: int,
        micro_batch_size: int,
        device: torch.device,
        bos_is_eos: bool = False,
    ) -> None:
        self.model_parts, self.meshes, self.device = model_parts, meshes, device
        self.bos_id, self.bos_is_eos, self.micro_batch_size = bos_id, bos_is_eos, micro_batch_size
        self.loss = TargetLoss(meshes.tp_group)
        self._pipeline: tuple[tuple[int, int], Pipeline] | None = None

    def __call__(self, tokens: npt.NDArray[np.int64]) -> Tensor:
        """Samples [n, seq_len + 1] of this data-parallel rank → this rank's part of the loss, detached; 0 before the last stage.

        Parts of ranks that differ in dp, cp or pp add up to the loss of the global batch.
        """
        on_device = torch.from_numpy(tokens).to(self.device)
        batch = local_batch(on_device, self.bos_id, self.meshes, self.bos_is_eos)
        self.loss.n_targets = self.global_targets(on_device)
        n_micro_batches, rest = divmod(len(tokens), self.micro_batch_size)
        assert rest == 0, f"{len(tokens)} sequences in micro-batches of {self.micro_batch_size}"
        run = self._run_pipeline if self.meshes.pp_group is not None else self._accumulate
        loss = run(batch, n_micro_batches)
        assert_reduced(self.model_parts)
        return loss

    def global_targets(self, tokens: Tensor) -> int:
        """Targets of the global batch: the sum over data-parallel ranks of those in their samples [n, seq_len + 1]."""
        count = (next_tokens(tokens, self.bos_id, self.bos_is_eos) != NO_TARGET).sum()
        if self.meshes.dp_group is not None:
            dist.all_reduce(count, group=self.meshes.dp_group)
        return int(count)

    def _accumulate(self, batch: LocalBatch, n_micro_batches: int) -> Tensor:
        (part,) = self.model_parts
        total = torch.zeros((), device=self.device)
        pieces: list[Any] = [tensor.chunk(n_micro_batches) for tensor in batch]
        for n, (inputs, targets, positions, documents) in enumerate(zip(*pieces, strict=True)):
            set_last_micro_batch(part, n == n_micro_batches - 1)
            loss = self.loss(part(inputs, positions, documents), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _run_pipeline(self, batch: LocalBatch, n_micro_batches: int) -> Tensor:
        shape = (batch.inputs.shape[1], n_micro_batches)
        if self._pipeline is None or self._pipeline[0] != shape:
            (part,) = self.model_parts
            self._pipeline = shape, Pipeline(part, self.meshes, self.loss, n_micro_batches, self.device)
        return self._pipeline[1].forward_backward(*batch)
