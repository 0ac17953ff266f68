"""Artifacts: what was asked (fingerprint), what came out (digest), and the manifest that makes it exist. RULES 6 to 9.

Layout under a store, for a stage and a fingerprint:

    artifacts/<stage>/<fingerprint>/<attempt>/<file>     bytes, written by one attempt
    artifacts/<stage>/<fingerprint>/groups/<step>-<n>-<covers>.json   a finished group of work; later attempts skip it
    artifacts/<stage>/<fingerprint>/manifest.json        last, create-if-absent: from here on the artifact exists
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from pydantic import BaseModel

from storage.disk import UNREADABLE, refusals, temporary_name
from storage.errors import IntegrityError
from storage.sealed import check_format, seal, unseal
from storage.store import Store
from storage.strict import hashed_fields

MANIFEST_FORMAT = 2
BEGAN = "began"  # in what is passed for a manifest's `info`: a `Began`, of which the duration is written
SHARDS = "shards"  # of a checkpoint, in its manifest's `info`
MADE_AGAIN = "the next run makes it again"
REMAKE = f"`caravan verify --deep --repair` sets it aside, and {MADE_AGAIN}"
READ_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact: logical `name`, `path` relative to the artifact's root, `size_bytes`, `sha256` (hex)."""

    name: str
    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A finished artifact.

    `payload` is what was asked: stage, version, config, input digests. `counts` and `info` (timings, host, versions, execution)
    are for people and enter neither `fingerprint` nor `digest`.
    """

    stage: str
    fingerprint: str
    digest: str
    payload: dict[str, Any]
    files: tuple[FileEntry, ...]
    counts: dict[str, int] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The artifact's folder in its store."""
        return artifact_root(self.stage, self.fingerprint)

    def file(self, name: str) -> FileEntry:
        """The file with logical name `name`. Raises KeyError."""
        for entry in self.files:
            if entry.name == name:
                return entry
        raise KeyError(f"{self.stage} {self.fingerprint[:12]} has no file {name!r}")

    def names(self, prefix: str = "") -> list[str]:
        """Logical names that start with `prefix`, sorted."""
        return sorted(entry.name for entry in self.files if entry.name.startswith(prefix))

    def to_json(self) -> bytes:
        """The bytes of manifest.json."""
        return seal({"format": MANIFEST_FORMAT, **dataclasses.asdict(self)})

    @staticmethod
    def from_json(data: bytes, *, where: str) -> Manifest:
        """Read manifest.json; `where` names it in errors.

        Raises IntegrityError, naming both values, when its bytes are not those that were written, its digest is not that of its files (of
        its shards, for a checkpoint), or its fingerprint is not that of its payload.
        """
        check_format(data, MANIFEST_FORMAT, where)
        raw = unseal(data, where=where, what="a manifest", remedy=REMAKE)
        raw.pop("format", None)
        try:
            manifest = Manifest(**{**raw, "files": tuple(FileEntry(**entry) for entry in raw["files"])})
            fingerprint, digest = fingerprint_of(manifest.payload), manifest.proven_digest
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(where, expected="a manifest", actual=str(error), remedy=REMAKE) from error
        if manifest.fingerprint != fingerprint:
            says = f"fingerprint {manifest.fingerprint}, which it says"
            raise IntegrityError(where, expected=says, actual=f"{fingerprint} of its payload", remedy=REMAKE)
        if manifest.digest != digest:
            raise IntegrityError(where, expected=f"digest {manifest.digest}, which it says", actual=f"{digest} of its files", remedy=REMAKE)
        return manifest

    @property
    def proven_digest(self) -> str:
        """The digest that follows from what the manifest lists. Raises KeyError or TypeError when a shard of a checkpoint is none."""
        if SHARDS in self.info:
            return digest_of_shards(
                Shard(**{**row, "offset": tuple(row["offset"]), "shape": tuple(row["shape"])}) for row in self.info[SHARDS]
            )
        return digest_of(self.files)


@dataclass(frozen=True)
class Shard:
    """One piece of one tensor of a checkpoint: `offset` and `shape` in elements of the whole tensor, `sha256` of its contiguous bytes."""

    fqn: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def artifact_root(stage: str, fingerprint: str) -> str:
    """The folder of an artifact in its store."""
    return f"artifacts/{stage}/{fingerprint}"


