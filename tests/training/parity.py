"""The gradient on every mesh equals that of one process.

    python -m tests.training.parity --all                  all 69 ordered factorisations of 2, 4, 8 and 16 processes
    python -m tests.training.parity --mesh 2,2,2,2 ...     some of them, as TP,CP,PP,DP
    python -m tests.training.parity --sabotage --bf16      the broken runs that must fail; twenty bfloat16 steps against float32
    python -m tests.training.parity --all --seed 3 --shards FOLDER     other weights and documents; pieces of the documents of token shards

Gradients are compared parameter by parameter after clipping, so that a wrong global norm shows too.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from tests.acceptance.given_shards import components, documents
from tests.training.launch import run_ranks
from training.config import ModelConfig, OptimizerConfig
from training.loss import NO_TARGET, next_tokens
from training.model import Llama
from training.optimizer import build_optimizer, clip_gradients
from training.parallel.apply import build_model_parts
from training.parallel.dims import ParallelDims
from training.parallel.mesh import Meshes, build_meshes
from training.step import ForwardBackward

ASKED = 1e-5
BOS, EOS, VOCAB = 0, 1, 160
GLOBAL_BATCH_SIZE, SEQ_LEN = 32, 64
MEAN_DOCUMENT_TOKENS = (
    3,
    8,
    30,
    400,
)  # of the rows from the first to the last, so that data-parallel ranks hold different counts of targets
MAX_DOCUMENTS = 1000  # of a shard
OPTIMIZER = OptimizerConfig(lr_peak=3e-3, clip_norm=0.05)
CPU = torch.device("cpu")

Gradients = dict[str, npt.NDArray[np.float32]]
Sabotage = Callable[[Meshes], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outcome:
    """Gradients after clipping, the norm before it, the loss, and the targets of each data-parallel rank."""

    gradients: Gradients
    norm: float
    loss: float
    n_targets: tuple[int, ...]


def factorisations(*world_sizes: int) -> list[ParallelDims]:
    """Every ordered way to write the world sizes as TP x CP x PP x DP."""
    return [
        ParallelDims(tp=tp, cp=cp, pp=pp, dp=dp)
        for size in world_sizes
        for tp, cp, pp, dp in itertools.product(_divisors(size), repeat=4)
        if tp * cp * pp * dp == size
    ]


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def model_for(pp: int) -> ModelConfig:
    """A model whose layers do not divide over the stages, and which every TP degree up to 16 divides."""
    return ModelConfig(n_layers=pp + 1, dim=64, ffn_dim=96, n_heads=32, n_kv_heads=16, vocab_size=VOCAB)


@dataclass
class Data:
    """What the batches are made of: set before ranks are forked. Documents of token shards (1-D), or none for made ones."""

    seed: int = 7
    documents: Sequence[npt.NDArray[np.int64]] = ()


DATA = Data()


def body_of(random: np.random.Generator, n_tokens: int) -> npt.NDArray[np.int64]:
    """At most `n_tokens` token ids from 2 up (1-D, at least one): a piece of a given document folded into the vocabulary, or a made one."""
    if DATA.documents:
        document = DATA.documents[int(random.integers(len(DATA.documents)))]
        start = int(random.integers(max(1, len(document) - n_tokens)))
        return document[start : start + n_tokens] % (VOCAB - 2) + 2
    body = random.integers(2, VOCAB, size=n_tokens)
    body[1::2] = (body[0::2] * 7 + 3)[: len(body[1::2])] % (VOCAB - 2) + 2  # something to learn
    return body


def make_tokens(step: int) -> npt.NDArray[np.int64]:
    """A global batch: documents of a few tokens in the first rows and longer than a row in the last, begun by BOS and ended by EOS."""
    random = np.random.default_rng([DATA.seed, step])
    rows = []
    for index in range(GLOBAL_BATCH_SIZE):
        mean = MEAN_DOCUMENT_TOKENS[index * len(MEAN_DOCUMENT_TOKENS) // GLOBAL_BATCH_SIZE]
        row = np.empty(0, dtype=np.int64)
        while len(row) <= SEQ_LEN:
            row = np.concatenate([row, [BOS], body_of(random, 1 + int(random.exponential(mean))), [EOS]])
        start = int(random.integers(0, len(row) - SEQ_LEN))
        rows.append(row[start : start + SEQ_LEN + 1])
    return np.stack(rows)


def micro_batch_size(dims: ParallelDims) -> int:
    """As few micro-batches as a step on this mesh can have, but two: accumulation is part of what is shown."""
    return GLOBAL_BATCH_SIZE // dims.dp // max(dims.pp, 2)


def my_rows(tokens: npt.NDArray[np.int64], meshes: Meshes) -> npt.NDArray[np.int64]:
    """The rows of this data-parallel rank."""
    each = len(tokens) // meshes.dims.dp
    return tokens[meshes.coordinates.dp * each : (meshes.coordinates.dp + 1) * each]


def build(dims: ParallelDims, dtype: torch.dtype) -> tuple[list[Llama], Meshes, ForwardBackward]:
    """Model parts, meshes and step of this rank."""
    meshes = build_meshes(dims, "cpu")
    parts = build_model_parts(model_for(dims.pp), meshes, dtype=dtype, device=CPU, seed=DATA.seed)
    return parts, meshes, ForwardBackward(parts, meshes, bos_id=BOS, micro_batch_size=micro_batch_size(dims), device=CPU)


def no_sabotage(meshes: Meshes) -> AbstractContextManager[Any]:
    """Leave everything as it is."""
    return nullcontext()


def clipped_gradients(dims: ParallelDims, sabotage: Sabotage = no_sabotage) -> Outcome:
    """One step up to the optimizer, on this rank; whole gradients on the first rank of each stage, none elsewhere."""
    parts, meshes, forward_backward = build(dims, torch.float32)
    with sabotage(meshes):
        mine = my_rows(make_tokens(0), meshes)
        loss = total_loss(forward_backward(mine), meshes)
        norm = float(clip_gradients(parts, OPTIMIZER.clip_norm, meshes))
    gradients: Gradients = {}
    for part in parts:
        for name, parameter in part.named_parameters():
            whole = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
            assert whole is not None
            if meshes.coordinates._replace(pp=0) == (0, 0, 0, 0):
                gradients[name] = whole.numpy()
    return Outcome(gradients, norm, loss, (count_targets(mine),))


def count_targets(rows: npt.NDArray[np.int64]) -> int:
    """Targets of some samples."""
    return int((next_tokens(torch.from_numpy(rows), BOS) != NO_TARGET).sum())


def total_loss(mine: Tensor, meshes: Meshes) -> float:
    """The loss of the global batch from each rank's part."""
    if not dist.is_initialized():
        return float(mine)
    part = mine / meshes.dims.tp  # tensor-parallel ranks hold the same
    dist.all_reduce(part)
    return float(part)


