"""Documents and selections written by hand, for tests of the stages that follow select."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.documents import DOCUMENTS, SELECTION, document_id, part_name, partition_of
from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.tables import write_table


@dataclass(frozen=True)
class Row:
    """One document and what select decided about it."""

    key: str
    text: str
    source: str = "web"
    domain: str = "general"
    component: str | None = None  # the domain's name where none is given
    split: str = "train"
    keep: bool = True
    edits: Sequence[tuple[int, int, str]] = field(default_factory=tuple)

    @property
    def id(self) -> bytes:
        """Its id."""
        return document_id(self.source, self.key)

    def selection(self) -> dict[str, Any]:
        """Its row of the selection table."""
        trained = self.keep and self.split == "train"
        return {
            "id": self.id,
            "keep": self.keep,
            "reason": None if self.keep else "dropped_by_test",
            "domain": self.domain,
            "text_class": self.domain,
            "component": (self.component or self.domain) if trained else None,
            "split": self.split,
            "edits": [{"start": start, "end": end, "replacement": replacement} for start, end, replacement in self.edits],
        }


def write_inputs(store: Store, rows: Sequence[Row], partitions: int = 4) -> dict[str, Manifest]:
    """`documents.<source>` for every source of the rows, and `selection`."""
    sources = sorted({row.source for row in rows})
    inputs = {f"documents.{source}": _write_documents(store, source, _of(rows, source), partitions) for source in sources}
    payload = {"name": "s" * 32}
    chosen = Attempt(store, "select", fingerprint_of(payload))
    entries: list[FileEntry] = []
    for source in sources:
        _write_parts(chosen, _of(rows, source), partitions, SELECTION, Row.selection, entries, source)
    inputs["selection"] = chosen.publish(payload, entries, counts={}, info={})
    return inputs


def _of(rows: Sequence[Row], source: str) -> list[Row]:
    return sorted((row for row in rows if row.source == source), key=lambda row: row.id)


def _write_documents(store: Store, source: str, rows: Sequence[Row], partitions: int) -> Manifest:
    payload = {"name": source.ljust(32, "0")}
    attempt, entries = Attempt(store, "documents", fingerprint_of(payload)), list[FileEntry]()
    _write_parts(attempt, rows, partitions, DOCUMENTS, _document, entries, None)
    return attempt.publish(payload, entries, counts={}, info={})


def _document(row: Row) -> dict[str, Any]:
    return {"id": row.id, "text": row.text, "source": row.source, "language": "en", "language_probability": 1.0}


def _write_parts(
    attempt: Attempt,
    rows: Sequence[Row],
    partitions: int,
    schema: pa.Schema,
    convert: Callable[[Row], dict[str, Any]],
    entries: list[FileEntry],
    source: str | None,
) -> None:
    for part in range(partitions):
        inside = [convert(row) for row in rows if partition_of(row.id, partitions) == part]
        write_table(attempt, part_name(part, source), pa.Table.from_pylist(inside, schema=schema), entries)
