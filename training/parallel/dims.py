"""Degrees of parallelism, and the arithmetic that says what fits. No torch, so recipes and flows can ask before any work.

Ranks are laid out as in the Llama 3 paper (arXiv:2407.21783, 3.3.2), innermost first: TP, CP, PP, DP. The neighbours of a rank, which share
its node and its fastest links, are its tensor-parallel peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from storage.errors import ConfigError
from storage.strict import Strict


class Coordinates(NamedTuple):
    """A rank's place on each axis."""

    dp: int
    pp: int
    cp: int
    tp: int


class ParallelDims(Strict):
    """How many ways a model and its batch are split along each axis. Their product is the number of processes."""

    tp: int = Field(1, ge=1, description="tensor parallel degree: ranks that share every matrix and, between them, the sequence")
    cp: int = Field(1, ge=1, description="context parallel degree: ranks that share a sequence, two chunks each")
    pp: int = Field(1, ge=1, description="pipeline parallel degree: ranks that share the layers")
    dp: int = Field(1, ge=1, description="data parallel degree: ranks that share the global batch")

    @property
    def world_size(self) -> int:
        """Processes of the mesh."""
        return self.tp * self.cp * self.pp * self.dp

    def __str__(self) -> str:
        return f"TP {self.tp}, CP {self.cp}, PP {self.pp}, DP {self.dp}"

    def check_world_size(self, world_size: int) -> None:
        """Raises ConfigError, naming the degrees, when their product is not the number of processes."""
        if self.world_size != world_size:
            raise ConfigError(f"parallel: {self} need {self.world_size} processes (their product), but {world_size} are running")

    def coordinates(self, rank: int) -> Coordinates:
        """Where `rank` is on each axis: rank = ((dp * PP + pp) * CP + cp) * TP + tp."""
        assert 0 <= rank < self.world_size, f"rank {rank} of {self.world_size}"
        rest, tp = divmod(rank, self.tp)
        rest, cp = divmod(rest, self.cp)
        dp, pp = divmod(rest, self.pp)
        return Coordinates(dp, pp, cp, tp)


def split_layers(n_layers: int, pp: int, virtual_stages: int = 1) -> list[range]:
    """The layers of each of `pp * virtual_stages` pipeline stages, in order, as ranges of global layer numbers.

    Embedding and head count as one layer each, so the first and last stage carry fewer (126 on 16 stages: 7, fourteen times 8, 7;
    Llama 3 paper, 3.3.2, removes one layer from each end the same way). Ties go to the earliest stage; no stage is without a layer.
    Raises ConfigError when there are fewer layers than stages.
    """
    stages = pp * virtual_stages
    if n_layers < stages:
        raise ConfigError(f"n_layers {n_layers} is fewer than {stages} pipeline stages (PP {pp} x {virtual_stages} virtual)")
    counts = [1] * stages
    load = [1] * stages
    load[0] += 1
    load[-1] += 1
    for _ in range(n_layers - stages):
        lightest = load.index(min(load))
        counts[lightest] += 1
        load[lightest] += 1
    ends = [sum(counts[: n + 1]) for n in range(stages)]
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def micro_batches(dims: ParallelDims, *, global_batch_size: int, micro_batch_size: int, beside: Sequence[int] = ()) -> int:
    """Micro-batches that each data-parallel rank runs in a step; sizes in sequences.

    Raises ConfigError when the global batch does not divide, or when there are fewer micro-batches than pipeline stages
    (1F1B would leave stages idle for good). It says which sizes would do, also for the batches `beside` of the stage's other phases.
    """
    fitting = _fitting_sizes(dims, [global_batch_size, *beside])
    per_step = dims.dp * micro_batch_size
    if global_batch_size % per_step:
        raise ConfigError(
            f"global_batch_size {global_batch_size} is not a multiple of DP {dims.dp} x micro_batch_size {micro_batch_size} = {per_step};"
            f" {fitting}"
        )
    count = global_batch_size // per_step
    if count < dims.pp:
        raise ConfigError(
            f"global_batch_size {global_batch_size} gives {count} micro-batches of {micro_batch_size} on DP {dims.dp},"
            f" fewer than PP {dims.pp} stages; {fitting}"
        )
    return count


def _fitting_sizes(dims: ParallelDims, batches: Sequence[int]) -> str:
    """Which sizes of a micro-batch these batches and the mesh allow, in words."""
    most = min(batches) // (dims.dp * dims.pp)
    sizes = [str(size) for size in range(1, most + 1) if all(batch % (dims.dp * size) == 0 for batch in batches)]
    return f"micro_batch_size may be {', '.join(sizes)}" if sizes else f"no micro_batch_size fits DP {dims.dp} and PP {dims.pp}"


def check_model(dims: ParallelDims, *, n_layers: int, n_heads: int, n_kv_heads: int, ffn_dim: int, vocab_size: int) -> None:
    """Whether the model can be cut along TP and PP. Raises ConfigError naming field, value and degree."""
    for name, value in (("n_heads", n_heads), ("n_kv_heads", n_kv_heads), ("ffn_dim", ffn_dim), ("vocab_size", vocab_size)):
        if value % dims.tp:
            raise ConfigError(f"{name} {value} is not a multiple of TP {dims.tp}")
    split_layers(n_layers, dims.pp)


def check_seq_len(dims: ParallelDims, seq_len: int) -> None:
    """Whether a sequence can be cut: into 2 x CP chunks, and each rank's part over TP. Raises ConfigError."""
    chunks = 2 * dims.cp if dims.cp > 1 else 1
    if seq_len % chunks:
        raise ConfigError(f"seq_len {seq_len} is not a multiple of {chunks}, the two chunks of each of CP {dims.cp} ranks")
    if seq_len // dims.cp % dims.tp:
        raise ConfigError(f"seq_len {seq_len} on CP {dims.cp} leaves {seq_len // dims.cp} tokens a rank, not a multiple of TP {dims.tp}")
