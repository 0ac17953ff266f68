"""From a configuration and meshes to this rank's model parts: the one place that shows the order of the techniques.

Whatever the mesh, what comes out is `model_parts: list[nn.Module]`; everything after this takes that list.
"""

from __future__ import annotations

import torch

from training.config import ModelConfig
from training.model import Llama, init_weights
from training.parallel.context import apply_context_parallel
from training.parallel.dims import split_layers
from training.parallel.fsdp import apply_fsdp
from training.parallel.mesh import Meshes
from training.parallel.tensor import apply_tensor_parallel


def build_model_parts(config: ModelConfig, meshes: Meshes, *, dtype: torch.dtype, device: torch.device, seed: int) -> list[Llama]:
    """This rank's parts of the model, split, sharded and with their initial weights.

    The model is built without memory, cut, and only then allocated, so no rank ever holds more than its piece.
    """
    layers = split_layers(config.n_layers, meshes.dims.pp)[meshes.coordinates.pp]
    with torch.device("meta"):
        part = Llama(config, layers)
    if meshes.dims.tp > 1:
        assert meshes.tp is not None
        apply_tensor_parallel(part, meshes.tp)
    if meshes.cp_group is not None:
        apply_context_parallel(part, meshes.cp_group)
    # On one rank of dp x cp, too, FSDP keeps float32 weights beside bfloat16 computation, and with TP reduces the gradients of norms, which
    # each rank has for its part of the sequence.
    if meshes.dims.dp * meshes.dims.cp * meshes.dims.tp > 1 or dtype != torch.float32:
        assert meshes.fsdp is not None, "bfloat16 needs torch.distributed, also for one process"
        apply_fsdp(part, meshes.fsdp, dtype)
    part.to_empty(device=device)
    init_weights([part], seed=seed, n_layers=config.n_layers)
    return [part]
