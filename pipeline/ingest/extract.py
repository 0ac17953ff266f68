"""Extraction: one artifact per raw file, so that an added file extracts no other again. RULES 1 and 3.

Writes, in pieces of bounded size so that a huge raw file needs no more memory than a small one:

    documents-%05d.parquet    rows of `DOCUMENTS`, in file order
    origins-%05d.parquet      rows of `ORIGINS`, one for each of those
    quarantine-%05d.parquet   rows of `QUARANTINE`
    dropped-%05d.parquet      rows of `DROPPED`, for a keyed sample of the pages that the extractor `blocks` read

and counts: records = documents + skipped + quarantined, with `skipped:<reason>` and `quarantined:<reason>` beside them. Of the documents
these are counted too, and are parts of no sum: `kept:truncated` and `kept:noai`, which a source may skip instead, and `unreadable_date`
(its date is null).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import pyarrow as pa
from pydantic import Field

from pipeline.documents import DOCUMENTS, DROPPED, ORIGINS, QUARANTINE, document_id, keyed_fraction
from pipeline.ingest.arc import read_arc
from pipeline.ingest.charset import decode
from pipeline.ingest.config import LOOK_AGAIN, Extractor, Format, KeepOrSkip, LanguageConfig, RawFile, SourceConfig, check_identifier
from pipeline.ingest.files import read_file
from pipeline.ingest.html import html_to_text, normal_text
from pipeline.ingest.jsonl import read_jsonl
from pipeline.ingest.language import language_of
from pipeline.ingest.main_text.extract import main_text
from pipeline.ingest.parquet import read_parquet
from pipeline.ingest.records import DETAIL_CHARS, Bad, Event, Record, Skip, iso_utc
from pipeline.ingest.robots import page_opts_out
from pipeline.ingest.stream import Stream
from pipeline.ingest.warc import read_warc
from pipeline.language_tags import UNKNOWN
from pipeline.partitions import Output
from storage.artifact import Attempt, Manifest, find, identity
from storage.errors import IntegrityError
from storage.store import Store
from storage.strict import Strict

NAME = "extract"
VERSION = 5

PIECE_TEXT_CHARS = 32 << 20
PIECE_ROWS = 65_536
READ_CHUNK_BYTES = 16 << 20


class Config(Strict):
    """What bears on the documents of one raw file: the file, and the part of its source's configuration that extraction reads."""

    source: str = Field(description="name of the source")
    format: Format = Field(description="format of the file")
    path: str = Field(description="path of the raw file, relative to raw_root")
    sha256: str = Field(description="sha256 (hex) of the raw file")
    extractor: Extractor | None = Field(description="HTML to text; None where the format holds no HTML")
    text_field: str | None = Field(description="jsonl, parquet: the field of the text")
    id_field: str | None = Field(description="jsonl, parquet: the field of the key")
    url_field: str | None = Field(description="jsonl, parquet: the field of the URL")
    date_field: str | None = Field(description="jsonl, parquet: the field of the date")
    encoding: str | None = Field(description="files: their charset, None to detect it")
    root: str | None = Field(description="files: the folder under which a path is a key")
    license: str | None = Field(description="licence of the documents")
    declared_language: str | None = Field(description="language of the documents where the source declares it")
    language: LanguageConfig | None = Field(description="language identification where the source declares none")
    max_record_bytes: int = Field(description="a larger record is quarantined")
    truncated: KeepOrSkip = Field("skip", description="records whose payload breaks off")
    noai: KeepOrSkip = Field("keep", description="pages that ask not to be used for AI")
    dropped_fraction: float = Field(0.0, description="share of pages whose left-out blocks are written too")


def config_of(source: SourceConfig, file: RawFile, language: LanguageConfig) -> Config:
    """The part of a source's configuration on which the extraction of `file` depends."""
    has_fields = source.format in ("jsonl", "parquet")
    return Config(
        source=source.name,
        format=source.format,
        path=file.path,
        sha256=file.sha256,
        extractor=None if has_fields else source.extractor,
        text_field=source.text_field if has_fields else None,
        id_field=source.id_field,
        url_field=source.url_field,
        date_field=source.date_field,
        encoding=source.encoding,
        root=source.root if source.format == "files" else None,
        license=source.license,
        declared_language=source.language,
        language=language if source.language is None else None,
        max_record_bytes=source.max_record_bytes,
        truncated=source.truncated,
        noai=source.noai,
        dropped_fraction=source.dropped_fraction if source.keeps_dropped else 0.0,
    )


