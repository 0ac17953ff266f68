"""What a rank does: trains one stage, or goes on where an earlier attempt stopped, and says how it ended. `training.run` starts it.

The first rank to know how the attempt ends writes `result.json` in the attempt's folder, and that is the truth, not an exit code:

    {"status": "ok", "step": …, "digest": …}                   the artifact is published
    {"status": "stopped", "step": …}                           SIGTERM; step … is saved, and another attempt goes on from it
    {"status": "failed", "rank": …, "error": {"class": …, "message": …, "arguments": …}, "traceback": …}

Each rank that fails writes the last form as `rank-<n>.json` too. `arguments` are those that make the error anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError

from storage.artifact import Manifest, artifact_root, find, read_verified
from storage.checkpoints import load_into, tensor_names
from storage.disk import named
from storage.errors import CaravanError, ConfigError, DiskError, InputError, IntegrityError, RetryableError
from storage.lease import hold
from storage.store import Store
from training.checkpoint import Checkpointer, model_state, optimizer_state
from training.config import ROOM_FOR_RESULT, ArtifactRef, TrainSpec, expand_phases
from training.data import batches, open_streams
from training.loop import Trainer, train
from training.mix import order_of, read_plan
from training.optimizer import build_optimizer
from training.order import Order
from training.parallel.apply import build_model_parts
from training.parallel.mesh import build_meshes
from training.step import ForwardBackward

log = logging.getLogger(__name__)

VERSION = 1  # of what training makes; a part of every checkpoint's fingerprint

EXIT_OK, EXIT_FAILED, EXIT_CONFIG, EXIT_INTEGRITY, EXIT_STOPPED = 0, 1, 2, 65, 75


def main(arguments: list[str] | None = None) -> int:
    """Run the spec's attempt on this rank; the exit code says how it ended (0 done, 75 stopped, 2 recipe, 65 damaged bytes, 1 other)."""
    parser = argparse.ArgumentParser(prog="training.run", description="Train one stage under torchrun.")
    parser.add_argument("--spec", type=Path, required=True, help="a TrainSpec as JSON")
    path: Path = parser.parse_args(arguments).spec
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s rank {_rank()} %(levelname)s %(message)s")
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    attempt_dir = path.parent
    try:
        spec = read_spec(path)
        attempt_dir = Path(spec.attempt_dir)
        with process_group(spec):
            with named_refusals(spec):
                result = run(spec, stop)
            if _rank() == 0:
                write_result(attempt_dir, result)
    except Exception as error:
        log.exception("rank %d failed", _rank())
        return _failed(attempt_dir, error)
    return EXIT_OK if result["status"] == "ok" else EXIT_STOPPED


def read_spec(path: Path) -> TrainSpec:
    """The spec in a file. Raises ConfigError naming each wrong field."""
    try:
        return TrainSpec.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error


@contextmanager
def process_group(spec: TrainSpec) -> Iterator[None]:
    """torch.distributed and the settings of this process, for the length of the block. One process joins a group of one."""
    torch.set_num_threads(spec.execution.threads_per_rank)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing reads such memory
    backend = "gloo"
    if spec.execution.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked by cuBLAS for deterministic sums
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    if "RANK" not in os.environ:
        raise ConfigError("training.run is started by torchrun, which sets RANK and WORLD_SIZE")
    dist.init_process_group(backend, timeout=timedelta(seconds=spec.execution.collective_timeout_s))
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def named_refusals(spec: TrainSpec) -> Iterator[None]:
    """Raise what a disk refuses inside the block as a DiskError that says which of our folders it is."""
    try:
        yield
    except OSError as error:
        store = Store(spec.store_uri)
        folders = {spec.run_dir: "work_dir", **({str(store.local_path("")): "the store"} if store.is_local else {})}
        if refused := named(error, folders):
            raise refused from error
        raise