def canonical_json(value: Any) -> bytes:
    """The one encoding of plain data: sorted keys, no spaces, UTF-8.

    Takes None, bool, int, float (finite), str, lists, tuples, mappings with string keys, and pydantic models (their `hashed_fields`).
    Raises TypeError for whatever has no stable form (sets, callables, objects), ValueError for NaN and infinities.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, BaseModel):
        return {name: _plain(item, f"{where}.{name}") for name, item in hashed_fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is not a string, so it has no stable form")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} has no stable form")


def identity(stage: str, version: int, config: BaseModel | Mapping[str, Any], inputs: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The fingerprint of (stage, version, config, digests of inputs) and the payload that it hashes. RULE 7."""
    payload = cast("dict[str, Any]", _plain({"stage": stage, "version": version, "config": config, "inputs": dict(inputs)}, "$"))
    return fingerprint_of(payload), payload


def fingerprint_of(payload: Mapping[str, Any]) -> str:
    """The hash of what was asked, in hex."""
    return hashlib.sha256(canonical_json(payload)).hexdigest()[:32]


def digest_of(files: Iterable[FileEntry]) -> str:
    """Digest of an artifact: sha256 of its sorted (logical name, size, sha256), nothing else. RULE 6."""
    rows = sorted((entry.name, entry.size_bytes, entry.sha256) for entry in files)
    return hashlib.sha256(canonical_json(rows)).hexdigest()


def digest_of_shards(shards: Iterable[Shard]) -> str:
    """Digest of a checkpoint: sha256 of its sorted (fqn, offset, shape, dtype, sha256); pieces that several ranks hold count once. RULE
    6."""
    rows = {(s.fqn, s.offset, s.shape, s.dtype, s.sha256) for s in shards}
    return hashlib.sha256(canonical_json([list(row) for row in sorted(rows)])).hexdigest()


class Began(NamedTuple):
    """When something began: `at_s` since the epoch, which is a date, and `monotonic_s` on this machine's clock that nobody sets.

    Durations are differences of the second, which processes of one machine share.
    """

    at_s: float
    monotonic_s: float

    @staticmethod
    def now() -> Began:
        """Now."""
        return Began(time.time(), time.monotonic())


def timing(began: Began) -> dict[str, float]:
    """When an attempt began (seconds since the epoch) and how many seconds it has taken until now, for a manifest's `info`. RULE 8."""
    return {"started_at_s": round(began.at_s, 3), "wall_s": round(time.monotonic() - began.monotonic_s, 3)}


def find(store: Store, stage: str, fingerprint: str) -> Manifest | None:
    """The finished artifact, or None. Raises IntegrityError when its manifest is damaged."""
    path = f"{artifact_root(stage, fingerprint)}/manifest.json"
    try:
        data = store.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        raise IntegrityError(path, expected="a manifest", actual=f"unreadable: {error.strerror}", remedy=REMAKE) from error
    manifest = Manifest.from_json(data, where=path)
    if (manifest.stage, manifest.fingerprint) != (stage, fingerprint):
        actual = f"that of {manifest.stage}/{manifest.fingerprint}"
        raise IntegrityError(path, expected=f"the manifest of {stage}/{fingerprint}", actual=actual, remedy=REMAKE)
    return manifest


def read_verified(store: Store, manifest: Manifest, name: str) -> bytes:
    """All bytes of the file `name`, checked against the manifest. Raises IntegrityError, naming the file and both digests."""
    return read_entry(store, manifest.root, manifest.file(name))


def read_entry(store: Store, root: str, entry: FileEntry, *, remedy: str = REMAKE) -> bytes:
    """All bytes of `entry` of the artifact at `root`, checked. Raises IntegrityError, naming the file and both digests."""
    path = f"{root}/{entry.path}"
    with _readable(path, f"sha256 {entry.sha256}", remedy):
        data = store.read(path)
    actual = hashlib.sha256(data).hexdigest()
    if actual != entry.sha256:
        raise IntegrityError(path, expected=f"sha256 {entry.sha256}", actual=f"sha256 {actual}", remedy=remedy)
    return data


