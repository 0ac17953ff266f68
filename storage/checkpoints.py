"""Checkpoints: torch's distributed checkpoint files as artifacts. The only file of `storage` that imports torch. RULES 6, 9, 10.

A checkpoint is a flat dict of global names to tensors (DTensors where they are sharded). Its files are torch's (`__<rank>_0.distcp`,
`.metadata`);
its digest is of the tensors' bytes alone, because `.metadata` is a pickle that holds a random id. That pickle is read only after the
manifest's
sha256 of it was checked, by an unpickler that knows a listed set of classes.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from storage.artifact import (
    REMAKE,
    SHARDS,
    FileEntry,
    Manifest,
    Shard,
    artifact_root,
    digest_of_shards,
    find,
    read_entry,
    verify_entry,
)
from storage.errors import IntegrityError
from storage.store import Store

METADATA_FILE = ".metadata"
STEP_DIR = re.compile(r"\d{9}")

_METADATA_MODULE = "torch.distributed.checkpoint.metadata"
ALLOWED_CLASSES = {
    *((_METADATA_MODULE, name) for name in ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata")),
    *((_METADATA_MODULE, name) for name in ("TensorProperties", "_MEM_FORMAT_ENCODING", "MetadataIndex", "StorageMeta")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    *(("torch", str(dtype).removeprefix("torch.")) for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64)),
}


def local_shards(state: dict[str, torch.Tensor]) -> list[Shard]:
    """The pieces of `state` that this rank holds. Empty pieces are left out."""
    shards = []
    for fqn, tensor in sorted(state.items()):
        if isinstance(tensor, DTensor):
            shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
            local = tensor.to_local()
        else:
            shape, offset, local = tuple(tensor.shape), (0,) * tensor.dim(), tensor
        if local.numel():
            data = local.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
            shards.append(Shard(fqn, tuple(offset), tuple(shape), str(tensor.dtype), hashlib.sha256(data.data).hexdigest()))
    return shards


def steps_root(stage: str, fingerprint: str) -> str:
    """The folder of an artifact's step checkpoints."""
    return f"{artifact_root(stage, fingerprint)}/steps"


def step_dir(step: int) -> str:
    """The folder of the checkpoint after `step` steps, under `steps_root`."""
    return f"{step:09d}"


def published_steps(store: Store, stage: str, fingerprint: str) -> list[int]:
    """Steps whose checkpoint has a folder, ascending; its manifest may still be missing. The only listing that decides anything (RULE
    9)."""
    return [int(name) for name in store.list_dirs(steps_root(stage, fingerprint)) if STEP_DIR.fullmatch(name)]


def find_step(store: Store, stage: str, fingerprint: str, step: int) -> Manifest | None:
    """The published checkpoint of a step, or None. Raises IntegrityError when its manifest is damaged."""
    path = f"{steps_root(stage, fingerprint)}/{step_dir(step)}/manifest.json"
    try:
        manifest = Manifest.from_json(store.read(path), where=path)
    except FileNotFoundError:
        return None
    if (found := (manifest.stage, manifest.fingerprint, manifest.info.get("step"))) != (stage, fingerprint, step):
        raise IntegrityError(path, expected=f"step {step} of {stage}/{fingerprint}", actual=f"step {found[2]} of {found[0]}/{found[1]}")
    return manifest


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in checkpoint metadata")
        return super().find_class(module, name)


def parse_metadata(data: bytes, *, where: str) -> Metadata:
    """torch's checkpoint metadata from its pickle, through a list of allowed classes. Raises IntegrityError for anything else."""
    try:
        metadata = _MetadataUnpickler(io.BytesIO(data)).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"a {type(metadata).__name__}")
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, IndexError, KeyError, TypeError, ImportError) as error:
        raise IntegrityError(where, expected="torch checkpoint metadata", actual=str(error), remedy=REMAKE) from error
    return metadata


