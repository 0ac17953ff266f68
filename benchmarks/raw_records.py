"""The records of raw files as they lie there, byte for byte."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import zstandard


def warc_records(path: Path) -> Iterator[bytes]:
    """The bytes of each record, headers and all."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    position = 0
    while position < len(data):
        head_end = data.index(b"\r\n\r\n", position) + 4
        head = data[position:head_end]
        length = next(int(line.split(b":", 1)[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        end = head_end + length
        while data[end : end + 2] == b"\r\n":
            end += 2
        yield data[position:end]
        position = end


def lines_of(path: Path) -> list[bytes]:
    """The lines of a JSONL file, compressed or not, without their ends."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    return [line for line in data.split(b"\n") if line]
