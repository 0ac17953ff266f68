"""Fully sharded data parallelism over dp x cp, in ZeRO-2 mode: parameters stay gathered between forward and backward.

Gradients are summed, never averaged: the loss is over the global count of targets already. Weights are float32; with bfloat16 computation
they are gathered as bfloat16, and gradients are accumulated and reduced in float32 (Llama 3 paper, 3.3.2, "numerical stability").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from training.model import Llama


def apply_fsdp(part: Llama, mesh: DeviceMesh, dtype: torch.dtype) -> None:
    """Shard the parameters of `part` over `mesh` (dp x cp), one collective for each block, the embedding, and norm with head."""
    # Inputs are not cast: positions stay integers, rotations float32, and activations come out of the embedding in `dtype`.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    units: list[nn.Module | list[nn.Module]] = [*part.layers.values()]
    if part.tok_embeddings is not None:
        units.append(part.tok_embeddings)
    if part.norm is not None and part.output is not None:
        units.append([part.norm, part.output])
    for unit in [*units, part]:
        fully_shard(unit, mesh=mesh, reshard_after_forward=False, mp_policy=policy)
    # Said of sequence-parallel outputs, which are views; nothing here works in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for module in part.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no pre-multiplied sum


def set_last_micro_batch(part: nn.Module, is_last: bool) -> None:
    """Gradients are reduced, and parameters freed, by the step's last micro-batch alone. Torch's pipeline stages do this themselves."""
    if isinstance(part, FSDPModule):
        part.set_is_last_backward(is_last)
        part.set_requires_gradient_sync(is_last)
        part.set_reshard_after_backward(is_last)


def assert_reduced(model_parts: Sequence[nn.Module]) -> None:
    """Every parameter has a float32 gradient after a step's backward passes: a reduction that never ran leaves none, silently."""
    for part in model_parts:
        for name, parameter in part.named_parameters():
            gradient = parameter.grad
            assert gradient is not None, f"{name} has no gradient: its last micro-batch was not reduced"
            assert gradient.dtype == torch.float32, f"{name}: gradient reduced in {gradient.dtype}"
            if isinstance(gradient, DTensor):
                assert not any(placement.is_partial() for placement in gradient.placements), f"{name}: gradient not reduced over every axis"