class _StoreFiles(FileSystem):
    """torch's file access over a `Store`: paths are relative to the store."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Generator[Any, None, None]:
        assert mode == "rb", "checkpoints are written locally and uploaded"
        handle: IO[bytes] = self._store.open(str(path))
        with handle:
            yield handle


class StoreReader(FileSystemReader):
    """Reads the checkpoint files of `manifest` (whose folder is `root`) from a store; the metadata's bytes are checked first."""

    def __init__(self, store: Store, root: str, manifest: Manifest) -> None:
        entry = manifest.file(METADATA_FILE)
        super().__init__(f"{root}/{entry.path}".rpartition("/")[0])
        self.fs = _StoreFiles(store)
        self._metadata = parse_metadata(read_entry(store, root, entry), where=f"{root}/{entry.path}")

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata that was parsed and checked when the reader was made."""
        if self._metadata.storage_meta is None:
            self._metadata.storage_meta = StorageMeta()
        self._metadata.storage_meta.load_id = self.load_id
        return self._metadata

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor in the checkpoint, by name."""
        tensors = self._metadata.state_dict_metadata.items()
        return {fqn: tuple(value.size) for fqn, value in tensors if isinstance(value, TensorStorageMetadata)}


def load_into(state: dict[str, torch.Tensor], store: Store, root: str, manifest: Manifest, *, verify: bool = True) -> None:
    """Fill `state` in place from a checkpoint, whatever mesh wrote it. Collective when torch.distributed is initialised.

    With `verify` the files are read through first, spread over the ranks. Raises IntegrityError on every rank when a file is damaged or a
    tensor missing.
    """
    if verify:
        verify_checkpoint(store, root, manifest)
    reader = StoreReader(store, root, manifest)
    known = reader.shapes()
    for fqn, tensor in state.items():
        if fqn not in known:
            raise IntegrityError(root, expected=f"tensor {fqn}", actual="a checkpoint without it")
        if known[fqn] != tuple(tensor.shape):
            raise IntegrityError(root, expected=f"{fqn} of shape {tuple(tensor.shape)}", actual=f"shape {known[fqn]}")
    load(dict(state), storage_reader=reader, no_dist=not dist.is_initialized())


def verify_checkpoint(store: Store, root: str, manifest: Manifest) -> None:
    """Check every file of a checkpoint, spread over the ranks. Raises IntegrityError on every rank when one is damaged."""
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    problem: dict[str, str] | None = None
    for entry in manifest.files[rank::world_size]:
        try:
            verify_entry(store, root, entry)
        except IntegrityError as error:
            problem = {"file": error.file, "expected": error.expected, "actual": error.actual, "remedy": error.remedy}
            break
    problems: list[dict[str, str] | None] = [problem]
    if world_size > 1:
        problems = [None] * world_size
        dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise IntegrityError(**found)


def tensor_names(store: Store, manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a finished checkpoint artifact."""
    return StoreReader(store, manifest.root, manifest).shapes()


def checkpoint_manifest(
    stage: str, fingerprint: str, payload: dict[str, Any], files: Iterable[FileEntry], shards: Iterable[Shard], info: dict[str, Any]
) -> Manifest:
    """The manifest of a checkpoint; its shards are kept in `info`, so that anybody can recompute the digest."""
    unique = sorted({shard.fqn + str(shard.offset): shard for shard in shards}.values(), key=lambda s: (s.fqn, s.offset))
    return Manifest(
        stage=stage,
        fingerprint=fingerprint,
        digest=digest_of_shards(unique),
        payload=payload,
        files=tuple(sorted(files, key=lambda entry: entry.name)),
        counts={"tensors": len({shard.fqn for shard in unique}), "shards": len(unique)},
        info={**info, SHARDS: [asdict(shard) for shard in unique]},
    )


def publish_final(store: Store, manifest: Manifest, *, root: str) -> Manifest:
    """Publish a step's checkpoint, whose folder is `root`, as the artifact itself: its files stay where they are.

    Raises IntegrityError when another checkpoint was published for the same fingerprint.
    """
    prefix = root.removeprefix(f"{manifest.root}/")
    files = tuple(FileEntry(e.name, f"{prefix}/{e.path}", e.size_bytes, e.sha256) for e in manifest.files)
    final = Manifest(manifest.stage, manifest.fingerprint, manifest.digest, manifest.payload, files, manifest.counts, manifest.info)
    if store.put_if_absent(f"{manifest.root}/manifest.json", final.to_json()):
        return final
    standing = find(store, manifest.stage, manifest.fingerprint)
    assert standing is not None
    if standing.digest != final.digest:
        raise IntegrityError(f"{manifest.root}/manifest.json", expected=f"digest {standing.digest}", actual=f"digest {final.digest}")
    return standing