def run(spec: TrainSpec, stop: Event) -> dict[str, Any]:
    """Train the stage of `spec` on this rank; what goes into result.json. Does nothing when the artifact is published already."""
    store = Store(spec.store_uri, spec.durable)
    if (standing := find(store, spec.stage, spec.fingerprint)) is not None:
        return {"status": "ok", "step": standing.info.get("step"), "digest": standing.digest}
    root = artifact_root(spec.stage, spec.fingerprint)
    timeout_s = spec.execution.lease_timeout_s
    # Other ranks wait for rank 0's lease in a collective, which gives up after its own time.
    lease = hold(store, root, timeout_s, max_wait_s=spec.execution.collective_timeout_s / 2) if _rank() == 0 else nullcontext()
    with lease as held:
        dist.barrier()
        return run_stage(spec, store, stop, held)


def run_stage(spec: TrainSpec, store: Store, stop: Event, lease: Any) -> dict[str, Any]:
    """Build this rank's trainer, go on from the newest checkpoint, train, and publish. `lease` is held by rank 0."""
    tokens, plan = (required(store, reference) for reference in (spec.tokens, spec.plan))
    parent = None if spec.parent is None else required(store, spec.parent)
    order = order_of(read_plan(store, plan))
    check_plan(spec, order)
    bos_id, bos_is_eos = read_bos(store, tokens)
    trainer = build_trainer(spec, store, order, bos_id=bos_id, bos_is_eos=bos_is_eos, parent=parent, lease=lease)
    first_step = start(trainer, store, parent)
    if first_step < spec.first_step:
        raise ConfigError(f"this mesh serves steps from {spec.first_step:,} on, and the newest checkpoint is of step {first_step:,}")
    streams = open_streams(store, tokens, order)
    dp = trainer.meshes.coordinates.dp
    fed = batches(order, streams, dp_rank=dp, dp_size=spec.execution.parallel.dp, first_step=first_step)
    try:
        done = max(train(trainer, fed, stop), first_step)
    finally:
        fed.close()
    if done < order.n_steps:
        return {"status": "stopped", "step": done}
    manifest = publish(trainer, order.n_steps)
    return {"status": "ok", "step": done, "digest": manifest.digest}


def required(store: Store, reference: ArtifactRef) -> Manifest:
    """The manifest of an input. Raises ConfigError when it does not exist."""
    manifest = find(store, reference.stage, reference.fingerprint)
    if manifest is None:
        raise ConfigError(f"{artifact_root(reference.stage, reference.fingerprint)} is not in {store.uri}")
    return manifest


def read_bos(store: Store, tokens: Manifest) -> tuple[int, bool]:
    """The id of the token that begins each document, and whether it ends them too."""
    counts = json.loads(read_verified(store, tokens, "counts.json"))
    return int(counts["bos_id"]), counts.get("eos_id") == counts["bos_id"]


def check_plan(spec: TrainSpec, order: Order) -> None:
    """Raises ConfigError when the plan was made for another stage or schedule."""
    phases = expand_phases(spec.training.schedule)
    if (order.stage, order.phases) != (spec.stage, phases):
        raise ConfigError(f"plan {spec.plan.fingerprint} is for {order.stage} with {order.phases}, the spec for {spec.stage} with {phases}")


def build_trainer(
    spec: TrainSpec, store: Store, order: Order, *, bos_id: int, parent: Manifest | None, lease: Any, bos_is_eos: bool = False
) -> Trainer:
    """This rank's model parts, optimizer and checkpointer, with initial weights."""
    execution = spec.execution
    device = torch.device(execution.device, torch.cuda.current_device()) if execution.device == "cuda" else torch.device("cpu")
    meshes = build_meshes(execution.parallel, execution.device)
    dtype: torch.dtype = getattr(torch, spec.training.dtype)
    parts = build_model_parts(spec.model, meshes, dtype=dtype, device=device, seed=spec.training.seed)
    size = execution.micro_batch_size
    return Trainer(
        spec=spec,
        order=order,
        meshes=meshes,
        model_parts=parts,
        optimizer=build_optimizer(parts, spec.training.optimizer),
        forward_backward=ForwardBackward(parts, meshes, bos_id=bos_id, bos_is_eos=bos_is_eos, micro_batch_size=size, device=device),
        checkpointer=Checkpointer(
            store=store,
            stage=spec.stage,
            fingerprint=spec.fingerprint,
            payload=spec.payload,
            scratch=Path(spec.attempt_dir) / "scratch",
            lease=lease,
            parent_digest=None if parent is None else parent.digest,
            info=provenance(spec),
        ),
    )


