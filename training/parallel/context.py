"""Context parallelism: a sequence is cut into 2 x CP chunks, and rank r holds the r-th from the front and the r-th from the back.

Each rank's queries attend over the keys and values of all ranks, gathered in one collective (Llama 3 paper, arXiv:2407.21783, 3.3.2). They
stay in rank order: the mask is made from positions and documents, so nothing has to be sorted. Gradients of keys and values go back by a
reduce-scatter in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.model import Llama, masked_attention, visible

# torch 2.13 renamed these two; 2.11 has the old names alone.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def local_positions(seq_len: int, cp: int, cp_rank: int) -> Tensor:
    """Positions in the sequence that a rank holds, int64 [seq_len / cp]: its chunk from the front, then its chunk from the back."""
    if cp == 1:
        return torch.arange(seq_len)
    chunks = torch.arange(seq_len).chunk(2 * cp)
    return torch.cat([chunks[cp_rank], chunks[2 * cp - 1 - cp_rank]])


class _GatherRanks(torch.autograd.Function):
    """x [...] → [ranks, ...]; the gradient of x is the sum, over ranks, of the gradients of its copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return gather_ranks(x, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = grad_outputs
        summed = gradient.new_empty(gradient.shape[1:], dtype=torch.float32)
        _reduce_scatter(summed, gradient.float().flatten(0, 1).contiguous(), group=ctx.group)
        return summed.to(gradient.dtype), None


def gather_ranks(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """x [...] of every rank of `group` → [ranks, ...], without gradient."""
    ranks = dist.get_world_size(group)
    gathered = x.new_empty((ranks * x.shape[0], *x.shape[1:]))  # gloo takes the concatenated shape alone
    _all_gather(gathered, x.contiguous(), group=group)
    return gathered.view(ranks, *x.shape)


def join_sequence(gathered: Tensor) -> Tensor:
    """[ranks, 2, b, s, ...] → [2, b, ranks * s, ...], the ranks' pieces one after another."""
    return gathered.movedim(0, 2).flatten(2, 3)


class ContextMask:
    """Causal attention within documents where each rank of `group` holds a part of the sequence; `positions`, `documents` [b, s]: its."""

    def __init__(self, positions: Tensor, documents: Tensor, group: dist.ProcessGroup) -> None:
        self._group = group
        key_positions, key_documents = join_sequence(gather_ranks(torch.stack([positions, documents]), group))
        self._dense = visible(positions, documents, key_positions, key_documents)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `model.Mask.attend`; q, k, v are this rank's."""
        gathered = _GatherRanks.apply(torch.stack([k, v]), self._group)
        keys, values = join_sequence(gathered)
        return masked_attention(q, keys, values, self._dense)


def apply_context_parallel(part: Llama, group: dist.ProcessGroup) -> None:
    """Let `part` attend over the sequence that `group` ("cp") holds together."""
    part.make_mask = lambda positions, documents: ContextMask(positions, documents, group)
