"""Saves and resumes checkpoints: torch's distributed checkpoint, written in a thread next to training, published by a manifest. RULES 6,
9, 10.

A save copies the tensors to host memory and returns; a thread lets torch write them to a scratch folder of the node, hashes and uploads
each rank's
files, and rank 0 publishes the manifest, last. The thread talks over a gloo group of its own, so its collectives never meet those of
training.
A checkpoint holds `model.<name>`, `optim.exp_avg.<name>` and `optim.exp_avg_sq.<name>`; an averaged one holds the model alone. The step
is in the manifest:
with the plan it is all that resuming needs (DESIGN decision 4).
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from storage.artifact import BEGAN, Attempt, Began, FileEntry, HashingWriter, Manifest, Shard, timing
from storage.checkpoints import (
    METADATA_FILE,
    checkpoint_manifest,
    find_step,
    load_into,
    local_shards,
    publish_final,
    published_steps,
    step_dir,
    steps_root,
)
from storage.disk import full, named, temporary_name
from storage.errors import CaravanError, IntegrityError, RetryableError
from storage.store import Store

log = logging.getLogger(__name__)
T = TypeVar("T")

COPY_CHUNK_BYTES = 8 << 20
GROUP_TIMEOUT = timedelta(minutes=30)  # uploads of other ranks happen between two collectives of the group


class HeldLease(Protocol):
    """What a checkpoint needs of a lease: its fencing token, and whether it is still ours."""

    @property
    def token(self) -> int: ...
    def still_holds(self) -> bool: ...


def model_state(model_parts: Sequence[nn.Module]) -> dict[str, torch.Tensor]:
    """`model.<global parameter name>` → parameter, of this rank's parts."""
    return {f"model.{name}": parameter.detach() for part in model_parts for name, parameter in part.named_parameters()}


