"""Reads a directory of files, one file a record: HTML by its extension or its looks, plain text otherwise; gzip and zstd are undone.

The key is the path under the source's root, so a file keeps its name when its content changes. A charset that the recipe gives is a
promise: bytes that break it are quarantined (wrong_encoding), where a detected one is read leniently; a byte-order mark goes before it.
Quarantined too: too_large, damaged, truncated.
Skipped: empty, and not_text for what is no text (a NUL byte in a file that is not UTF-16 or UTF-32).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.ingest.charset import BOMS, is_single_byte, python_name, wide_without_mark
from pipeline.ingest.records import Bad, Event, Record, Skip
from pipeline.ingest.sniff import looks_like_html
from pipeline.ingest.stream import Damaged, Stream

HTML_SUFFIXES = {".html", ".htm", ".xhtml", ".xht"}
COMPRESSED_SUFFIXES = {".gz", ".zst"}
MARKS = tuple(mark for mark, _ in BOMS)


def read_file(stream: Stream, max_record_bytes: int, *, path: str, root: str, encoding: str | None) -> Iterator[Event]:
    """The one record of a file. `path` and `root` are relative to raw_root; `encoding` is its charset, None to detect it."""
    try:
        data = stream.read(max_record_bytes + 1)
    except Damaged as error:
        yield Bad(error.reason, error.offset, error.detail)
        return
    if len(data) > max_record_bytes:
        yield Bad("too_large", 0, f"more than {max_record_bytes} bytes")
    elif not data.strip():
        yield Skip("empty")
    elif b"\0" in data and encoding is None and not data.startswith(MARKS) and wide_without_mark(data) is None:
        yield Skip("not_text")
    elif encoding is not None and not data.startswith(MARKS) and (problem := _not_in(encoding, data)) is not None:
        yield Bad("wrong_encoding", problem.start, f"{problem.reason} in {encoding}")
    else:
        key = path.removeprefix(f"{root}/") if root else path
        if encoding is not None and not data.startswith(MARKS):
            data, encoding = _as_utf8(data, encoding), "utf-8"
        yield Record(key, 0, 0, None, data, _is_html(path, data), encoding)


def _as_utf8(data: bytes, encoding: str) -> bytes:
    """`data` of a charset that the recipe gives, in UTF-8; what is valid UTF-8 beyond ASCII already stays."""
    if not data.isascii() and b"\0" not in data and _not_in("utf-8", data) is None:
        return data
    name = python_name(encoding) or encoding
    return data.decode(name, "caravan-control" if is_single_byte(name) else "replace").encode("utf-8", "replace")


def _not_in(encoding: str, data: bytes) -> UnicodeDecodeError | None:
    """Where `data` is not in the charset, or None."""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return error
    return None


def _is_html(path: str, data: bytes) -> bool:
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes if suffix.lower() not in COMPRESSED_SUFFIXES]
    return (bool(suffixes) and suffixes[-1] in HTML_SUFFIXES) or (not suffixes and looks_like_html(data))
