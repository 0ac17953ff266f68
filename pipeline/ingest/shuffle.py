"""The shuffle of ingest: rows of extractions to partitions by the leading bits of their id, through files between two steps.

Step one splits a group of files and writes one spill: Parquet blobs of one partition each, one behind the other, whose places and sha256
are the group's note. Step two reads the blobs of one partition from every spill by range. So a spill is one object however many partitions
there are, memory is bounded by a group in step one and by a partition in step two, and each group of either step resumes by itself.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.partitions import GroupResult, Output
from storage.artifact import FileEntry, Manifest, read_entry
from storage.errors import IntegrityError
from storage.store import Store
from storage.tables import open_table, parse_table, table_pieces

GROUP_BYTES = 16 << 20  # of zstd-compressed Parquet, some four times as much in memory
SPLIT_BYTES = 4 << 20  # in memory, of rows that are split together, at least
PARTITION_BYTES = 32 << 10  # of them for each partition: smaller blobs are more header than text
MAX_SPLIT_BYTES = 128 << 20  # however many partitions: a worker holds some four times as much


class Piece(NamedTuple):
    """A file of an extraction: the artifact's folder and the entry (None: it has no such file). Its counts come with its first piece."""

    root: str
    entry: FileEntry | None
    counts: dict[str, int]


def groups_of(manifests: Sequence[Manifest], prefix: str) -> list[list[Piece]]:
    """The files of `manifests` whose names start with `prefix`, in groups of about `GROUP_BYTES`; an extraction without such a file has
    counts alone."""
    found: list[list[Piece]] = []
    size_bytes = 0
    for manifest in manifests:
        entries: list[FileEntry | None] = [manifest.file(name) for name in manifest.names(prefix)]
        for n, entry in enumerate(entries or [None]):
            more_bytes = entry.size_bytes if entry is not None else 0
            size_bytes += more_bytes
            if not found or size_bytes > GROUP_BYTES:
                found.append([])
                size_bytes = more_bytes
            found[-1].append(Piece(manifest.root, entry, manifest.counts if n == 0 else {}))
    return found


class Place(NamedTuple):
    """The rows of one partition in one spill: bytes `start` to `end` of the stored file `path`, and their sha256 (hex)."""

    path: str
    start: int
    end: int
    sha256: str


def places_of(spills: Sequence[GroupResult], partitions: int) -> list[list[Place]]:
    """Where the rows of each partition lie, by partition."""
    found: list[list[Place]] = [[] for _ in range(partitions)]
    for spill in spills:
        (entry,) = spill.files
        for part, start, end, sha256 in spill.note:
            found[part].append(Place(f"{spill.root}/{entry.path}", start, end, sha256))
    return found


def split(store: Store, schema: pa.Schema, partitions: int, name: str, pieces: Sequence[Piece], output: Output) -> None:
    """Write the rows of `pieces` as the spill `name`; its note is [partition, start, end, sha256] of each blob.

    Memory holds some `SPLIT_BYTES` (`PARTITION_BYTES` a partition, if that is more) a few times, and the compressed file being read.
    """
    note: list[list[int | str]] = []
    with output.create(name) as file:
        for rows, bounds in _split_tables(store, schema, partitions, pieces):
            for part, (start, end) in enumerate(itertools.pairwise([0, *bounds])):
                if start < end:
                    data = _blob(rows.slice(start, end - start))
                    note.append([part, file.tell(), file.tell() + len(data), hashlib.sha256(data).hexdigest()])
                    file.write(data)
    output.note = note


def _split_tables(
    store: Store, schema: pa.Schema, partitions: int, pieces: Sequence[Piece]
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Rows of `pieces` in the order of their partitions, and where each partition's end."""
    for table in _tables_of(store, pieces, schema, min(max(SPLIT_BYTES, partitions * PARTITION_BYTES), MAX_SPLIT_BYTES)):
        places = partitions_of(table["id"], partitions)
        yield table.take(pa.array(np.argsort(places, kind="stable"))), np.cumsum(np.bincount(places, minlength=partitions))


def _blob(rows: pa.Table) -> memoryview:
    data = io.BytesIO()
    with open_table(data, rows.schema) as writer:
        writer.write_table(rows)
    return data.getbuffer()


def _tables_of(store: Store, pieces: Sequence[Piece], schema: pa.Schema, size_bytes: int) -> Iterator[pa.Table]:
    """The rows of `pieces` in their order, about `size_bytes` at a time."""
    pending, pending_bytes = [], 0
    for piece in pieces:
        if piece.entry is None:
            continue
        for table in table_pieces(read_entry(store, piece.root, piece.entry), f"{piece.root}/{piece.entry.path}", schema.names):
            pending.append(table)
            pending_bytes += table.nbytes
            if pending_bytes >= size_bytes:
                joined, pending, pending_bytes = pa.concat_tables(pending).combine_chunks(), [], 0
                yield joined
    if pending:
        joined, pending = pa.concat_tables(pending).combine_chunks(), []
        yield joined


def gather(store: Store, places: Sequence[Place], schema: pa.Schema) -> pa.Table:
    """The rows at `places`, in one chunk. Raises IntegrityError."""
    tables = [schema.empty_table()]
    for path, start, end, sha256 in places:
        try:
            blob = store.read_range(path, start, end)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} at {start}", expected=f"sha256 {sha256}", actual="no such file") from error
        actual = hashlib.sha256(blob).hexdigest()
        if actual != sha256:
            raise IntegrityError(f"{path} at {start}", expected=f"sha256 {sha256}", actual=f"sha256 {actual}")
        tables.append(parse_table(blob, path))
    return pa.concat_tables(tables).combine_chunks()


def partitions_of(ids: pa.ChunkedArray, partitions: int) -> np.ndarray:
    """The partition of each id, int64; what `pipeline.documents.partition_of` gives for one."""
    leading = ids_of(ids)[:, :2].astype(np.int64)
    return (leading[:, 0] << 8 | leading[:, 1]) * partitions >> 16


def ids_of(ids: pa.ChunkedArray) -> np.ndarray:
    """Ids as uint8 [rows, 16]."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if len(array) == 0:
        return np.empty((0, 16), np.uint8)
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return data.reshape(-1, width)


def sorted_by_id(table: pa.Table, then: Sequence[str] = ()) -> pa.Table:
    """`table` sorted by id, and by the columns `then` among equal ids, in one chunk, so that its bytes depend on its rows alone."""
    keys = [("id", "ascending"), *((name, "ascending") for name in then)]
    return table.sort_by(keys).combine_chunks()
