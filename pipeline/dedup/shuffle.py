"""Files between the steps: arrays of records cut into sections, one section for each reader. DESIGN decision 7.

A file is its sections one after the other, then an index of (offset uint64, size uint64, sha256) per section, little-endian. The writer's
note holds the sha256 of the index, so a reader that takes one section with two ranged reads still verifies every byte of it.
Ids travel as two big-endian-ordered uint64 fields `hi` and `lo`, which sort as the 16 bytes do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.partitions import GroupResult, Output
from storage.errors import IntegrityError
from storage.store import Store

Records: TypeAlias = npt.NDArray[np.void]
U64: TypeAlias = npt.NDArray[np.uint64]
INDEX = np.dtype([("offset", "<u8"), ("size", "<u8"), ("sha256", "V32")])


@dataclass(frozen=True)
class Sections:
    """A file of sections in the store: `path`, `size_bytes`, and the sha256 (hex) of its index of `sections` entries."""

    path: str
    size_bytes: int
    sections: int
    index_sha256: str


def write_sections(output: Output, kind: str, group: int, sections: Iterable[Iterable[bytes | memoryview]]) -> None:
    """Write group `group`'s file of `kind` (unique in the stage), a section per item, and leave in the note what a reader needs."""
    name = _name(kind, group)
    index: list[tuple[int, int, bytes]] = []
    with output.create(name) as file:
        for pieces in sections:
            offset, digest = file.tell(), hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
            index.append((offset, file.tell() - offset, digest.digest()))
        packed = np.array(index, INDEX).tobytes()
        file.write(packed)
    note = dict(output.note or {})
    note[name] = {"sections": len(index), "index_sha256": hashlib.sha256(packed).hexdigest()}
    output.note = note


def _name(kind: str, group: int) -> str:
    return f"between/{kind}-{group:05d}"


def write_records(output: Output, kind: str, group: int, records: Records, section: npt.NDArray[Any], sections: int) -> None:
    """Write records of `kind` into the `sections` sections that `section` (integers, [records]) gives, their order in each kept."""
    order = np.argsort(section, kind="stable")
    limits = np.searchsorted(section[order], np.arange(sections + 1))
    write_sections(output, kind, group, ([records[order[limits[k] : limits[k + 1]]].tobytes()] for k in range(sections)))


def sections_of(results: Sequence[GroupResult], kind: str) -> tuple[Sections, ...]:
    """The files of `kind` that the groups of a step wrote, in the order of groups."""
    found = []
    for result in results:
        entry = result.entry(_name(kind, result.n))
        note = result.note[entry.name]
        found.append(Sections(f"{result.root}/{entry.path}", entry.size_bytes, note["sections"], note["index_sha256"]))
    return tuple(found)


def read_section(store: Store, file: Sections, section: int) -> bytes:
    """The bytes of one section, checked. Raises IntegrityError, naming the file and both digests."""
    start = file.size_bytes - file.sections * INDEX.itemsize
    packed = _read_checked(store, file.path, start, file.size_bytes, file.index_sha256)
    row = np.frombuffer(packed, INDEX)[section]
    offset, size = int(row["offset"]), int(row["size"])
    return _read_checked(store, file.path, offset, offset + size, row["sha256"].tobytes().hex()) if size else b""


def _read_checked(store: Store, path: str, start: int, end: int, sha256: str) -> bytes:
    try:
        data = store.read_range(path, start, end)
    except FileNotFoundError as error:
        raise IntegrityError(path, expected=f"sha256 {sha256}", actual="no such file") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise IntegrityError(f"{path} bytes {start} to {end}", expected=f"sha256 {sha256}", actual=f"sha256 {actual}")
    return data


def read_records(store: Store, files: Sequence[Sections], section: int, dtype: np.dtype[np.void]) -> Records:
    """The records of one section of all `files`, concatenated."""
    parts = [np.frombuffer(read_section(store, file, section), dtype) for file in files]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def key_section(high: U64, sections: int) -> U64:
    """Which of `sections` (a power of two up to 65,536) a key or an id belongs to: its leading bits. `high` is its upper 64 bits."""
    return (high >> np.uint64(48)) * np.uint64(sections) >> np.uint64(16)


def split_ids(column: pa.ChunkedArray) -> tuple[U64, U64]:
    """Upper and lower 64 bits of a column of 16-byte ids without nulls."""
    return split_bytes(b"".join(_fixed_bytes(chunk) for chunk in column.chunks))


def _fixed_bytes(array: pa.Array) -> memoryview:
    return memoryview(array.buffers()[1])[array.offset * 16 : (array.offset + len(array)) * 16]


def split_bytes(data: bytes) -> tuple[U64, U64]:
    """Upper and lower 64 bits of 16-byte values that lie one after the other."""
    both = np.frombuffer(data, ">u8").reshape(-1, 2).astype(np.uint64)
    return both[:, 0].copy(), both[:, 1].copy()


def join_ids(high: U64, low: U64) -> pa.Array:
    """16-byte ids as an Arrow column, the inverse of `split_ids`."""
    data = np.stack((high, low), axis=1).astype(">u8").tobytes()
    return pa.Array.from_buffers(pa.binary(16), len(high), [None, pa.py_buffer(data)])


def records(dtype: np.dtype[np.void], **fields: npt.NDArray[Any]) -> Records:
    """An array of records from its columns."""
    made = np.empty(len(next(iter(fields.values()))), dtype)
    for name, values in fields.items():
        made[name] = values
    return made


def sort_records(array: Records, *names: str) -> Records:
    """The records sorted by the fields `names`, the first the most significant."""
    return array[np.lexsort([array[name] for name in reversed(names)])]


def unique_records(array: Records, *names: str) -> Records:
    """The records sorted by all of `names`, the first of each distinct combination."""
    ordered = sort_records(array, *names)
    return ordered[starts_of(ordered, *names)]


def starts_of(ordered: Records, *names: str) -> npt.NDArray[np.bool_]:
    """Where a new combination of `names` starts in records that are sorted by them."""
    first = np.ones(len(ordered), np.bool_)
    if len(ordered):
        first[1:] = np.any([ordered[name][1:] != ordered[name][:-1] for name in names], axis=0)
    return first
