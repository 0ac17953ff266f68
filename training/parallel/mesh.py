"""The device mesh of a run and every mesh and group derived from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from training.parallel.dims import Coordinates, ParallelDims


@dataclass(frozen=True)
class Meshes:
    """Named meshes of this rank, outermost axis first: ("dp", "pp", "cp", "tp").

    tp        ranks that share matrices and the sequence between them
    cp_group  ranks that share a sequence; None at degree 1
    pp_group  ranks that share the layers; None at degree 1
    dp_group  ranks that share the global batch; None at degree 1
    fsdp      dp x cp, over which parameters, gradients and moments are sharded
    All are None in a process that runs without torch.distributed.
    """

    dims: ParallelDims
    coordinates: Coordinates
    root: DeviceMesh | None = None
    tp: DeviceMesh | None = None
    fsdp: DeviceMesh | None = None
    cp_group: dist.ProcessGroup | None = None
    pp_group: dist.ProcessGroup | None = None
    dp_group: dist.ProcessGroup | None = None

    @property
    def tp_group(self) -> dist.ProcessGroup | None:
        """The group of `tp`; None at degree 1."""
        return None if self.tp is None or self.dims.tp == 1 else self.tp.get_group()

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding."""
        return self.coordinates.pp == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank holds the head."""
        return self.coordinates.pp == self.dims.pp - 1


def build_meshes(dims: ParallelDims, device: str) -> Meshes:
    """The meshes of this rank; collective. Without torch.distributed only one process is possible.

    Raises ConfigError when the degrees' product is not the number of processes.
    """
    initialized = dist.is_initialized()
    dims.check_world_size(dist.get_world_size() if initialized else 1)
    if not initialized:
        return Meshes(dims, dims.coordinates(0))
    root = init_device_mesh(device, (dims.dp, dims.pp, dims.cp, dims.tp), mesh_dim_names=("dp", "pp", "cp", "tp"))
    return Meshes(
        dims,
        dims.coordinates(dist.get_rank()),
        root=root,
        tp=root["tp"],
        fsdp=root["dp", "cp"]._flatten("fsdp"),
        cp_group=root["cp"].get_group() if dims.cp > 1 else None,
        pp_group=root["pp"].get_group() if dims.pp > 1 else None,
        dp_group=root["dp"].get_group() if dims.dp > 1 else None,
    )
