"""Reads Parquet files, one row a record, in batches of bounded size; its columns are the fields.

Quarantined as in JSONL; a file that is no Parquet is `unreadable` as a whole, a damaged row group `damaged` with all its rows. Offsets
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
        rows, first = table.metadata.row_group(group).num_rows, row
        try:
            for batch in table.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
                for fields in batch.to_pylist():
                    yield _event(fields, row, max_record_bytes, text_field, id_field, url_field, date_field)
                    row += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            yield Bad("damaged", row, f"row group {group}: {error}", records=first + rows - row)
            row = first + rows


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