def run(*, store: Store, raw: Store, config: Config, info: Mapping[str, Any] | None = None) -> Manifest:
    """Extract one raw file of the store `raw`, or return its artifact when it is there already.

    Raises ConfigError when a language model is missing, or another than configured; IntegrityError when the file is not what the snapshot
    saw.
    """
    fingerprint, payload = identity(NAME, VERSION, config, {})
    if standing := find(store, NAME, fingerprint):
        return standing
    if config.language is not None:
        check_identifier(config.language)
    output = Output(Attempt(store, NAME, fingerprint))
    with local_copy(raw, config.path, config.sha256) as file:
        _extract(file, config, output)
    return output.attempt.publish(payload, output.entries, counts=dict(sorted(output.counts.items())), info=dict(info or {}))


@contextmanager
def local_copy(raw: Store, path: str, sha256: str) -> Iterator[BinaryIO]:
    """The raw file `path`, open for reading on this machine, its bytes checked; a file of an object store is copied to a temporary one.

    Raises IntegrityError when its sha256 is not `sha256` (hex) any more.
    """
    digest = hashlib.sha256()
    asked = f"sha256 {sha256}, as the snapshot saw it"
    with ExitStack() as opened:
        try:
            opening = raw.open(path) if raw.is_local else tempfile.TemporaryFile()  # noqa: SIM115 - entered in the next line
            file = cast("BinaryIO", opened.enter_context(opening))
            if raw.is_local:
                while piece := file.read(READ_CHUNK_BYTES):
                    digest.update(piece)
            else:
                size_bytes = raw.size(path)
                for start in range(0, size_bytes, READ_CHUNK_BYTES):
                    piece = raw.read_range(path, start, min(start + READ_CHUNK_BYTES, size_bytes))
                    digest.update(piece)
                    file.write(piece)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise IntegrityError(path, expected=asked, actual="no such file: it vanished", remedy=LOOK_AGAIN) from error
        if digest.hexdigest() != sha256:
            raise IntegrityError(path, expected=asked, actual=f"sha256 {digest.hexdigest()}: it changed", remedy=LOOK_AGAIN)
        file.seek(0)
        yield file


def read_events(file: BinaryIO, config: Config) -> Iterator[Event]:
    """Every record of a raw file, by the reader of its format."""
    limit = config.max_record_bytes
    if config.format == "parquet":
        return read_parquet(file, limit, **_fields(config))
    stream = Stream(file)
    if config.format == "jsonl":
        return read_jsonl(stream, limit, **_fields(config))
    if config.format == "files":
        return read_file(stream, limit, path=config.path, root=config.root or "", encoding=config.encoding)
    return read_warc(stream, limit) if config.format == "warc" else read_arc(stream, limit)


def _fields(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("text_field", "id_field", "url_field", "date_field")}


def text_of(record: Record, extractor: Extractor | None, dropped: list[str] | None = None) -> str | Bad:
    """The text of a record in normal form, "" when it has none; `extraction_failed` when the extractor cannot take the page.

    `dropped`, where it is given, gets what the extractor `blocks` leaves out of a page, a text in normal form for each block.
    """
    if record.text is not None:
        return normal_text(record.text)
    text = decode(record.payload, declared=record.declared, is_html=record.is_html)
    if record.is_html:
        assert extractor is not None
        try:
            if extractor == "blocks":
                found = main_text(text)
                text = found.text
                if dropped is not None:
                    dropped += filter(None, map(normal_text, found.dropped))
            else:
                text = html_to_text(text, extractor)
        except Exception as error:  # whatever an HTML library raises is about this page
            return Bad("extraction_failed", record.offset, f"{type(error).__name__}: {error}", record.key)
    return normal_text(text)


