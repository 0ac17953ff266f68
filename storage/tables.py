"""Tables: Parquet with zstd and an explicit schema, verified as they are read.

The same rows give the same bytes: one row group per `ROW_GROUP_ROWS` rows, fixed writer options, no metadata of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifact import Attempt, FileEntry, Manifest, read_verified
from storage.errors import IntegrityError
from storage.store import Store

ROW_GROUP_ROWS = 4096
PIECE_ROWS = 128
ID = pa.binary(16)


def write_table(attempt: Attempt, name: str, table: pa.Table, entries: list[FileEntry]) -> None:
    """Write `table` as the file `name` of the attempt; appends its entry to `entries`."""
    with attempt.create(name, entries) as file, open_table(file, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def open_table(file: object, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer onto `file` with the options that every table of the project has."""
    return pq.ParquetWriter(file, schema.remove_metadata(), compression="zstd", compression_level=3, version="2.6", use_dictionary=False)


def read_table(store: Store, manifest: Manifest, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table `name` of an artifact, its bytes checked. Raises IntegrityError."""
    return parse_table(read_verified(store, manifest, name), f"{manifest.root}/{name}", columns)


def parse_table(data: bytes, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table from the bytes of a Parquet file; `where` names it in errors. Raises IntegrityError."""
    with _parsing(where):
        return _open(data).read(None if columns is None else list(columns), use_threads=False)


def table_pieces(data: bytes, where: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The table of `parse_table` in pieces of at most `PIECE_ROWS` rows, for columns of text that need not be held at once.

    A table without rows is one piece. Raises IntegrityError.
    """
    with _parsing(where):
        file = _open(data)
        if file.metadata.num_rows == 0:
            yield file.read(list(columns))
        for batch in file.iter_batches(PIECE_ROWS, columns=list(columns), use_threads=False):
            yield pa.Table.from_batches([batch])


def _open(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)  # in memory: nothing is gained by reading ahead in another thread


@contextmanager
def _parsing(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise IntegrityError(where, expected="a Parquet table", actual=str(error)) from error
