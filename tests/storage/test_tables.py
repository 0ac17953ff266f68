"""Tables: schemas kept, bytes a function of the rows, damage named."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.errors import IntegrityError
from storage.store import Store
from storage.tables import ID, PIECE_ROWS, ROW_GROUP_ROWS, open_table, parse_table, read_table, table_pieces, write_table

SCHEMA = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("spans", pa.list_(pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())]))),
    ]
)


def table_of(count: int) -> pa.Table:
    rows = [
        {
            "id": n.to_bytes(16, "big"),
            "text": f"text {n}",
            "score": None if n % 3 else n / 2,
            "spans": [{"start": n, "end": n + 1}] * (n % 3),
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def publish(store: Store, tables: dict[str, pa.Table]) -> Manifest:
    payload = {"name": "f" * 32}
    attempt, entries = Attempt(store, "stage", fingerprint_of(payload)), list[FileEntry]()
    for name, table in tables.items():
        write_table(attempt, name, table, entries)
    return attempt.publish(payload, entries, counts={}, info={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.mark.parametrize("count", [0, 1, ROW_GROUP_ROWS + 1])
def test_a_table_comes_back_with_its_schema(store: Store, count: int) -> None:
    table = table_of(count)
    manifest = publish(store, {"a/part.parquet": table})
    found = read_table(store, manifest, "a/part.parquet")
    assert found.equals(table)
    assert found.schema.equals(SCHEMA)
    assert read_table(store, manifest, "a/part.parquet", ["score"]).column_names == ["score"]


def as_bytes(table: pa.Table) -> bytes:
    data = io.BytesIO()
    with open_table(data, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return data.getvalue()


@given(cuts=st.lists(st.integers(0, 50), max_size=4))
def test_bytes_are_a_function_of_the_rows(cuts: list[int]) -> None:
    """However the rows were put together, in one chunk they give the same bytes; metadata of the machine is not in them."""
    table, places = table_of(50), sorted({0, *cuts, 50})
    pieces = pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(places)])
    with_metadata = pieces.combine_chunks().replace_schema_metadata({"host": "here"})
    assert as_bytes(with_metadata) == as_bytes(table)


def test_compression_and_row_groups() -> None:
    metadata = pq.ParquetFile(io.BytesIO(as_bytes(table_of(ROW_GROUP_ROWS + 1)))).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [ROW_GROUP_ROWS, 1]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_flipped_byte_in_a_table_names_the_file_and_both_digests(store: Store) -> None:
    manifest = publish(store, {"part.parquet": table_of(10)})
    path = f"{manifest.root}/{manifest.file('part.parquet').path}"
    data = bytearray(store.read(path))
    data[20] ^= 1
    store.write(path, bytes(data))
    with pytest.raises(IntegrityError, match=r"part\.parquet: expected sha256 [0-9a-f]{64}, found sha256 [0-9a-f]{64}"):
        read_table(store, manifest, "part.parquet")


def test_what_is_no_table_is_named() -> None:
    with pytest.raises(IntegrityError, match="here: expected a Parquet table"):
        parse_table(b"no table", "here")


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS, PIECE_ROWS + 1, 3000])
def test_pieces_are_the_table_cut(rows: int) -> None:
    """Every row once and in order, in the columns that are asked for; an empty table is one empty piece."""
    table = pa.table({"n": pa.array(range(rows), pa.int64()), "text": pa.array([f"text {n}" for n in range(rows)], pa.large_string())})
    pieces = list(table_pieces(_parquet(table), "here", ["text"]))
    assert pa.concat_tables(pieces).combine_chunks().equals(table.select(["text"]).combine_chunks())
    assert max(piece.num_rows for piece in pieces) <= PIECE_ROWS


def test_pieces_hold_a_piece_and_not_the_table() -> None:
    """Memory is that of a piece and of the page it lies in (1,024 rows), however much the table holds."""
    random = Random(3)
    texts = [random.randbytes(5_000).hex() for _ in range(3_000)]
    data = _parquet(pa.table({"text": pa.array(texts, pa.large_string())}))
    before, most = pa.total_allocated_bytes(), 0
    for _ in table_pieces(data, "here", ["text"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < sum(map(len, texts)) / 2


def test_a_damaged_table_is_named_when_it_is_read_in_pieces() -> None:
    """IntegrityError, as from a whole read."""
    with pytest.raises(IntegrityError, match="here"):
        list(table_pieces(b"PAR1 and no more", "here", ["text"]))


def _parquet(table: pa.Table) -> bytes:
    data = io.BytesIO()
    with open_table(data, table.schema) as writer:
        writer.write_table(table)
    return data.getvalue()