def on_mesh(dims: ParallelDims, sabotage: Sabotage = no_sabotage) -> Outcome:
    """One step of all ranks of a mesh."""
    found = run_ranks(clipped_gradients, dims.world_size, dims, sabotage)
    gradients = {name: value for outcome in found for name, value in outcome.gradients.items()}
    targets = tuple(found[rank].n_targets[0] for rank in range(len(found)) if dims.coordinates(rank)[1:] == (0, 0, 0))
    norms = {outcome.norm for outcome in found}
    assert len(norms) == 1 or sabotage is not no_sabotage, f"ranks disagree on the gradient's norm: {norms}"
    return Outcome(gradients, found[0].norm, found[0].loss, targets)


def worst_difference(reference: Gradients, found: Gradients) -> tuple[float, str]:
    """The largest relative difference (2-norm) of a parameter's gradient, and the parameter's name."""
    assert reference.keys() == found.keys(), f"parameters differ: {sorted(reference.keys() ^ found.keys())}"
    differences = {
        name: float(np.linalg.norm(found[name].astype(np.float64) - value) / np.linalg.norm(value.astype(np.float64)))
        for name, value in reference.items()
    }
    worst = max(differences, key=lambda name: differences[name])
    return differences[worst], worst


def reference_for(pp: int) -> Outcome:
    """One process, without torch.distributed, on the same model and batch."""
    dims = ParallelDims()
    meshes = build_meshes(dims, "cpu")
    parts = build_model_parts(model_for(pp), meshes, dtype=torch.float32, device=CPU, seed=DATA.seed)
    step = ForwardBackward(parts, meshes, bos_id=BOS, micro_batch_size=GLOBAL_BATCH_SIZE, device=CPU)
    loss = float(step(make_tokens(0)))
    norm = float(clip_gradients(parts, OPTIMIZER.clip_norm, meshes))
    assert norm > 2 * OPTIMIZER.clip_norm, f"clipping must be active, the norm is {norm}"
    gradients = {name: p.grad.numpy() for part in parts for name, p in part.named_parameters() if p.grad is not None}
    return Outcome(gradients, norm, loss, (count_targets(make_tokens(0)),))


