"""AdamW and gradient clipping over whatever mesh the parameters are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.config import OptimizerConfig
from training.parallel.mesh import Meshes


def build_optimizer(model_parts: Sequence[nn.Module], config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW; norm weights do not decay. The learning rate is set before each step."""
    parameters = [parameter for part in model_parts for parameter in part.parameters()]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr_peak, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(model_parts: Sequence[nn.Module], clip_norm: float, meshes: Meshes) -> Tensor:
    """Scale all gradients so that the 2-norm of the whole model's gradient is at most `clip_norm`; returns the norm before.

    Within a stage DTensor sums over tp and dp x cp; stages add up over pp.
    """
    parameters = [parameter for part in model_parts for parameter in part.parameters()]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if meshes.pp_group is not None:
        squares = norm**2
        dist.all_reduce(squares, group=meshes.pp_group)
        norm = squares.sqrt()
    torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm
