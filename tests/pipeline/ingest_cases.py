"""Raw files made by hand for the tests of ingest, and the shortest way through its stages."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipeline.documents import parts_of, read_documents
from pipeline.ingest import documents, extract
from pipeline.ingest.config import LanguageConfig, SourceConfig
from pipeline.partitions import RunGroups, map_groups
from pipeline.snapshot import look
from storage.artifact import Manifest
from storage.store import Store

WORDS = "The caravan carries raw pages to a checkpoint, one stage behind the other, and every page keeps its name on the way. "


def page(body: str = WORDS * 4) -> bytes:
    """An HTML page with a main text."""
    return f"<!doctype html><html><head><title>t</title></head><body><main><p>{body}</p></main></body></html>".encode()


def http(body: bytes, content_type: str | None = "text/html", status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """An HTTP response."""
    fields = {**({"Content-Type": content_type} if content_type else {}), **(headers or {})}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def warc(
    block: bytes,
    name: str | None = "1",
    kind: str = "response",
    *,
    length: int | None = None,
    content_type: str = "application/http; msgtype=response",
    url: str = "http://example.org/",
    date: str = "2024-03-01T12:00:00Z",
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """One WARC record; `length` is what its header says where that is not the truth, `fields` are more of its header."""
    fields = {
        **(fields or {}),
        "WARC-Type": kind,
        **({"WARC-Record-ID": f"<urn:uuid:{name}>"} if name else {}),
        "WARC-Date": date,
        "WARC-Target-URI": url,
        "Content-Type": content_type,
        "Content-Length": str(len(block) if length is None else length),
    }
    head = "\r\n".join(["WARC/1.0", *(f"{key}: {value}" for key, value in fields.items())])
    return head.encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def gz(pieces: Iterable[bytes]) -> bytes:
    """A gzip file with a member per piece."""
    return b"".join(gzip.compress(piece, mtime=0) for piece in pieces)


def ingest(
    raw: Store,
    store: Store,
    source: SourceConfig,
    *,
    partitions: int = 4,
    run_groups: RunGroups = map_groups,
) -> tuple[dict[str, Manifest], Manifest, Manifest]:
    """(extractions, documents, origins) of a source."""
    listing = look(raw, store, [source])[source.name]
    extractions = {
        f"extract.{file.path}": extract.run(store=store, raw=raw, config=extract.config_of(source, file, LanguageConfig()))
        for file in listing
    }
    config = documents.config_of(source, partitions)
    made = documents.run(store=store, config=config, inputs=extractions, run_groups=run_groups)
    inputs = {**extractions, "documents": made}
    origins = documents.run_origins(store=store, config=documents.OriginsConfig(source=source.name), inputs=inputs, run_groups=run_groups)
    return extractions, made, origins


def rows_of(store: Store, made: Manifest) -> list[dict[str, Any]]:
    """All documents of a source, in the order of its partitions."""
    tables = [read_documents(store, made, part) for part in range(parts_of(made))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


def closes(counts: Mapping[str, int]) -> bool:
    """Whether the counts of a source's documents close, reasons included."""
    whole = counts["records"] == sum(counts.get(name, 0) for name in ("documents", "skipped", "duplicate_id", "quarantined"))
    by_reason = all(
        counts.get(name, 0) == sum(count for key, count in counts.items() if key.startswith(f"{name}:"))
        for name in ("skipped", "quarantined")
    )
    return whole and by_reason