def optimizer_state(model_parts: Sequence[nn.Module], optimizer: torch.optim.Optimizer, step: int) -> dict[str, torch.Tensor]:
    """`optim.<moment>.<global parameter name>` → moment of AdamW; moments that do not exist yet are made, as after `step` steps."""
    moments = {}
    for part in model_parts:
        for name, parameter in part.named_parameters():
            state = optimizer.state[parameter]
            if not state:
                device = (
                    parameter.device if any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups) else "cpu"
                )
                state["step"] = torch.tensor(float(step), device=device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"].fill_(float(step))
            moments[f"optim.exp_avg.{name}"], moments[f"optim.exp_avg_sq.{name}"] = state["exp_avg"].detach(), state["exp_avg_sq"].detach()
    return moments


class Checkpointer:
    """Saves the checkpoints of one training artifact and finds the newest to resume from. One per rank; every method is collective.

    `scratch` is a folder of this node. `parent_digest` is the digest of the checkpoint that training started from, if any.
    """

    def __init__(
        self,
        *,
        store: Store,
        stage: str,
        fingerprint: str,
        payload: dict[str, Any],
        scratch: Path,
        lease: HeldLease | None = None,
        parent_digest: str | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        self.store, self.stage, self.fingerprint, self.payload = store, stage, fingerprint, payload
        self.scratch, self.lease, self.parent_digest, self.info = scratch, lease, parent_digest, dict(info or {})
        self._began = Began(*self.info.pop(BEGAN, Began.now()))
        self.distributed = dist.is_initialized() and dist.get_world_size() > 1
        self.rank = dist.get_rank() if self.distributed else 0
        self.group: Any = dist.new_group(backend="gloo", timeout=GROUP_TIMEOUT) if self.distributed else None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._size_bytes = 0  # of this rank's part of the save under way

    def save(self, step: int, state: dict[str, torch.Tensor], *, extra: dict[str, Any] | None = None) -> None:
        """Save `state` as the checkpoint after `step` steps; returns once the tensors are copied. Waits for the save before it.

        Raises what the save before it raised.
        """
        self.wait()
        attempt = self._agree(Attempt(self.store, self.stage, self.fingerprint).name)
        folder = self.scratch / f"{step_dir(step)}-{attempt}"
        shards = local_shards(state)
        self._size_bytes = sum(_local(tensor).nbytes for tensor in state.values())
        writer = FileSystemWriter(folder, single_file_per_rank=True, sync_files=False)
        future = async_save(dict(state), storage_writer=writer, process_group=self.group, no_dist=not self.distributed)
        self._thread = threading.Thread(
            target=self._publish, args=(future, folder, attempt, step, shards, extra or {}), name=f"checkpoint-{step}"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save under way. Raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _agree(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        values: list[Any] = [value]
        if self.distributed:
            dist.broadcast_object_list(values, src=0, group=self.group)
        agreed: T = values[0]
        return agreed

    def _on_first_rank(self, action: Callable[[], T]) -> T:
        """What `action` returns, or one of our errors that it raises, on rank 0, for every rank: none waits for one that has failed."""
        done: Any = None
        if self.rank == 0:
            try:
                done = action()
            except CaravanError as error:
                done = error
        done = self._agree(done)
        if isinstance(done, CaravanError):
            raise done
        result: T = done
        return result

    def _publish(self, future: Any, folder: Path, attempt: str, step: int, shards: list[Shard], extra: dict[str, Any]) -> None:
        """In the save's thread: wait for torch, upload this rank's files, and on rank 0 publish the manifest."""
        try:
            problem, entries = None, list[FileEntry]()
            try:
                future.result()
                entries = self._upload(folder, attempt, step)
            except (Exception, CheckpointException) as error:  # torch's is no Exception
                problem = self._problem(error, step)
            gathered = self._gather((problem, entries, shards))
            if self.rank == 0:
                problem = next((p for p, _, _ in gathered if p), None) or self._write_manifest(gathered, step, extra)
            if agreed := self._agree(problem):
                raise agreed
        except BaseException as error:
            self._error = error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _problem(self, error: BaseException, step: int) -> CaravanError:
        """Why the save failed, as every rank will raise it: what a disk refuses is not worth another try."""
        if isinstance(error, CaravanError):
            return error
        for cause in _causes(error):
            if isinstance(cause, OSError) and (refused := named(cause, {str(self.scratch): "work_dir"})):
                return refused
        if isinstance(error, CheckpointException):  # torch's writer does not say what the disk said
            written_bytes = sum(path.stat().st_size for path in self.scratch.rglob("*") if path.is_file())
            if refused := full(self.scratch, self._size_bytes - written_bytes, "work_dir"):
                return refused
        return RetryableError(f"checkpoint of step {step} was not saved: rank {self.rank}: {type(error).__name__}: {error}")

    def _gather(self, mine: Any) -> list[Any]:
        if not self.distributed:
            return [mine]
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.gather_object(mine, gathered if self.rank == 0 else None, dst=0, group=self.group)
        return gathered

    def _upload(self, folder: Path, attempt: str, step: int) -> list[FileEntry]:
        """Hash this rank's files, move them into the store. The file of metadata is rank 0's."""
        entries = []
        names = [path.name for path in sorted(folder.glob(f"__{self.rank}_*"))] + ([METADATA_FILE] if self.rank == 0 else [])
        for name in names:
            with open(folder / name, "rb") as file, open("/dev/null", "wb") as nowhere:
                writer = HashingWriter(nowhere)
                shutil.copyfileobj(file, writer, COPY_CHUNK_BYTES)
            path = f"{self._root(step)}/{attempt}/{name}"
            if self.store.is_local:
                self._move_into_place(folder / name, path)
            else:
                self.store.upload(folder / name, path)
            entries.append(FileEntry(name, f"{attempt}/{name}", writer.size_bytes, writer.hexdigest()))
        self.store.flush_names(f"{self._root(step)}/{entry.path}" for entry in entries)
        return entries

    def _move_into_place(self, local: Path, path: str) -> None:
        """Scratch and store may be on two file systems: copy beside the target under a temporary name, flush, then rename."""
        target = self.store.local_path(path)
        beside = target.with_name(temporary_name())
        with self.store.refusals(path, local.stat().st_size):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.move(local, beside)
                if self.store.durable:
                    with beside.open("rb") as file:
                        os.fsync(file.fileno())
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)

    def _root(self, step: int) -> str:
        return f"{steps_root(self.stage, self.fingerprint)}/{step_dir(step)}"

    def _write_manifest(
        self, gathered: Iterable[tuple[CaravanError | None, list[FileEntry], list[Shard]]], step: int, extra: dict[str, Any]
    ) -> CaravanError | None:
        """Publish the step's manifest. Returns what forbids it, or None: the other ranks wait to be told."""
        try:
            return self._publish_step(gathered, step, extra)
        except (CaravanError, OSError) as error:
            return self._problem(error, step)

    def _publish_step(
        self, gathered: Iterable[tuple[CaravanError | None, list[FileEntry], list[Shard]]], step: int, extra: dict[str, Any]
    ) -> CaravanError | None:
        if self.lease is not None and not self.lease.still_holds():
            return RetryableError(f"checkpoint of step {step} was not saved: another trainer took the lease over")
        files = [entry for _, entries, _ in gathered for entry in entries]
        shards = [shard for _, _, found in gathered for shard in found]
        info = {
            **self.info,
            **timing(self._began),
            **extra,
            "step": step,
            "parent_digest": self.parent_digest,
            "lease": None if self.lease is None else self.lease.token,
        }
        manifest = checkpoint_manifest(self.stage, self.fingerprint, self.payload, files, shards, info)
        self.store.put_if_absent(f"{self._root(step)}/manifest.json", manifest.to_json())
        return None

    def newest(self, state: dict[str, torch.Tensor]) -> int | None:
        """Fill `state` from the newest checkpoint of this artifact that verifies, and return its step; None when there is none.

        A damaged checkpoint is named in the log and the one before it is tried.
        """
        for step in reversed(self._agree(published_steps(self.store, self.stage, self.fingerprint))):
            try:
                if self.load(step, state):
                    return step
            except IntegrityError as error:
                log.warning("checkpoint of step %d does not verify, trying the one before: %s", step, error)
                self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        """Take a damaged checkpoint out of the way, so that its step can be saved again; its manifest stays readable under another name."""
        manifest = f"{self._root(step)}/manifest.json"
        self._on_first_rank(lambda: self.store.set_aside(manifest) if self.store.exists(manifest) else None)

    def load(self, step: int, state: dict[str, torch.Tensor]) -> bool:
        """Fill `state` from the checkpoint of `step`; False when it was never published. Raises IntegrityError on every rank."""
        found = self._on_first_rank(lambda: find_step(self.store, self.stage, self.fingerprint, step))
        if found is None:
            return False
        load_into(state, self.store, self._root(step), found)
        return True

    def average(self, steps: Sequence[int], state: dict[str, torch.Tensor]) -> None:
        """Set `state` to the mean of the checkpoints of `steps`, summed in float64 in the order given (Llama 3 paper, 3.1.3: annealing).

        Raises RetryableError when one of them is missing or damaged: it and those after it are set aside, so that the next attempt goes on
        from before it, and saves them again.
        """
        totals = {fqn: torch.zeros_like(_local(tensor), dtype=torch.float64) for fqn, tensor in state.items()}
        for step in steps:
            self._load_to_average(step, state)
            for fqn, tensor in state.items():
                totals[fqn] += _local(tensor)
        for fqn, tensor in state.items():
            _local(tensor).copy_(totals[fqn] / len(steps))

    def _load_to_average(self, step: int, state: dict[str, torch.Tensor]) -> None:
        """`load`, or set aside what is from this step on."""
        try:
            problem = "is not there" if not self.load(step, state) else ""
        except IntegrityError as error:
            problem = f"does not verify ({error.file})"
        if problem:
            for later in self._agree(published_steps(self.store, self.stage, self.fingerprint)):
                if later >= step:
                    self._set_aside(later)
            raise RetryableError(f"the checkpoint of step {step}, which is to be averaged, {problem}: training goes on from before it")

    def finish(self, step: int, *, averaged: Sequence[int] = ()) -> Manifest:
        """Publish the saved checkpoint of `step` as the artifact itself. Raises IntegrityError when another one stands already."""
        self.wait()

        def publish() -> Manifest:
            manifest = find_step(self.store, self.stage, self.fingerprint, step)
            assert manifest is not None, f"step {step} was saved before it is published"
            with_average = Manifest(**{**_fields(manifest), "info": {**manifest.info, "averaged_steps": list(averaged)}})
            return publish_final(self.store, with_average, root=self._root(step))

        return self._on_first_rank(publish)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it; torch keeps those of a distributed save in `failures`, by rank, with their tracebacks."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        for failure in getattr(seen, "failures", {}).values():
            yield from _causes(failure[0])
        seen = seen.__cause__ or seen.__context__


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's piece of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {**asdict(manifest), "files": manifest.files}