def _extract(file: BinaryIO, config: Config, output: Output) -> None:
    """Turn every record into a document, a count or a row of the quarantine."""
    pieces = _Pieces(config, output)
    for event in read_events(file, config):
        if not isinstance(event, Record):
            pieces.count(event)
            continue
        noai = event.noai or (event.is_html and page_opts_out(event.payload))
        if event.truncated and config.truncated == "skip":
            pieces.count(Skip("truncated"))
        elif noai and config.noai == "skip":
            pieces.count(Skip("noai"))
        elif isinstance(text := text_of(event, config.extractor, dropped := pieces.sampled(event)), Bad):
            pieces.count(text)
        elif not text:
            pieces.count(Skip("empty"))
        else:
            pieces.document(event, text, noai, dropped)
    pieces.flush_documents()
    pieces.flush_quarantine()
    counts = output.counts
    assert counts["records"] == counts["documents"] + counts["skipped"] + counts["quarantined"], f"{config.path}: counters do not close"


@dataclass
class _Pieces:
    """Collects rows and writes a piece when it is full."""

    config: Config
    output: Output
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    places: list[tuple[bytes, str, int, int]] = field(default_factory=list)
    dropped: list[tuple[bytes, str]] = field(default_factory=list)
    bad: list[tuple[str, int | None, str, str | None, bytes | None]] = field(default_factory=list)
    text_chars: int = 0
    pieces: int = 0
    bad_pieces: int = 0

    def sampled(self, record: Record) -> list[str] | None:
        """An empty list where what extraction leaves out of this record is to be written: of a page, by a keyed hash of its id."""
        fraction = self.config.dropped_fraction
        if fraction and record.is_html and keyed_fraction("dropped", document_id(self.config.source, record.key)) < fraction:
            return []
        return None

    def document(self, record: Record, text: str, noai: bool, dropped: Sequence[str] | None = None) -> None:
        """Add a document, and what was left out of it."""
        config = self.config
        name = document_id(config.source, record.key)
        if config.language is None:
            language, probability = config.declared_language or UNKNOWN, 1.0
        else:
            language, probability = language_of(text, config.language)
        date = iso_utc(record.date)
        self.rows.append((name, text, _storable(record.url), date, config.source, language, probability, config.license))
        self.places.append((name, config.path, record.offset, record.row))
        if dropped:
            self.dropped.append((name, "\n\n".join(dropped)))
        kept = {"kept:truncated": record.truncated, "kept:noai": noai, "unreadable_date": date is None and record.date not in (None, "")}
        self.output.counts.update(("records", "documents", *(reason for reason, is_so in kept.items() if is_so)))
        self.text_chars += len(text)
        if self.text_chars >= PIECE_TEXT_CHARS or len(self.rows) >= PIECE_ROWS:
            self.flush_documents()

    def count(self, event: Skip | Bad) -> None:
        """Count a record that is no document; a bad one is a row of the quarantine, which stands for `event.records` records."""
        if isinstance(event, Skip):
            self.output.counts.update(("records", "skipped", f"skipped:{event.reason}"))
            return
        name = None if event.key is None else document_id(self.config.source, event.key)
        self.bad.append((self.config.path, event.offset, event.reason, _storable(event.detail[:DETAIL_CHARS]), name))
        self.output.counts.update({"records": event.records, "quarantined": event.records, f"quarantined:{event.reason}": event.records})
        if len(self.bad) >= PIECE_ROWS:
            self.flush_quarantine()

    def flush_documents(self) -> None:
        """Write the documents so far, and their origins, as a piece."""
        if self.rows:
            self.output.table(f"documents-{self.pieces:05d}.parquet", _table(self.rows, DOCUMENTS))
            self.output.table(f"origins-{self.pieces:05d}.parquet", _table(self.places, ORIGINS))
            if self.dropped:
                self.output.table(f"dropped-{self.pieces:05d}.parquet", _table(self.dropped, DROPPED))
            self.rows, self.places, self.dropped, self.text_chars, self.pieces = [], [], [], 0, self.pieces + 1

    def flush_quarantine(self) -> None:
        """Write the quarantine so far as a piece."""
        if self.bad:
            self.output.table(f"quarantine-{self.bad_pieces:05d}.parquet", _table(self.bad, QUARANTINE))
            self.bad, self.bad_pieces = [], self.bad_pieces + 1


def _storable(text: str | None) -> str | None:
    """`text` without the lone surrogates that JSON can hold and UTF-8 cannot."""
    return text if text is None or text.isascii() else text.encode("utf-8", "replace").decode()


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