# ---------------------------------------------------------------- sabotage


@contextmanager
def reduce_scatter_replaced(by: Callable[..., Any]) -> Iterator[None]:
    """FSDP's reduce-scatter is `by(reduce_scatter, output, input, group)` within the block; tensor parallelism takes another way."""
    name = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
    original = getattr(dist, name)

    def replaced(output: Tensor, input: Tensor, *args: Any, group: dist.ProcessGroup | None = None, **kwargs: Any) -> Any:
        return by(lambda: original(output, input, *args, group=group, **kwargs), output, input, group)

    with mock.patch.object(dist, name, replaced):
        yield


def unsynchronised_rank(meshes: Meshes) -> AbstractContextManager[Any]:
    """The last rank of dp x cp keeps its own piece of the gradient instead of the sum over ranks."""

    def keep_mine(reduce_scatter: Callable[[], Any], output: Tensor, input: Tensor, group: dist.ProcessGroup | None) -> Any:
        result = reduce_scatter()
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        if rank == size - 1:
            output.copy_(input.flatten().chunk(size)[rank].view_as(output))
        return result

    return reduce_scatter_replaced(keep_mine)


def mask_without_documents(meshes: Meshes) -> AbstractContextManager[Any]:
    """Attention sees across documents; targets stay as they are."""
    return mock.patch("training.step.document_numbers", lambda tokens, *_: torch.zeros_like(tokens))


def loss_averaged_per_rank(meshes: Meshes) -> AbstractContextManager[Any]:
    """Each rank divides by its own count of targets, and the ranks' means are averaged."""

    def own_count(self: ForwardBackward, tokens: Tensor) -> int:
        return int((next_tokens(tokens, self.bos_id) != NO_TARGET).sum()) * meshes.dims.dp

    return mock.patch.object(ForwardBackward, "global_targets", own_count)


SABOTAGES: dict[str, Sabotage] = {
    "a rank that does not synchronise": unsynchronised_rank,
    "a mask without document ids": mask_without_documents,
    "a loss averaged per rank": loss_averaged_per_rank,
}
SABOTAGED_MESH = ParallelDims(tp=1, cp=2, pp=1, dp=2)


# ---------------------------------------------------------------- bfloat16


def train_steps(dims: ParallelDims, dtype: torch.dtype, n_steps: int) -> tuple[list[float], set[torch.dtype]]:
    """Losses of `n_steps` optimizer steps on this rank, and the dtypes that gradients were reduced in over dp x cp."""
    parts, meshes, forward_backward = build(dims, dtype)
    optimizer = build_optimizer(parts, OPTIMIZER)
    reduced: set[torch.dtype] = set()
    losses = []

    def note(reduce_scatter: Callable[[], Any], output: Tensor, input: Tensor, group: dist.ProcessGroup | None) -> Any:
        reduced.add(input.dtype)
        return reduce_scatter()

    with reduce_scatter_replaced(note):
        for step in range(n_steps):
            losses.append(total_loss(forward_backward(my_rows(make_tokens(step), meshes)), meshes))
            clip_gradients(parts, 1.0, meshes)
            optimizer.step()
            optimizer.zero_grad()
    return losses, reduced


def bf16_gap(n_steps: int) -> tuple[float, set[torch.dtype]]:
    """The largest relative gap between bfloat16 losses at DP 2, TP 2 and float32 losses of the same mesh, and the reduction's dtypes."""
    dims = ParallelDims(tp=2, dp=2)
    (low, reduced), *_ = run_ranks(train_steps, dims.world_size, dims, torch.bfloat16, n_steps)
    (high, _), *_ = run_ranks(train_steps, dims.world_size, dims, torch.float32, n_steps)
    assert high[-1] < high[0], "the model learns"
    return max(abs(a - b) / b for a, b in zip(low, high, strict=True)), reduced


# ---------------------------------------------------------------- command line


