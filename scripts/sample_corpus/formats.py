"""The file formats of the sample corpus, written so that equal records give equal bytes: no clock, no host, no random number."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Row = dict[str, str]

PARQUET_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "url", "text", "license")])


@dataclass(frozen=True)
class Capture:
    """One capture of a page: what the server answered at `date` (ISO 8601 UTC, seconds, "Z"). Dates and headers are re-created."""

    url: str
    date: str
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def http(self) -> bytes:
        """The HTTP response: status line, headers, body."""
        lines = [f"HTTP/1.1 {self.status}", "Server: Apache", *(f"{k}: {v}" for k, v in self.headers)]
        lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def gzip_bytes(data: bytes) -> bytes:
    """One gzip member without name or time."""
    return gzip.compress(data, 9, mtime=0)


def sha1_base32(data: bytes) -> str:
    """SHA-1 as WARC and ARC tools write it: base32."""
    return base64.b32encode(hashlib.sha1(data).digest()).decode()


def json_lines(rows: Iterable[Row]) -> bytes:
    """Rows as JSON lines, UTF-8, keys in the order given."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Writes rows as `.jsonl.gz` or `.jsonl.zst`, by the name. Returns the unpacked size in bytes."""
    data = json_lines(rows)
    packed = gzip_bytes(data) if path.suffix == ".gz" else zstandard.ZstdCompressor(level=19).compress(data)
    path.write_bytes(packed)
    return len(data)


def write_parquet(path: Path, rows: Sequence[Row]) -> int:
    """Writes rows as Parquet (zstd, groups of 1,000 rows). Returns the size of their values in bytes."""
    table = pa.Table.from_pylist(list(rows), schema=PARQUET_SCHEMA)
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=1000, store_schema=False)
    return sum(len(value.encode()) for row in rows for value in row.values())


def _warc_record(kind: str, date: str, content_type: str, block: bytes, extra: Sequence[tuple[str, str]], key: str) -> bytes:
    record_id = uuid.uuid5(uuid.NAMESPACE_URL, key)
    fields = [("WARC-Type", kind), ("WARC-Date", date), ("WARC-Record-ID", f"<urn:uuid:{record_id}>"), *extra]
    fields += [("WARC-Block-Digest", f"sha1:{sha1_base32(block)}"), ("Content-Type", content_type), ("Content-Length", str(len(block)))]
    head = "WARC/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields) + "\r\n"
    return head.encode() + block + b"\r\n\r\n"


def write_warc(path: Path, captures: Sequence[Capture], date: str) -> int:
    """Writes a WARC/1.0 file: a warcinfo record of `date`, then a response record per capture, one gzip member each.

    Record ids are UUIDs made of file name, URL, date and body. Returns the unpacked size in bytes.
    """
    info = f"software: scripts/build_sample_corpus.py\r\nformat: WARC File Format 1.0\r\ndescription: {path.name}\r\n".encode()
    records = [_warc_record("warcinfo", date, "application/warc-fields", info, [("WARC-Filename", path.name)], path.name)]
    for c in captures:
        extra = [("WARC-Target-URI", c.url), ("WARC-Payload-Digest", f"sha1:{sha1_base32(c.body)}")]
        key = f"{path.name} {c.url} {c.date} {hashlib.sha256(c.body).hexdigest()}"
        records.append(_warc_record("response", c.date, "application/http; msgtype=response", c.http, extra, key))
    path.write_bytes(b"".join(gzip_bytes(r) for r in records))
    return sum(len(r) for r in records)


def write_arc(path: Path, captures: Sequence[Capture], date: str) -> int:
    """Writes an ARC version 1 file: the filedesc record, then a record per capture, one gzip member each. Returns the unpacked size."""

    def header(url: str, when: str, content_type: str, size_bytes: int) -> bytes:
        digits = when.translate(str.maketrans("", "", "-:TZ"))
        return f"{url} 192.0.2.1 {digits} {content_type.split(';')[0]} {size_bytes}\n".encode()

    about = b"1 0 Caravan\nURL IP-address Archive-date Content-type Archive-length\n"
    records = [header(f"filedesc://{path.name.removesuffix('.gz')}", date, "text/plain", len(about)) + about + b"\n"]
    records += [header(c.url, c.date, c.content_type, len(c.http)) + c.http + b"\n" for c in captures]
    path.write_bytes(b"".join(gzip_bytes(r) for r in records))
    return sum(len(r) for r in records)