@contextmanager
def _readable(path: str, expected: str, remedy: str) -> Iterator[None]:
    """Raises IntegrityError for a file that is not there, or of which the disk says that it cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise IntegrityError(path, expected=expected, actual="no such file", remedy=remedy) from error
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        raise IntegrityError(path, expected=expected, actual=f"unreadable: {error.strerror}", remedy=remedy) from error


def verify_entry(store: Store, root: str, entry: FileEntry, *, remedy: str = REMAKE) -> None:
    """Read one file of the artifact at `root` through, in pieces, and compare. Raises IntegrityError, naming the file and both digests."""
    path, sha256 = f"{root}/{entry.path}", hashlib.sha256()
    with _readable(path, f"sha256 {entry.sha256}", remedy), store.open(path) as file:
        while chunk := file.read(READ_CHUNK_BYTES):
            sha256.update(chunk)
    if sha256.hexdigest() != entry.sha256:
        raise IntegrityError(path, expected=f"sha256 {entry.sha256}", actual=f"sha256 {sha256.hexdigest()}", remedy=remedy)


class HashingWriter:
    """A binary file that counts and hashes what is written to it; append-only."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256, self.size_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> int:
        """Append `data`."""
        self._sha256.update(data)
        self._file.write(data)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        self.size_bytes += size
        return size

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def flush(self) -> None:
        """Pass what is buffered on."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """Whether the file below is closed (pyarrow asks)."""
        return self._file.closed

    def close(self) -> None:
        """Do nothing: the attempt closes the file when it publishes it."""

    def hexdigest(self) -> str:
        """sha256 of what was written, hex."""
        return self._sha256.hexdigest()


@dataclass(frozen=True)
class Attempt:
    """One try at an artifact: writes files under `<root>/<attempt>/`. Small and picklable, so that workers share it."""

    store: Store
    stage: str
    fingerprint: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    began: Began = field(default_factory=Began.now)  # the manifest says how long the attempt took

    @property
    def root(self) -> str:
        """The artifact's folder in the store."""
        return artifact_root(self.stage, self.fingerprint)

    @contextmanager
    def create(self, name: str, entries: list[FileEntry]) -> Iterator[HashingWriter]:
        """Write the file with logical name `name`; when the block ends well it is in the store and its entry is appended to `entries`."""
        path = f"{self.name}/{name}"
        local = self.store.is_local
        folder = self.store.local_path(f"{self.root}/{path}").parent if local else Path(tempfile.gettempdir())
        place = f"the store {self.store.local_path('')}" if local else f"the folder of temporary files {folder}"
        temporary, writer = folder / temporary_name(), None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                writer = HashingWriter(file)
                yield writer
                file.flush()
                if local and self.store.durable:
                    os.fsync(file.fileno())
            self.store.upload(temporary, f"{self.root}/{path}")
        except OSError as error:
            if error.filename not in (None, str(folder), str(temporary)):  # of another file that was open in the block
                raise
            with refusals(place, temporary, writer.size_bytes if writer else None):
                raise
        finally:
            temporary.unlink(missing_ok=True)
        entries.append(FileEntry(name, path, writer.size_bytes, writer.hexdigest()))

    def settle(self, entries: Iterable[FileEntry]) -> None:
        """Let the names of these files reach the disk. Before anything says that they are there."""
        self.store.flush_names(f"{self.root}/{entry.path}" for entry in entries)

    def publish(self, payload: dict[str, Any], files: Iterable[FileEntry], *, counts: dict[str, int], info: dict[str, Any]) -> Manifest:
        """Write manifest.json, last and only if there is none; return the manifest that stands.

        `info` may hold a `began` before this attempt's: a process that had to start first is part of what a stage takes.
        Raises IntegrityError when another attempt published other bytes for the same fingerprint.
        """
        entries = tuple(sorted(files, key=lambda entry: entry.name))
        said = {key: value for key, value in info.items() if key != BEGAN}
        manifest = Manifest(
            self.stage,
            self.fingerprint,
            digest_of(entries),
            payload,
            entries,
            counts,
            {**said, "attempt": self.name, **timing(Began(*info.get(BEGAN, self.began)))},
        )
        assert fingerprint_of(payload) == self.fingerprint, f"{self.root}: its payload has another fingerprint"
        self.settle(entries)
        if self.store.put_if_absent(f"{self.root}/manifest.json", manifest.to_json()):
            return manifest
        standing = find(self.store, self.stage, self.fingerprint)
        assert standing is not None
        if standing.digest != manifest.digest:
            raise IntegrityError(f"{self.root}/manifest.json", expected=f"digest {standing.digest}", actual=f"digest {manifest.digest}")
        return standing