def check_meshes(meshes: list[ParallelDims]) -> bool:
    """Compare each mesh with one process and print a table. Whether all agree."""
    references: dict[int, Outcome] = {}
    worst, agree, started = 0.0, 0, time.monotonic()
    print(" TP  CP  PP  DP        loss      norm  worst gradient  seconds  targets of DP ranks, parameter", flush=True)
    for dims in meshes:
        begun = time.monotonic()
        reference = references.get(dims.pp) or references.setdefault(dims.pp, reference_for(dims.pp))
        found = on_mesh(dims)
        difference, name = worst_difference(reference.gradients, found.gradients)
        assert sum(found.n_targets) == reference.n_targets[0]
        assert dims.dp == 1 or len(set(found.n_targets)) > 1, "data-parallel ranks hold different numbers of targets"
        worst, agree = max(worst, difference), agree + (difference <= ASKED)
        print(
            f"{dims.tp:>3} {dims.cp:>3} {dims.pp:>3} {dims.dp:>3}  {found.loss:>10.6f}  {found.norm:>8.5f}  {difference:>14.1e}"
            f"  {time.monotonic() - begun:>7.1f}  {min(found.n_targets)} to {max(found.n_targets)}, {name}",
            flush=True,
        )
    print(
        f"{agree} of {len(meshes)} meshes equal one process; worst relative difference {worst:.1e} (asked {ASKED:.0e}),"
        f" clipping at {OPTIMIZER.clip_norm}, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return agree == len(meshes)


def check_sabotages() -> bool:
    """Each broken run must differ from one process by far more than is asked. Whether all do."""
    reference = reference_for(SABOTAGED_MESH.pp)
    caught = 0
    for name, sabotage in SABOTAGES.items():
        difference, parameter = worst_difference(reference.gradients, on_mesh(SABOTAGED_MESH, sabotage).gradients)
        caught += difference > ASKED
        print(
            f"sabotage: {name}: worst difference {difference:.1e} in {parameter}: {'caught' if difference > ASKED else 'NOT CAUGHT'}",
            flush=True,
        )
    print(f"{caught} of {len(SABOTAGES)} sabotaged runs fail", flush=True)
    return caught == len(SABOTAGES)


def check_bf16(n_steps: int) -> bool:
    """Whether bfloat16 stays within 1 % of float32 and reduces in float32."""
    gap, reduced = bf16_gap(n_steps)
    print(
        f"bfloat16 against float32, {n_steps} steps at TP 2, DP 2: largest gap {gap:.3%} (asked 1 %), gradients reduced in {reduced}",
        flush=True,
    )
    return gap <= 0.01 and reduced == {torch.float32}


def main() -> int:
    """The command; exit code 0 when everything asked for holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all 69 meshes, the sabotaged runs and bfloat16")
    parser.add_argument("--mesh", nargs="*", default=[], metavar="TP,CP,PP,DP", help="some meshes")
    parser.add_argument("--sabotage", action="store_true", help="the sabotaged runs")
    parser.add_argument(
        "--bf16", type=int, nargs="?", const=20, metavar="STEPS", help="bfloat16 against float32, 20 steps or as many as given"
    )
    parser.add_argument("--seed", type=int, default=DATA.seed, help="of the weights and the documents")
    parser.add_argument("--shards", type=Path, help="folder of token shards in datatrove's format to take documents from")
    arguments = parser.parse_args()
    DATA.seed = arguments.seed
    if arguments.shards:
        given = components(arguments.shards)
        print(f"documents of {', '.join(given)} in {arguments.shards}", flush=True)
        read = (islice(documents(path), MAX_DOCUMENTS) for paths in given.values() for path in paths)
        DATA.documents = [document for some in read for document in some if len(document)]
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    meshes = [ParallelDims(tp=tp, cp=cp, pp=pp, dp=dp) for tp, cp, pp, dp in (map(int, text.split(",")) for text in arguments.mesh)]
    held = [check_meshes(factorisations(2, 4, 8, 16) if arguments.all else meshes)] if arguments.all or meshes else []
    held += [check_sabotages()] if arguments.all or arguments.sabotage else []
    held += [check_bf16(arguments.bf16 or 20)] if arguments.all or arguments.bf16 else []
    return 0 if all(held) and held else 1


if __name__ == "__main__":
    sys.exit(main())
