"""Targets and their loss: the sum over all targets of the global batch over their global count. RULE 28.

With tensor parallelism each rank holds a slice of the vocabulary; the loss is computed on slices, with two small all-reduces and no
gathered logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

NO_TARGET = -100


def document_starts(tokens: Tensor, bos_id: int, bos_is_eos: bool = False) -> Tensor:
    """Whether each token begins a document: tokens [b, s] → bool [b, s].

    Where one token both begins and ends documents, and so stands in no document's text, its place in a run of itself tells them apart:
    after text come EOS, BOS, EOS (a document without tokens), BOS, …; at a row's start, which may lie anywhere, the last before text is a
    BOS. A row of that token alone, which tells nothing, is taken to begin with a BOS.
    """
    is_mark = tokens == bos_id
    if not bos_is_eos:
        return is_mark
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    text_before = places.masked_fill(is_mark, -1).cummax(dim=1).values
    text_after = places.masked_fill(is_mark, tokens.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    after_text = (places - text_before) % 2 == 0
    before_text = (text_after - places) % 2 == 1
    alone = places % 2 == 0
    at_row_start = torch.where(text_after < tokens.shape[1], before_text, alone)
    return is_mark & torch.where(text_before >= 0, after_text, at_row_start)


def document_numbers(tokens: Tensor, bos_id: int, bos_is_eos: bool = False) -> Tensor:
    """Number of each token's document, counted in its row: tokens [b, s] → int64 [b, s]. A row may begin inside a document."""
    return document_starts(tokens, bos_id, bos_is_eos).cumsum(dim=1)


def next_tokens(tokens: Tensor, bos_id: int, bos_is_eos: bool = False) -> Tensor:
    """Targets of samples: tokens [b, s + 1] → [b, s], `NO_TARGET` where the next token begins another document."""
    return tokens[:, 1:].masked_fill(document_starts(tokens, bos_id, bos_is_eos)[:, 1:], NO_TARGET)


class TargetLoss:
    """Cross-entropy summed over a micro-batch's targets, over `n_targets`, the count of the global batch, which is set before each step.

    `tp_group` is the group that shares the vocabulary, or None.
    """

    def __init__(self, tp_group: dist.ProcessGroup | None = None) -> None:
        self.tp_group = tp_group
        self.n_targets = 0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """logits [b, s, vocabulary or this rank's slice of it], targets [b, s] → scalar float32."""
        assert self.n_targets > 0, "n_targets is set before each step"
        return summed_cross_entropy(logits, targets, self.tp_group) / self.n_targets


def summed_cross_entropy(logits: Tensor, targets: Tensor, tp_group: dist.ProcessGroup | None) -> Tensor:
    """Sum of -log p(target) over targets [b, s] but `NO_TARGET`, in float32; logits [b, s, v], v this rank's slice of the vocabulary."""
    logits = logits.float().flatten(0, 1)
    targets = targets.flatten()
    if tp_group is None:
        return F.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="sum")
    return _VocabularyParallelCrossEntropy.apply(logits, targets, tp_group)  # type: ignore[no-any-return]


class _VocabularyParallelCrossEntropy(torch.autograd.Function):
    """log-sum-exp and the target's logit are put together from the slices (Shoeybi et al. 2019, 3). [n, v], [n] → scalar."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, group: dist.ProcessGroup) -> Tensor:
        width = logits.shape[-1]
        largest = logits.amax(dim=-1)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        exponentials = (logits - largest[:, None]).exp_()
        local = targets - dist.get_rank(group) * width
        is_here = (local >= 0) & (local < width)
        local = local.clamp(0, width - 1)
        target_logit = torch.where(is_here, logits.gather(1, local[:, None])[:, 0] - largest, 0.0)
        sums = torch.stack([exponentials.sum(dim=-1), target_logit])
        dist.all_reduce(sums, group=group)
        counts = targets != NO_TARGET
        ctx.save_for_backward(exponentials.div_(sums[0][:, None]), local, is_here, counts)
        return torch.where(counts, sums[0].log() - sums[1], 0.0).sum()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        probabilities, local, is_here, counts = ctx.saved_tensors
        gradient = probabilities.scatter_add(1, local[:, None], -is_here.to(probabilities.dtype)[:, None])
        return gradient * (grad_outputs[0] * counts)[:, None], None, None
