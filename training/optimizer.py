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

    Every rank adds the squares of the pieces that it holds, and one all-reduce over all ranks adds those up, so that all ranks get the same
    bits. (DTensor would reduce mesh axis by mesh axis, in an order that may differ between ranks.) A piece that tensor-parallel ranks hold
    alike is counted by the first of them.
    """
    parameters = [parameter for part in model_parts for parameter in part.parameters()]
    counted = [local for local, is_mine in (_piece(parameter, meshes) for parameter in parameters) if is_mine]
    squares = torch.nn.utils.get_total_norm(counted).double() ** 2
    if dist.is_initialized():
        dist.all_reduce(squares)
    norm = squares.sqrt().float()
    torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


def _piece(parameter: nn.Parameter, meshes: Meshes) -> tuple[Tensor, bool]:
    """This rank's piece of a parameter's gradient, and whether this rank counts it."""
    gradient = parameter.grad
    assert gradient is not None
    if not isinstance(gradient, DTensor):
        return gradient, True
    names = gradient.device_mesh.mesh_dim_names or ()
    is_replicated = any(name == "tp" and placement.is_replicate() for name, placement in zip(names, gradient.placements, strict=True))
    return gradient.to_local(), not is_replicated or meshes.coordinates.tp == 0
