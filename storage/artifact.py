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
from typing import Any, BinaryIO, cast

from pydantic import BaseModel

from storage.errors import IntegrityError
from storage.store import TEMPORARY_PREFIX, Store
from storage.strict import hashed_fields

MANIFEST_FORMAT = 1
COPY_CHUNK_BYTES = 1 << 20


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
        return json.dumps({"format": MANIFEST_FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True).encode()

    @staticmethod
    def from_json(data: bytes, *, where: str) -> Manifest:
        """Read manifest.json; `where` names it in errors. Raises IntegrityError when it is damaged."""
        try:
            raw = json.loads(data)
            if raw.pop("format") != MANIFEST_FORMAT:
                raise ValueError("unknown format")
            manifest = Manifest(**{**raw, "files": tuple(FileEntry(**entry) for entry in raw["files"])})
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(where, expected="a manifest", actual=str(error)) from error
        return manifest


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
    payload = _plain({"stage": stage, "version": version, "config": config, "inputs": dict(inputs)}, "$")
    return hashlib.sha256(canonical_json(payload)).hexdigest()[:32], cast("dict[str, Any]", payload)


def digest_of(files: Iterable[FileEntry]) -> str:
    """Digest of an artifact: sha256 of its sorted (logical name, size, sha256), nothing else. RULE 6."""
    rows = sorted((entry.name, entry.size_bytes, entry.sha256) for entry in files)
    return hashlib.sha256(canonical_json(rows)).hexdigest()


def timing(started_at_s: float) -> dict[str, float]:
    """When an attempt began (seconds since the epoch) and how many seconds it has taken until now, for a manifest's `info`. RULE 8."""
    return {"started_at_s": round(started_at_s, 3), "wall_s": round(time.time() - started_at_s, 3)}


def find(store: Store, stage: str, fingerprint: str) -> Manifest | None:
    """The finished artifact, or None. Raises IntegrityError when its manifest is damaged."""
    path = f"{artifact_root(stage, fingerprint)}/manifest.json"
    try:
        data = store.read(path)
    except FileNotFoundError:
        return None
    return Manifest.from_json(data, where=path)


def read_verified(store: Store, manifest: Manifest, name: str) -> bytes:
    """All bytes of the file `name`, checked against the manifest. Raises IntegrityError, naming the file and both digests."""
    return read_entry(store, manifest.root, manifest.file(name))


def read_entry(store: Store, root: str, entry: FileEntry) -> bytes:
    """All bytes of `entry` of the artifact at `root`, checked. Raises IntegrityError, naming the file and both digests."""
    path = f"{root}/{entry.path}"
    try:
        data = store.read(path)
    except FileNotFoundError as error:
        raise IntegrityError(path, expected=f"sha256 {entry.sha256}", actual="no such file") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != entry.sha256:
        raise IntegrityError(path, expected=f"sha256 {entry.sha256}", actual=f"sha256 {actual}")
    return data


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
    started_at_s: float = field(default_factory=time.time)  # since the epoch; the manifest says how long the attempt took

    @property
    def root(self) -> str:
        """The artifact's folder in the store."""
        return artifact_root(self.stage, self.fingerprint)

    @contextmanager
    def create(self, name: str, entries: list[FileEntry]) -> Iterator[HashingWriter]:
        """Write the file with logical name `name`; when the block ends well it is in the store and its entry is appended to `entries`."""
        path = f"{self.name}/{name}"
        folder = self.store.local_path(f"{self.root}/{path}").parent if self.store.is_local else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                writer = HashingWriter(file)
                yield writer
            os.chmod(temporary, 0o644)
            self.store.upload(Path(temporary), f"{self.root}/{path}")
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        entries.append(FileEntry(name, path, writer.size_bytes, writer.hexdigest()))

    def publish(self, payload: dict[str, Any], files: Iterable[FileEntry], *, counts: dict[str, int], info: dict[str, Any]) -> Manifest:
        """Write manifest.json, last and only if there is none; return the manifest that stands.

        `info` may hold a `started_at_s` before this attempt's: a process that had to start first is part of what a stage takes.
        Raises IntegrityError when another attempt published other bytes for the same fingerprint.
        """
        entries = tuple(sorted(files, key=lambda entry: entry.name))
        manifest = Manifest(
            self.stage,
            self.fingerprint,
            digest_of(entries),
            payload,
            entries,
            counts,
            {**info, "attempt": self.name, **timing(info.get("started_at_s", self.started_at_s))},
        )
        if self.store.put_if_absent(f"{self.root}/manifest.json", manifest.to_json()):
            return manifest
        standing = find(self.store, self.stage, self.fingerprint)
        assert standing is not None
        if standing.digest != manifest.digest:
            raise IntegrityError(f"{self.root}/manifest.json", expected=f"digest {standing.digest}", actual=f"digest {manifest.digest}")
        return standing