def provenance(spec: TrainSpec) -> dict[str, Any]:
    """For the manifest, and no digest: what the launcher says of run and environment, the execution, host, attempt."""
    execution = spec.execution.model_dump(mode="json")
    return {**spec.info, "execution": execution, "host": platform.node(), "attempt_dir": spec.attempt_dir}


def start(trainer: Trainer, store: Store, parent: Manifest | None) -> int:
    """Fill model and moments: from this stage's newest checkpoint, else from its parent, else fresh weights. The step to go on from.

    A parent's moments are carried on, with their count of steps, where it has them; an averaged parent has none.
    """
    if parent is not None:
        trainer.carried_steps = int(parent.info.get("optimizer_steps", 0)) if has_moments(store, parent) else 0
    newest = trainer.checkpointer.newest(trainer.state(0))
    if newest is not None:
        trainer.state(newest)  # sets the optimizer's own counters
        log.info("%s goes on after step %d", trainer.spec.stage, newest)
        return newest
    if parent is not None:
        with_moments = has_moments(store, parent)
        moments = optimizer_state(trainer.model_parts, trainer.optimizer, trainer.carried_steps) if with_moments else {}
        load_into({**model_state(trainer.model_parts), **moments}, store, parent.root, parent)
        log.info("%s starts from %s, moments %s", trainer.spec.stage, parent.root, "carried on" if with_moments else "fresh")
    return 0


def has_moments(store: Store, checkpoint: Manifest) -> bool:
    """Whether a checkpoint holds the optimizer's moments."""
    return any(name.startswith("optim.") for name in tensor_names(store, checkpoint))


def publish(trainer: Trainer, n_steps: int) -> Manifest:
    """Make the last checkpoint, or the mean of the last ones, the artifact."""
    averaged = trainer.spec.training.averaged_steps
    if len(averaged) == 1:
        return trainer.checkpointer.finish(n_steps)
    state = model_state(trainer.model_parts)
    trainer.checkpointer.average(averaged, state)
    trainer.checkpointer.save(n_steps + 1, state, extra={"optimizer_steps": trainer.carried_steps + n_steps})
    return trainer.checkpointer.finish(n_steps + 1, averaged=averaged)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def write_result(attempt_dir: Path, result: dict[str, Any], name: str = "result.json") -> bool:
    """Write a result whole, and only if there is none: the first to end knows the cause. Whether this one was written."""
    attempt_dir.mkdir(parents=True, exist_ok=True)
    (attempt_dir / ROOM_FOR_RESULT).unlink(missing_ok=True)
    temporary = attempt_dir / f".{name}.{os.getpid()}"
    temporary.write_text(json.dumps(result, indent=1))
    try:
        os.link(temporary, attempt_dir / name)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _failed(attempt_dir: Path, error: Exception) -> int:
    result = {"status": "failed", "rank": _rank(), "error": describe(error), "traceback": traceback.format_exc()}
    write_result(attempt_dir, result, f"rank-{_rank():05d}.json")
    write_result(attempt_dir, result)
    return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_INTEGRITY if isinstance(error, IntegrityError) else EXIT_FAILED


def describe(error: Exception) -> dict[str, Any]:
    """An error as data: its class, its message, and the arguments that make one of ours anew."""
    arguments: dict[str, Any] = {}
    if isinstance(error, IntegrityError):
        arguments = {"file": error.file, "expected": error.expected, "actual": error.actual, "remedy": error.remedy}
    elif isinstance(error, DiskError):
        arguments = {"path": error.path, "folder": error.folder, "problem": error.problem, "needed": error.needed}
    elif isinstance(error, InputError):
        arguments = {"reason": error.reason, "file": error.file, "offset": error.offset, "detail": error.detail}
    name = type(error).__name__ if isinstance(error, CaravanError) else RetryableError.__name__
    message = str(error) if isinstance(error, CaravanError) else f"{type(error).__name__}: {error}"
    return {"class": name, "message": message, "arguments": arguments}
