"""Reads Parquet files, one row a record, in batches of bounded size; its columns are the fields.

Quarantined as in JSONL, `invalid_utf8` and `bad_value` (one that Python cannot hold) by the row; a file that is no Parquet is
`unreadable` as a whole, a damaged row group `damaged` with the rows behind the damage. Offsets
are row numbers. Without an id field, the key is the sha256 of the row as canonical JSON: bytes as hex, dates and times in ISO 8601,
decimals as text, NaN and infinities as their names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ingest.jsonl import field_of, record_key, text_of
from pipeline.ingest.records import Bad, BadRecord, Event, Record
from storage.artifact import canonical_json

BATCH_ROWS = 256
BATCH_BYTES = 16 << 20  # before decoding to Python, which takes several times as much


def read_parquet(
    file: BinaryIO, max_record_bytes: int, *, text_field: str, id_field: str | None, url_field: str | None, date_field: str | None
) -> Iterator[Event]:
    """Every row of a Parquet file as an event, in order; damage is an event too and never an exception. Fields may be dotted paths."""
    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Bad("unreadable", None, str(error))
        return
    row = 0
    for group in range(table.num_row_groups):
        known, first = table.metadata.row_group(group), row
        rows = known.num_rows
        batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, known.total_byte_size)))
        try:
            for batch in table.iter_batches(batch_rows, row_groups=[group], use_threads=False):
                for fields in _rows(batch):
                    if isinstance(fields, BadRecord):
                        yield Bad(fields.reason, row, fields.detail)
                    else:
                        yield _event(fields, row, max_record_bytes, text_field, id_field, url_field, date_field)
                    row += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            yield Bad("damaged", row, f"row group {group}: {error}", records=first + rows - row)
            row = first + rows


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | BadRecord]:
    """The rows of a batch; a value that Python cannot hold spoils its own row alone."""
    try:
        rows: list[dict[str, Any] | BadRecord] = batch.to_pylist()
    except ValueError:
        rows = [_row(batch.slice(n, 1)) for n in range(batch.num_rows)]
    yield from rows


def _row(one: pa.RecordBatch) -> dict[str, Any] | BadRecord:
    try:
        (fields,) = one.to_pylist()
    except ValueError as error:
        return BadRecord("invalid_utf8" if isinstance(error, UnicodeDecodeError) else "bad_value", str(error))
    found: dict[str, Any] = fields
    return found


def _event(
    fields: dict[str, Any], row: int, limit: int, text_field: str, id_field: str | None, url_field: str | None, date_field: str | None
) -> Event:
    try:
        text = text_of(fields, text_field)
        if len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit:
            raise BadRecord("too_large", f"more than {limit} bytes")
        key = record_key(fields, id_field) or hashlib.sha256(canonical_json(plain(fields))).digest()
    except BadRecord as error:
        return Bad(error.reason, row, error.detail)
    url = field_of(fields, url_field)
    return Record(key, row, row, text, url=url if isinstance(url, str) else None, date=field_of(fields, date_field))


def plain(value: Any) -> Any:
    """A value of a row as JSON can hold it; equal rows give equal JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
